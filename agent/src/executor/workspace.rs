//! Workspace and HOME: filled before an attempt's first step, handed over when a later one has another user.
//!
//! Who owns them stands in the attempt's directory once it is so; what was interrupted before is done again.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::archive::{self, Refused};
use super::files::file_error;
use super::{Created, Error, Executor, Owner, Step, settings};
use crate::{durable, tasks};

/// Who owns workspace and HOME, in the attempt's directory: `UID:GID`.
const OWNER_FILE: &str = "owner";
/// Longest upload; large packages on slow disks take long.
const UPLOAD: Duration = Duration::from_secs(1800);
/// Bytes that are sent to the engine at once, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

impl Executor {
    /// Makes workspace and HOME ready for the step's user: at the attempt's first step the package (tar.zst on disk) is
    /// unpacked, at a later one with another user everything is handed over to it. Repeating it is safe.
    ///
    /// # Errors
    /// [`Error::Package`] names the entry that cannot be unpacked; others when engine or disk fail.
    pub async fn prepare_workspace(&self, step: &Step, created: &Created, package: Option<&Path>) -> Result<(), Error> {
        let marker = self.attempt_dir(step.fence.attempt).join(OWNER_FILE);
        match std::fs::read_to_string(&marker).ok().as_deref().and_then(Owner::parse) {
            Some(owner) if owner == created.owner => return Ok(()),
            Some(_) => self.hand_over(step, created).await?,
            // An upload costs the engine a tenth of a second. Root may write to a new volume, so init makes the directories then.
            None if package.is_none() && created.owner.uid == 0 => {}
            None => self.fill(created, package).await?,
        }
        durable::write(&marker, created.owner.to_string().as_bytes()).map_err(file_error("write", &marker))
    }

    /// Never into a container that runs or ran: the engine would unpack among what the job has put there (CVE-2026-41567).
    async fn fill(&self, created: &Created, package: Option<&Path>) -> Result<(), Error> {
        let found = self.inner.docker.inspect_container(&created.id, None).await;
        let found = found.map_err(|error| self.failed(format!("look at container `{}`", created.id), error))?;
        if found.state.and_then(|state| state.status) != Some(ContainerStateStatusEnum::CREATED) {
            let cause = "was started before its workspace was filled; nothing was unpacked".to_owned();
            return Err(Error::NameTaken { name: created.id.clone(), cause });
        }
        let package = match package {
            Some(path) => {
                Some(Box::new(File::open(path).map_err(file_error("open", path))?) as Box<dyn io::Read + Send>)
            }
            None => None,
        };
        let (sender, receiver) = mpsc::channel(PIECES);
        let (owner, most) = (created.owner, self.current().limits.package_bytes);
        let rewriting = tasks::blocking(move || {
            let done = archive::rewrite(package, owner, most, io::BufWriter::with_capacity(PIECE, Pieces(&sender)));
            if done.is_err() {
                // The engine must not take what came so far for the whole: the request is broken off.
                sender.blocking_send(Err(io::Error::other("the package was refused"))).ok();
            }
            Ok(done)
        });
        let options = UploadToContainerOptionsBuilder::new().path(settings::VOLUME).build();
        let docker = self.inner.docker.clone().with_timeout(UPLOAD);
        let body = bollard::body_try_stream(ReceiverStream::new(receiver).boxed());
        let (rewritten, sent) = tokio::join!(rewriting, docker.upload_to_container(&created.id, Some(options), body));
        match rewritten {
            Ok(Ok(())) => {}
            Ok(Err(Refused::NotTaken(_))) if sent.is_err() => {}
            Ok(Err(refused)) => return Err(Error::Package { cause: refused.to_string() }),
            Err(panicked) => return Err(Error::Package { cause: panicked.to_string() }),
        }
        sent.map_err(|error| self.failed(format!("unpack the package into container `{}`", created.id), error))
    }

    /// A short run of init as root in the step's image.
    async fn hand_over(&self, step: &Step, created: &Created) -> Result<(), Error> {
        let (inner, owner) = (&self.inner, created.owner);
        let found = inner.docker.inspect_container(&created.id, None).await;
        let found = found.map_err(|error| self.failed(format!("look at container `{}`", created.id), error))?;
        let image = found.image.unwrap_or_default();
        let mnt = self.step_dir(step.fence.attempt, step.offer.index).mnt();
        let name = format!("{}-chown", settings::name(step.fence.attempt, step.offer.index));
        self.remove(&name).await?;
        let body = settings::helper_container(&self.current(), inner.host, step, &image, &mnt, owner);
        let id = self.create_container(&name, body, &step.offer.image).await?;
        let ran = self.run_helper(&id).await;
        self.remove(&id).await?;
        let what = || format!("hand the workspace over to user {owner} in container `{name}`");
        match ran {
            Ok(0) => Ok(()),
            Ok(code) => Err(Error::Engine { what: what(), detail: format!("init ended with exit code {code}") }),
            Err(error) => Err(self.failed(what(), error)),
        }
    }

    /// Starts a container that ends by itself, and waits for that.
    pub(super) async fn run_helper(&self, id: &str) -> Result<i64, bollard::errors::Error> {
        self.inner.docker.start_container(id, None).await?;
        let mut ended = std::pin::pin!(self.inner.docker.wait_container(id, None));
        match ended.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error),
            None => Err(bollard::errors::Error::RequestTimeoutError),
        }
    }
}

/// Sends what is written on to the request's body; blocks while that is not taken.
struct Pieces<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
