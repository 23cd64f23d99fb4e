//! The running agent, over any runtime: tests put a fake one in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cache::Packages;
use crate::host::Probe;
use crate::identity::{self, Identity, Renewal};
use crate::ledger::Ledger;
use crate::lifecycle::Manager;
use crate::retry::Policy;
use crate::session::{self, About, Client, Dialer, Link, Setup};
use crate::supervisor::{Board, Runtime, Shared, Stop, Supervisor};
use crate::tasks::Tasks;

/// What a running agent is made of.
#[derive(Debug)]
pub struct Settings<R> {
    /// Runs containers.
    pub runtime: R,
    /// Dials the controller.
    pub dialer: Dialer,
    /// Who the agent is.
    pub identity: Identity,
    /// Its directory, locked by the caller.
    pub state_dir: PathBuf,
    /// Bytes of packages that are kept for later jobs.
    pub package_cache_bytes: u64,
    /// What it says of itself.
    pub about: About,
    /// How long a draining agent waits for its jobs.
    pub drain_timeout: Duration,
    /// Waits between tries.
    pub retry: Policy,
    /// The service manager.
    pub manager: Manager,
}

/// Runs until told to stop; afterwards no task is left but those of the caller, and containers run on.
///
/// # Errors
/// [`Error`] when it could not begin.
pub async fn serve<R: Runtime>(
    settings: Settings<R>,
    tasks: &Tasks,
    mut stop: watch::Receiver<Stop>,
) -> Result<(), Error> {
    let ledger = Ledger::open(&settings.state_dir).map_err(Error::system("open the ledger"))?;
    let packages = Packages::open(&settings.state_dir, settings.package_cache_bytes)
        .map_err(Error::system("open the packages"))?;
    let engine = settings.runtime.engine().await.ok();
    let board = Board::new(settings.about.slots, engine);
    let (link, ends) = Link::new();
    let client = Client::new(&settings.dialer);
    let shared = Arc::new(Shared {
        runtime: settings.runtime,
        client: client.clone(),
        ledger,
        packages,
        board: board.clone(),
        outlet: link.outlet,
        contact: link.contact,
        retry: settings.retry,
        boot_id: settings.about.boot_id.clone(),
    });
    let mut supervisor = Supervisor::new(shared, tasks.clone());
    let inventory = tokio::select! {
        inventory = supervisor.take_stock() => inventory.map_err(Error::system("read the ledger"))?,
        _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(()),
    };
    supervisor.resume(inventory).await;

    let token = CancellationToken::new();
    let setup = Setup {
        dialer: settings.dialer.clone(),
        about: settings.about,
        snapshot: board.subscribe(),
        probe: Probe::new(settings.state_dir.clone()),
        retry: settings.retry,
        token: token.clone(),
    };
    let thread = session::start(setup, ends).map_err(Error::system("start the session's thread"))?;
    let guard = token.drop_guard();
    let (dir, identity, renewal) =
        (settings.state_dir, settings.identity, Certificates { client, dialer: settings.dialer });
    tasks.spawn("certificate", async move { identity::keep_fresh(&dir, identity, renewal).await });
    settings.manager.watch(tasks);
    settings.manager.watch_drain(tasks, stop.clone());
    settings.manager.ready();

    supervisor.run(link.events, stop, settings.drain_timeout).await;

    settings.manager.stopping(Duration::from_secs(10));
    tasks.end().await;
    drop(guard);
    crate::tasks::blocking(move || thread.join().map_err(|_| std::io::Error::other("it panicked")))
        .await
        .map_err(Error::system("end the session's thread"))
}

/// Certificates come over the agent's own connections.
struct Certificates {
    client: Client,
    dialer: Dialer,
}

impl Renewal for Certificates {
    async fn renew(&self, csr_pem: &str) -> Result<(String, String), String> {
        self.client.renew(csr_pem).await.map_err(|err| err.to_string())
    }
    fn install(&self, identity: &Identity) -> Result<(), String> {
        self.dialer.install(identity).map_err(|err| err.to_string())
    }
}
