//! Puts the agent together, runs it, takes it apart.
//!
//! The order is the architecture: the directory is locked, the identity is there and valid, the engine has said which
//! containers it has, all of that is taken up again, and only then the controller hears a word.

mod enroll;
mod exit;
mod fit;
mod metadata;
mod reload;
mod serve;

pub use enroll::{By, enroll};
pub use exit::{BAD_USAGE, exit_code};
pub use reload::Reread;
pub use serve::{Rejoin, Settings, serve};

use longshore_core::id::AgentId;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::config::Config;
use crate::executor::{self, Executor};
use crate::identity::{self, Identity};
use crate::lifecycle::scalein;
use crate::lifecycle::{Manager, StateDir, StateDirError, watch_hangups, watch_signals};
use crate::retry::{Policy, Retry};
use crate::session::Dialer;
use crate::supervisor::Stop;
use crate::tasks::Tasks;
use reload::{Told, about_of};

/// Why the agent does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The identity cannot be used for TLS.
    #[error("the identity of this agent cannot be used; enroll it anew with `enroll --force`")]
    Tls(#[from] crate::session::TlsError),
    /// The authorities cannot be read.
    #[error("cannot read the authorities in `{}`", path.display())]
    Authorities {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cloud's metadata service does not say what this machine is.
    #[error("not enrolled, nothing was changed: this machine cannot be proven to be one of `{cloud}`")]
    Metadata {
        /// Which cloud.
        cloud: &'static str,
        /// Why.
        #[source]
        source: longshore_cloud::Error,
    },
    /// The join token, or what the machine is, was not taken.
    #[error("not enrolled, nothing was changed")]
    Enroll(#[source] crate::session::Error),
    /// The container engine is there and cannot be worked with.
    #[error("cannot work with the container engine")]
    Engine(#[source] Box<executor::Error>),
    /// Anything else of the operating system.
    #[error("failed to {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// An error with its causes behind it.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs an agent that is enrolled, or can enroll itself, until it is told to stop. `reread` gives the configuration anew at SIGHUP.
///
/// # Errors
/// [`Error`]; what runs in containers goes on.
pub async fn run(config: Config, reread: Reread) -> Result<(), Error> {
    let tasks = Tasks::new();
    let stop = watch_signals(&tasks).map_err(Error::system("listen for signals"))?;
    let hangups = watch_hangups(&tasks).map_err(Error::system("listen for signals"))?;
    let result = run_until(config, &tasks, stop, hangups, reread).await;
    tasks.end().await;
    result
}

async fn run_until(
    config: Config,
    tasks: &Tasks,
    mut stop: watch::Receiver<Stop>,
    hangups: watch::Receiver<u64>,
    reread: Reread,
) -> Result<(), Error> {
    let state_dir = StateDir::open(&config.state_dir)?;
    crate::status::clear(state_dir.path());
    let Some(identity) = enroll::identity(&config, &state_dir, Manager, &mut stop).await? else { return Ok(()) };
    // Every line from here on says whose it is, whatever its level.
    let span = tracing::error_span!("agent", agent = %identity.agent);
    run_as(identity, (config, reread), tasks, (stop, hangups)).instrument(span).await
}

async fn run_as(
    identity: Identity,
    (config, reread): (Config, Reread),
    tasks: &Tasks,
    (mut stop, hangups): (watch::Receiver<Stop>, watch::Receiver<u64>),
) -> Result<(), Error> {
    let dialer = Dialer::new(config.controller.clone(), &identity)?.by_way_of(config.proxy.clone());
    let boot_id = crate::host::boot_id().map_err(Error::system("read the host's boot id"))?;
    tracing::info!(controller = %config.controller, version = env!("CARGO_PKG_VERSION"), "starting");
    let Some(runtime) = engine(&config, &identity, &mut stop).await? else { return Ok(()) };
    let wanted = fit::Wanted::of(&config);
    let reason = tokio::select! {
        reason = fit::look(&runtime, &wanted) => reason,
        _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(()),
    };
    let (held_tx, held_back) = watch::channel(reason);
    tasks.spawn("fit", fit::follow(runtime.clone(), wanted, held_tx, hangups.clone()));
    let (about_tx, about) = watch::channel(about_of(&config, boot_id, crate::clock::nonce()));
    let (drain_tx, drain_timeout) = watch::channel(config.drain_timeout);
    let settings = Settings {
        runtime: runtime.clone(),
        dialer,
        identity,
        state_dir: config.state_dir.clone(),
        package_cache_bytes: config.limits.package_cache_bytes,
        about,
        held_back,
        drain_timeout,
        cancel_grace: config.cancel_grace,
        watcher: scalein::Watcher::of(&config.cloud),
        retry: Policy::default(),
        manager: Manager,
        rejoin: config.join.map(|cloud| Rejoin { config: Box::new(config.clone()), cloud }),
    };
    let executor = move |config: &Config| {
        runtime.reconfigure(
            config.mounts.clone(),
            config.limits.clone(),
            config.weakest_profile,
            config.registries.clone(),
        );
    };
    let told = Told { executor, about: about_tx, drain_timeout: drain_tx };
    tasks.spawn("reload", reload::follow(hangups, config, reread, told));
    serve(settings, tasks, stop).await
}

/// Reaches the engine, tried until it answers; `None`: the agent was told to stop meanwhile.
async fn engine(
    config: &Config,
    identity: &Identity,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Option<Executor>, Error> {
    let mut retry = Retry::new(Policy::default());
    loop {
        match Executor::connect(settings_of_executor(config, identity.agent, &identity.controller)).await {
            Ok(executor) => return Ok(Some(executor)),
            Err(error @ executor::Error::EngineUnreachable { .. }) => {
                tracing::error!(error = error.full(), "waiting for the container engine");
            }
            Err(error) => return Err(Error::Engine(Box::new(error))),
        }
        tokio::select! {
            () = retry.pause() => {}
            _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(None),
        }
    }
}

fn settings_of_executor(config: &Config, agent: AgentId, controller: &str) -> executor::Config {
    executor::Config {
        socket: config.docker_socket.clone(),
        state_dir: config.state_dir.clone(),
        controller: controller.to_owned(),
        agent,
        mounts: config.mounts.clone(),
        limits: config.limits.clone(),
        weakest_profile: config.weakest_profile,
        registries: config.registries.clone(),
    }
}
