//! One pull: tried again when it may go better, with the login that the configuration has, shared by all who wait for it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error as Bollard;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;

use super::engine::detail;
use super::{Class, Executor, PullProgress};
use crate::registry::{Login, host_of};
use crate::retry::{Policy, Retry};

/// Tries of one pull. What lasts longer is for a person.
const TRIES: u32 = 3;
/// Waits between them.
const WAITS: Policy = Policy { first: Duration::from_secs(1), most: Duration::from_secs(8) };

/// A pull that everyone who needs the image waits for; whoever is polled drives it.
#[derive(Clone)]
pub(super) struct Pull {
    pub(super) done: Shared<BoxFuture<'static, Result<u64, Failure>>>,
    pub(super) progress: watch::Receiver<PullProgress>,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: String,
    pub(super) class: Class,
    /// The registry may answer the next time.
    pub(super) again: bool,
    /// The registry answered, and does not let this agent have it.
    pub(super) denied: bool,
}

/// Pulls, with the login that the configuration has for the registry; the bytes that came.
pub(super) async fn pull(
    executor: Executor,
    reference: String,
    report: watch::Sender<PullProgress>,
) -> Result<u64, Failure> {
    let before = executor.image_ids().await;
    let mut retry = Retry::new(WAITS);
    for left in (0..TRIES).rev() {
        let failure = match once(&executor, &reference, &report).await {
            Ok(bytes) => {
                executor.keep_image(&reference, before.as_ref()).await;
                return Ok(bytes);
            }
            Err(failure) => failure,
        };
        // A login that is kept may have ended before its time.
        let again = failure.again || (failure.denied && executor.inner.logins.refused(&reference));
        if !again || left == 0 {
            return Err(failure);
        }
        report.send_replace(PullProgress {
            message: format!("{}; trying again", failure.cause),
            ..PullProgress::default()
        });
        retry.pause().await;
    }
    Ok(0)
}

async fn once(executor: &Executor, reference: &str, report: &watch::Sender<PullProgress>) -> Result<u64, Failure> {
    let registries = executor.current();
    let login = executor.inner.logins.of(&registries.registries, reference).await.map_err(|error| Failure {
        cause: format!("was not pulled: {error}"),
        class: Class::AgentFault,
        again: false,
        denied: false,
    })?;
    let credentials = login.as_ref().map(|login| credentials(login, reference));
    let mut failure = match pull_once(&executor.inner.docker, reference, credentials, report).await {
        Err(failure) => failure,
        done => return done,
    };
    if failure.denied {
        let host = host_of(reference);
        failure.cause.push_str(&match login {
            Some(_) => format!("; the login of `[[registries]]` for `{host}` was used"),
            None => format!("; no `[[registries]]` of the agent's configuration is for `{host}`, so no login was used"),
        });
    }
    Err(failure)
}

fn credentials(login: &Login, reference: &str) -> DockerCredentials {
    let secret = Some(login.password.expose().to_owned());
    let (password, identitytoken) = if login.token { (None, secret) } else { (secret, None) };
    DockerCredentials {
        username: Some(login.username.clone()).filter(|name| !name.is_empty()),
        password,
        identitytoken,
        serveraddress: Some(host_of(reference).to_owned()),
        ..DockerCredentials::default()
    }
}

async fn pull_once(
    docker: &Docker,
    reference: &str,
    credentials: Option<DockerCredentials>,
    report: &watch::Sender<PullProgress>,
) -> Result<u64, Failure> {
    // Without a tag the engine would pull every tag there is.
    let tagged = reference.contains('@') || reference.rsplit('/').next().is_some_and(|name| name.contains(':'));
    let from = if tagged { reference.to_owned() } else { format!("{reference}:latest") };
    let options = CreateImageOptionsBuilder::new().from_image(&from).build();
    let mut stream = std::pin::pin!(docker.create_image(Some(options), None, credentials));
    let mut layers = Layers::default();
    while let Some(info) = stream.next().await {
        let info = info.map_err(|error| classify(&error))?;
        if let Some(error) = info.error_detail {
            return Err(classify(&Bollard::DockerStreamError { error: error.message.unwrap_or_default() }));
        }
        let (status, detail) = (info.status.unwrap_or_default(), info.progress_detail);
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let (current, total) = detail.map_or((None, None), |detail| (bytes(detail.current), bytes(detail.total)));
        if let Some(layer) = info.id {
            layers.take(layer, &status, current, total);
        }
        report.send_replace(layers.progress(status));
    }
    Ok(layers.downloaded())
}

