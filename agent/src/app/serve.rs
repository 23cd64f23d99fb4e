//! The running agent, over any runtime: tests put a fake one in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::attest::Cloud;
use crate::cache::Packages;
use crate::config::Config;
use crate::host::Probe;
use crate::identity::{self, Identity, Renewal};
use crate::ledger::Ledger;
use crate::lifecycle::Manager;
use crate::lifecycle::scalein::{Leaving, Watcher};
use crate::retry::Policy;
use crate::session::{self, About, Client, Contact, Dialer, Link, Setup};
use crate::status::{self, Facts};
use crate::supervisor::{Board, Runtime, Shared, Stop, Supervisor, keep_ready, wanted_before};
use crate::tasks::Tasks;
use crate::water::Disks;

/// Leaving may take this long.
const LEAVE: Duration = Duration::from_secs(3);

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
    pub about: watch::Receiver<About>,
    /// Why no jobs are taken for now; none: they are.
    pub held_back: watch::Receiver<Option<String>>,
    /// How long a draining agent waits for its jobs.
    pub drain_timeout: watch::Receiver<Duration>,
    /// Between SIGINT and SIGKILL when the agent itself cancels its jobs.
    pub cancel_grace: Duration,
    /// Watches what becomes of the machine.
    pub watcher: Option<Watcher>,
    /// Waits between tries.
    pub retry: Policy,
    /// The service manager.
    pub manager: Manager,
    /// What lets the machine in again when its certificate has ended.
    pub rejoin: Option<Rejoin>,
}

/// How a machine joins again.
#[derive(Debug, Clone)]
pub struct Rejoin {
    /// The configuration.
    pub config: Box<Config>,
    /// Whose word counts.
    pub cloud: Cloud,
}

impl<R> Settings<R> {
    fn facts(&self, board: &Board, contact: watch::Receiver<Contact>) -> Facts {
        Facts {
            controller: self.dialer.address().to_string(),
            proxy: self.dialer.proxy().map(ToString::to_string),
            about: self.about.clone(),
            snapshot: board.subscribe(),
            phases: board.phases(),
            contact,
        }
    }
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
    let (slots, boot_id) = {
        let about = settings.about.borrow();
        (about.slots, about.boot_id.clone())
    };
    // An engine that keeps its images elsewhere from now on was set up anew; the agent sees that at its next start.
    let disks = Disks::new(settings.state_dir.clone(), engine.as_ref().and_then(|engine| engine.root.clone()));
    let board = Board::new(slots, engine);
    let (slots, mut about) = (board.clone(), settings.about.clone());
    tasks.spawn("slots", async move {
        loop {
            crate::tasks::changed(&mut about).await;
            slots.set_slots(about.borrow_and_update().slots);
        }
    });
    tasks.spawn("water", crate::water::follow(disks.clone(), settings.about.clone(), board.clone()));
    let mut held_back = settings.held_back.clone();
    board.hold_back(held_back.borrow_and_update().clone());
    let (link, ends) = Link::new();
    let facts = settings.facts(&board, link.contact.clone());
    tasks.spawn("status", status::keep(settings.state_dir.clone(), facts));
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
        boot_id,
        plugins: watch::Sender::new(wanted_before(&settings.state_dir)),
    });
    let mut supervisor = Supervisor::new(Arc::clone(&shared), tasks.clone(), settings.cancel_grace);
    let inventory = tokio::select! {
        inventory = supervisor.take_stock() => inventory.map_err(Error::system("read the ledger"))?,
        _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(()),
    };
    supervisor.resume(inventory).await;
    tasks.spawn("plugins", keep_ready(shared, settings.state_dir.clone()));

    let token = CancellationToken::new();
    let setup = Setup {
        dialer: settings.dialer.clone(),
        about: settings.about,
        snapshot: board.subscribe(),
        probe: Probe::new(disks),
        retry: settings.retry,
        token: token.clone(),
    };
    let thread = session::start(setup, ends).map_err(Error::system("start the session's thread"))?;
    let guard = token.drop_guard();
    let (dir, identity) = (settings.state_dir, settings.identity);
    let renewal = Certificates { client: client.clone(), dialer: settings.dialer, rejoin: settings.rejoin };
    let (snapshot, drained) = (board.subscribe(), stop.clone());
    tasks.spawn("certificate", async move { identity::keep_fresh(&dir, identity, renewal).await });
    settings.manager.watch(tasks);
    settings.manager.watch_drain(tasks, stop.clone());
    tasks.spawn("ready", ready(settings.manager, held_back, board));

    // Only now: before, what is held here was not known, and the hook would have been completed for it.
    let (leaving_tx, leaving) = watch::channel(Leaving::default());
    if let Some(watcher) = settings.watcher {
        watcher.start(tasks, snapshot.clone(), leaving_tx);
    }
    supervisor.run(link.events, stop, settings.drain_timeout, leaving).await;

    settings.manager.stopping(Duration::from_secs(10));
    tasks.end().await;
    drop(guard);
    let joined = crate::tasks::blocking(move || thread.join().map_err(|_| std::io::Error::other("it panicked"))).await;
    // After the session has ended: it would say hello again, and be there again.
    if matches!(*drained.borrow(), Stop::Drain | Stop::Cancel) && snapshot.borrow().held.is_empty() {
        leave(&client).await;
    }
    joined.map_err(Error::system("end the session's thread"))
}

/// The controller is told that nothing is left here. It finds out by itself where it does not hear of it.
async fn leave(client: &Client) {
    match tokio::time::timeout(LEAVE, client.leave("drained")).await {
        Ok(Ok(())) => tracing::info!("left: nothing is left to do here"),
        Ok(Err(error)) => tracing::debug!(%error, "no leave was taken"),
        Err(_) => tracing::debug!("no leave was taken: the controller does not answer"),
    }
}

/// The service manager and the board are told whether jobs are taken.
async fn ready(manager: Manager, mut held_back: watch::Receiver<Option<String>>, board: Board) {
    loop {
        let reason = held_back.borrow_and_update().clone();
        board.hold_back(reason.clone());
        match reason {
            None => manager.ready(),
            Some(reason) => manager.waiting(&reason, super::fit::LOOK_AGAIN * 3),
        }
        crate::tasks::changed(&mut held_back).await;
    }
}

/// Certificates come over the agent's own connections.
struct Certificates {
    client: Client,
    dialer: Dialer,
    rejoin: Option<Rejoin>,
}

impl Renewal for Certificates {
    async fn renew(&self, csr_pem: &str) -> Result<(String, String), String> {
        self.client.renew(csr_pem).await.map_err(|err| err.to_string())
    }
    async fn reattest(&self, former: &Identity) -> Option<Result<Identity, String>> {
        let Rejoin { config, cloud } = self.rejoin.as_ref()?;
        let proven = super::enroll::by_machine(config, *cloud, Some(former)).await;
        Some(proven.map_err(|error| super::with_causes(&error)))
    }
    fn install(&self, identity: &Identity) -> Result<(), String> {
        self.dialer.install(identity).map_err(|err| err.to_string())
    }
}
