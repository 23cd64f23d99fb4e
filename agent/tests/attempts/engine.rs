//! An engine that says what it is, and has no containers.

use std::path::Path;

use longshore_agent::tasks::Tasks;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// What a good engine says of itself.
pub(crate) const INFO: &str = r#"{"CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CpuCfsQuota":true,
    "SecurityOptions":["name=seccomp,profile=default"],"DockerRootDir":"/nowhere"}"#;
/// And its version.
pub(crate) const VERSION: &str = r#"{"Version":"28.2.2","ApiVersion":"1.50","MinAPIVersion":"1.24",
    "Components":[{"Name":"Engine","Version":"28.2.2"},{"Name":"runc","Version":"1.3.3"}]}"#;

/// Answers on a socket for as long as the tasks live.
pub(crate) fn start(tasks: &Tasks, socket: &Path, info: &'static str, version: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    let inner = tasks.clone();
    tasks.spawn("engine", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            inner.spawn("asked", async move { drop(answer(stream, info, version).await) });
        }
    });
}

async fn answer(stream: UnixStream, info: &str, version: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let body = match first.split([' ', '?']).nth(1).unwrap_or_default().rsplit('/').next() {
            Some("version") => version,
            Some("info") => info,
            Some("volumes") => r#"{"Volumes":[]}"#,
            _ => "[]",
        };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
    }
}
