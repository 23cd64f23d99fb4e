//! Whether a container engine answers on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Where the engine listens when nothing else is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Longest wait for its answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The engine's socket: of DOCKER_HOST when that names one, else the usual place.
pub(super) fn socket() -> PathBuf {
    let named = std::env::var("DOCKER_HOST").ok().and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
    named.filter(|path| path.is_absolute()).unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// Asks the engine for a sign of life; otherwise what to tell the user.
pub(super) async fn check(socket: &Path) -> Result<(), String> {
    let answer = tokio::time::timeout(PATIENCE, ping(socket)).await;
    let (why, next) = match answer {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::NotFound => {
                (error.to_string(), "install Docker and start it (Debian: `apt-get install docker.io`)")
            }
            std::io::ErrorKind::PermissionDenied => (
                error.to_string(),
                "run as root, or join the group `docker` (`usermod -aG docker $USER`) and log in again",
            ),
            _ => (error.to_string(), "start it (`systemctl start docker`, or `service docker start`)"),
        },
        Err(_) => ("it does not answer".to_owned(), "look at its log (`journalctl -u docker`)"),
    };
    Err(format!(
        "no Docker engine answers at `{}`: {why}\n     next: {next}; jobs wait until it is there, nothing has to be started again",
        socket.display()
    ))
}

async fn ping(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    if head.starts_with(b"HTTP/1.") && head.ends_with(b" 200") {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("it answers `{}`", String::from_utf8_lossy(&head))))
    }
}