/// The layers of one pull, as far as the engine has told.
#[derive(Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Default)]
struct Layer {
    current: u64,
    total: u64,
    done: bool,
}

impl Layers {
    fn take(&mut self, id: String, status: &str, current: Option<u64>, total: Option<u64>) {
        match status {
            "Downloading" => {
                let layer = self.0.entry(id).or_default();
                (layer.current, layer.total) = (current.unwrap_or(0), total.unwrap_or(0));
            }
            "Download complete" | "Pull complete" | "Already exists" => {
                let layer = self.0.entry(id).or_default();
                (layer.current, layer.done) = (layer.total, layer.done || status != "Download complete");
            }
            "Pulling fs layer" | "Waiting" => drop(self.0.entry(id).or_default()),
            _ => {}
        }
    }

    fn downloaded(&self) -> u64 {
        self.0.values().map(|layer| layer.current).sum()
    }

    fn progress(&self, status: String) -> PullProgress {
        let done = self.0.values().filter(|layer| layer.done).count();
        let message = if self.0.is_empty() { status } else { format!("{done} of {} layers: {status}", self.0.len()) };
        let total = self.0.values().map(|layer| layer.total).sum();
        PullProgress { message, current: self.downloaded(), total, note: false }
    }
}

/// The engine's words for a failed pull, sorted by who can do something about it.
///
/// A registry that cannot be reached stays a failure of the step (after the tries here): it is said at once and plainly, instead
/// of the job going round among agents that mostly share their way to the registry.
fn classify(error: &Bollard) -> Failure {
    let Some(text) = detail(error) else {
        let cause = format!("was not pulled, the container engine broke off: {error}");
        return Failure { cause, class: Class::AgentFault, again: true, denied: false };
    };
    let has = |words: &[&str]| words.iter().any(|word| text.to_lowercase().contains(word));
    let denied = has(&["access denied", "unauthorized", "denied", "forbidden", "no basic auth"]);
    let (cause, class, again) = if has(&["no space left"]) {
        ("does not fit: full disk on the agent's host; free some space there", Class::AgentFault, false)
    } else if denied {
        (
            "was not found, or the registry denies access to it; check the name and the agent's login there",
            Class::Permanent,
            false,
        )
    } else if has(&["not found", "manifest unknown", "does not exist", "no matching manifest"]) {
        ("was not found, neither on the agent's host nor in the registry; check name and tag", Class::Permanent, false)
    } else if has(&["invalid reference", "invalid argument"]) {
        ("is no image reference; it reads like `name:tag`", Class::Permanent, false)
    } else {
        (
            "was not pulled: its registry cannot be reached; check the host's network, or load the image there",
            Class::Permanent,
            true,
        )
    };
    Failure { cause: format!("{cause} ({text})"), class, again, denied }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Failure {
        classify(&Bollard::DockerResponseServerError { status_code: 500, message: message.to_owned() })
    }

    #[test]
    fn failures_are_sorted_by_who_can_do_something() {
        for (message, says, class, again) in [
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                "denies access",
                Class::Permanent,
                false,
            ),
            ("manifest for x:1 not found: manifest unknown", "not found", Class::Permanent, false),
            (
                "Get https://registry/v2/: dial tcp: lookup registry: no such host",
                "cannot be reached",
                Class::Permanent,
                true,
            ),
            ("toomanyrequests: rate limit", "cannot be reached", Class::Permanent, true),
            ("write /var/lib/docker/tmp/x: no space left on device", "full disk", Class::AgentFault, false),
        ] {
            let failure = said(message);
            assert!(failure.cause.contains(says) && failure.cause.contains(message), "{failure:?}");
            assert_eq!((failure.class, failure.again), (class, again), "{message}");
        }
        assert_eq!(classify(&Bollard::RequestTimeoutError).class, Class::AgentFault);
    }

    #[test]
    fn layers_are_counted_as_they_come() {
        let mut layers = Layers::default();
        layers.take("a".to_owned(), "Pulling fs layer", None, None);
        layers.take("b".to_owned(), "Already exists", None, None);
        layers.take("a".to_owned(), "Downloading", Some(3), Some(10));
        let progress = layers.progress("Downloading".to_owned());
        assert_eq!(progress.message, "1 of 2 layers: Downloading");
        assert_eq!((progress.current, progress.total), (3, 10));
        layers.take("a".to_owned(), "Download complete", None, None);
        layers.take("a".to_owned(), "Pull complete", None, None);
        assert_eq!((layers.downloaded(), layers.progress(String::new()).message.as_str()), (10, "2 of 2 layers: "));
    }
}
