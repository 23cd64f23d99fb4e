//! Many agents in one process: each with a certificate, a TLS connection and a control stream of its own, as a real one has.
//! They take every job that is offered and run none.
//!
//! What they see goes to standard output, one JSON object a line: `connected` and `claimed` whenever they change, at most
//! every 10 ms, and the answers to `pickup`.

#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]

mod agent;
mod pickup;
mod plane;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Handshakes and enrolments under way at once while the fleet is made.
const AT_ONCE: usize = 32;
/// Between two lines of what is counted.
const SAID: Duration = Duration::from_millis(10);

/// A fleet of agents that run nothing.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// The controller's plane of agents, HOST:PORT.
    #[arg(long)]
    controller: String,
    /// The controller's authority in PEM.
    #[arg(long)]
    ca: PathBuf,
    /// The join token, which lets all of them in.
    #[arg(long)]
    token_file: PathBuf,
    /// How many agents.
    #[arg(long)]
    agents: usize,
    /// Jobs that each takes.
    #[arg(long, default_value_t = 1)]
    slots: u32,
    /// Deploys this project so often, one after the other, to its environments `e0`, `e1` and so on, and says how long it took until
    /// an agent had the job.
    #[arg(long, requires = "api", default_value_t = 0)]
    pickups: usize,
    /// The project for `--pickups`.
    #[arg(long, default_value = "fleet")]
    project: String,
    /// The API, HOST:PORT.
    #[arg(long)]
    api: Option<String>,
    /// File with a token of the API.
    #[arg(long)]
    api_token_file: Option<PathBuf>,
}

/// What all agents count together.
#[derive(Debug, Default)]
struct Counters {
    connected: AtomicUsize,
    claimed: AtomicUsize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let ca_pem = std::fs::read_to_string(&options.ca).context("the authority cannot be read")?;
    let token = std::fs::read_to_string(&options.token_file).context("the join token cannot be read")?;
    let counters = Arc::new(Counters::default());
    let (offered, offers) = mpsc::unbounded_channel();
    let mut fleet = JoinSet::new();
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    for number in 0..options.agents {
        let mut agent = agent::Agent {
            number,
            address: options.controller.clone(),
            ca_pem: ca_pem.clone(),
            slots: options.slots,
            counters: Arc::clone(&counters),
            offered: offered.clone(),
        };
        let (gate, token) = (Arc::clone(&gate), token.trim().to_owned());
        fleet.spawn(async move {
            let permit = gate.acquire_owned().await?;
            let identity = agent.enroll(&token).await?;
            drop(permit);
            agent.serve(&identity).await
        });
    }
    let done = tokio::select! {
        ended = fleet.join_next() => ended.context("no agents")?.context("an agent panicked")?,
        () = say(&counters) => Ok(()),
        done = pickup::run(&options, &counters, offers) => done,
    };
    fleet.shutdown().await;
    done
}

/// Says what is counted, for ever.
async fn say(counters: &Counters) {
    let mut last = (0, 0);
    loop {
        let now = (counters.connected.load(Ordering::Acquire), counters.claimed.load(Ordering::Acquire));
        if now != last {
            last = now;
            println!("{}", serde_json::json!({ "connected": now.0, "claimed": now.1 }));
        }
        tokio::time::sleep(SAID).await;
    }
}
