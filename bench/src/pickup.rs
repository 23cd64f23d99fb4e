//! From asking for a deployment until an agent has its job, both by the clock of this process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use longshore_agent::clock::boot_micros;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{Counters, Options};

/// How long one pickup, and all agents, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures as many pickups as are asked for and says them; without any it waits for ever.
pub(crate) async fn run(
    options: &Options,
    counters: &Counters,
    mut offers: UnboundedReceiver<(String, u64)>,
) -> anyhow::Result<()> {
    if options.pickups == 0 {
        // The channel is drained, so that offers do not pile up.
        while offers.recv().await.is_some() {}
        return Ok(());
    }
    let api = options.api.as_ref().context("`--pickups` needs `--api`")?;
    let file = options.api_token_file.as_ref().context("`--pickups` needs `--api-token-file`")?;
    let token = std::fs::read_to_string(file).context("the API's token cannot be read")?;
    let all = async {
        while counters.connected.load(Ordering::Acquire) < options.agents {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.context("not all agents are connected")?;
    let mut connection = Connection { stream: TcpStream::connect(api).await?, api, token: token.trim() };
    connection.stream.set_nodelay(true)?;
    let (mut until_acknowledged, mut until_offered) = (Vec::new(), Vec::new());
    for number in 0..options.pickups {
        let body = serde_json::json!({
            "project": options.project, "environment": format!("e{number}"), "operation_id": format!("pickup-{number}"),
        });
        let began = boot_micros();
        let id = connection.deploy(&body.to_string()).await?;
        until_acknowledged.push(millis(began, boot_micros()));
        let offered = loop {
            let next = tokio::time::timeout(PATIENCE, offers.recv()).await.context("no agent got the job")?;
            let (deployment, at) = next.context("the agents are gone")?;
            if deployment == id {
                break at;
            }
        };
        until_offered.push(millis(began, offered));
    }
    println!("{}", serde_json::json!({ "acknowledged_ms": until_acknowledged, "pickup_ms": until_offered }));
    Ok(())
}

/// An offer may come before its acknowledgement was read, never before it was asked for.
#[expect(clippy::cast_precision_loss, reason = "a short time in milliseconds")]
fn millis(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e3
}

/// One connection to the API that stays open.
struct Connection<'a> {
    stream: TcpStream,
    api: &'a str,
    token: &'a str,
}

impl Connection<'_> {
    /// Asks for a deployment; its id.
    async fn deploy(&mut self, body: &str) -> anyhow::Result<String> {
        let request = format!(
            "POST /api/v1/deployments HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.api,
            self.token,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).await?;
            if read == 0 {
                bail!("the API closed the connection");
            }
            answer.extend(part.iter().take(read));
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let Ok(shown) = serde_json::from_str::<serde_json::Value>(body) else { continue };
            if !head.starts_with("HTTP/1.1 2") {
                bail!("not deployed: {head}\n{body}");
            }
            return Ok(shown["deployment"].as_str().context("no deployment id came back")?.to_owned());
        }
    }
}
