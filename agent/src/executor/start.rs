//! Starting a container and handing its orders to init.
//!
//! Invariants: the orders go to the process that the engine names as the container's PID 1 and to nobody else; they go
//! once; the socket is gone when this returns; unless this returns `Ok`, the container does not run when it returns.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use longshore_core::init::control::Deadlines;
use longshore_core::init::{ACK, Handover, MAX_HANDOVER};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use super::files::file_error;
use super::{Created, Error, Executor, Step, StepDir};

/// How long a started container may take to call and to confirm. init does so at once; a loaded host may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

impl Executor {
    /// Starts the container and hands init its orders, over a socket that is there for this moment alone.
    ///
    /// # Errors
    /// The container was killed if it ran; [`Error::may_have_run`] says whether the step may have begun.
    pub async fn start(
        &self,
        step: &Step,
        created: &Created,
        orders: &Handover,
        deadlines: Deadlines,
    ) -> Result<(), Error> {
        let dir = self.step_dir(step.fence.attempt, step.offer.index);
        let message = Zeroizing::new(serde_json::to_vec(orders).map_err(|_| broken("they cannot be written as JSON"))?);
        if message.len() as u64 > MAX_HANDOVER {
            return Err(Error::Step {
                step: step.offer.name.clone(),
                cause: format!("has an environment of {} bytes, more than {MAX_HANDOVER}", message.len()),
            });
        }
        dir.set_deadlines(deadlines)?;
        let (spool, control) = dir.open()?;
        let socket = Socket::listen(&dir)?;
        dir.mark_start()?;
        let handed_over = async {
            let started = self.inner.docker.start_container(&created.id, None).await;
            started.map_err(|error| self.failed(format!("start container `{}`", created.id), error))?;
            let stream = self.accept(&socket.listener, &created.id).await?;
            // Before the orders: the step's own processes never see the socket.
            drop(socket);
            send(stream, &message, [spool.as_raw_fd(), control.as_raw_fd()]).await
        };
        let done = handed_over.await;
        if done.is_err() {
            // It may be running or come up late; without its orders it runs nothing either way.
            self.kill(&created.id).await.ok();
        }
        done
    }

    /// The connection of the container's PID 1.
    async fn accept(&self, listener: &UnixListener, container: &str) -> Result<UnixStream, Error> {
        let pid = self.pid_of(container).await?;
        let connected = async {
            loop {
                let (stream, _) =
                    listener.accept().await.map_err(|error| broken(format!("its socket failed: {error}")))?;
                let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
                if peer == Some(pid) {
                    return Ok(stream);
                }
                tracing::warn!(
                    container,
                    pid,
                    ?peer,
                    "a process that is not the container's PID 1 called for its orders and got none"
                );
            }
        };
        let mut ended = std::pin::pin!(self.inner.docker.wait_container(container, None));
        tokio::select! {
            biased;
            stream = connected => stream,
            _ = ended.next() => Err(broken(format!("it ended before it called: {}", self.describe(container).await))),
            () = tokio::time::sleep(PATIENCE) => Err(broken(format!("it did not call within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn pid_of(&self, container: &str) -> Result<i32, Error> {
        let found = self.inner.docker.inspect_container(container, None).await;
        let found = found.map_err(|error| self.failed(format!("look at container `{container}`"), error))?;
        let pid = found.state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok());
        match pid {
            Some(pid) if pid > 0 => Ok(pid),
            _ => Err(broken(format!("it ended at once: {}", self.describe(container).await))),
        }
    }
}

/// Listens in the mounted directory; the socket is unlinked with it.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    fn listen(dir: &StepDir) -> Result<Self, Error> {
        let mnt = dir.mnt();
        let path = mnt.join("init.sock");
        let listen = || {
            // A socket's address has room for 107 bytes and a state directory may be longer, so it is reached by descriptor.
            let directory = std::fs::File::open(&mnt)?;
            let short = PathBuf::from(format!("/proc/self/fd/{}/init.sock", directory.as_raw_fd()));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&short)?;
            // Whoever the image's user is has to reach it; who calls is checked by process id.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
            Ok(listener)
        };
        let listener = listen().map_err(file_error("listen on", &path))?;
        Ok(Self { listener, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// Sends length, descriptors and message, and waits for init to confirm.
async fn send(mut stream: UnixStream, message: &[u8], descriptors: [RawFd; 2]) -> Result<(), Error> {
    let sending = async {
        let head = (message.len() as u64).to_le_bytes();
        let sent = stream.async_io(Interest::WRITABLE, || {
            let rights = [ControlMessage::ScmRights(&descriptors)];
            Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&head)], &rights, MsgFlags::MSG_NOSIGNAL, None)?)
        });
        let sent = sent.await?;
        stream.write_all(&head[sent..]).await?;
        stream.write_all(message).await?;
        // init answers when it has everything; without an answer before the end of the stream it has run nothing.
        stream.read_u8().await
    };
    match tokio::time::timeout(PATIENCE, sending).await {
        Ok(Ok(ACK)) => Ok(()),
        Ok(Ok(other)) => Err(broken(format!("it answered {other:#04x}"))),
        Ok(Err(error)) => Err(broken(format!("the connection broke: {error}"))),
        Err(_) => Err(Error::Unconfirmed { cause: format!("no answer within {} s", PATIENCE.as_secs()) }),
    }
}

fn broken(cause: impl Into<String>) -> Error {
    Error::Handover { cause: cause.into() }
}
