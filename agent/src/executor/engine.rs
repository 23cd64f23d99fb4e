//! The engine's errors in our words.

use bollard::errors::Error as Bollard;

use super::{Engine, Error, Executor};

impl Executor {
    /// What the engine says of itself. An error means that it does not answer.
    pub async fn engine(&self) -> Result<Engine, Error> {
        let version = self.inner.docker.version().await.map_err(|error| self.failed("say its version", error))?;
        let api = self.inner.docker.client_version();
        Ok(Engine {
            version: version.version.unwrap_or_default(),
            api: format!("{}.{}", api.major_version, api.minor_version),
            root: self.inner.engine_root.clone(),
        })
    }

    /// `what` completes "the container engine failed to ...".
    pub(super) fn failed(&self, what: impl Into<String>, error: Bollard) -> Error {
        failed(&self.inner.config.socket, what.into(), error)
    }
}

/// As [`Executor::failed`], for when there is no executor yet.
pub(super) fn failed(socket: &std::path::Path, what: String, error: Bollard) -> Error {
    match detail(&error) {
        Some(detail) if detail.contains("no space left on device") => Error::EngineDiskFull { what, detail },
        Some(detail) => Error::Engine { what, detail },
        None => Error::EngineUnreachable { socket: socket.to_owned(), source: Box::new(error) },
    }
}

/// What the engine answered; `None` when it did not answer.
pub(super) fn detail(error: &Bollard) -> Option<String> {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => {
            Some(format!("{} (status {status_code})", message.trim()))
        }
        Bollard::DockerStreamError { error } => Some(error.clone()),
        Bollard::DockerContainerWaitError { error, code } => Some(format!("{error} (exit code {code})")),
        Bollard::JsonDataError { message, .. } => Some(format!("its answer cannot be read: {message}")),
        _ => None,
    }
}

/// The HTTP status of the engine's answer, if it is an error.
pub(super) fn status(error: &Bollard) -> Option<u16> {
    match error {
        Bollard::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the engine says that the object does not exist.
pub(super) fn is_missing(error: &Bollard) -> bool {
    status(error) == Some(404)
}
