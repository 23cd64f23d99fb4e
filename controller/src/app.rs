//! The controller as a process: built as a whole before anything is spawned, served until it is told to stop.
//!
//! Order of [`App::build`]: data directory and its lock, database, keys, authority, listeners, engine. A failure at any of
//! them stops the start, and nothing was served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use longshore_proto::v1::agent_plane_server::AgentPlaneServer;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::blobs::{self, Blobs};
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::engine::{self, Engine};
use crate::identity::cloud::Verifier;
use crate::identity::{self, Ca, Door, Incoming, Tls, TokenHash, TokenKind};
use crate::logs::{self, Logs};
use crate::manager::Manager;
use crate::store::rows::MetaRow;
use crate::store::sqlite::Sqlite;
use crate::store::{self, Measured, Store};
use crate::tasks::{OnError, Tasks};
use crate::trace::{self, Traces};
use crate::{agents, telemetry};
use crate::{machines, scaler, secrets};

/// Name of the database's file.
const DATABASE: &str = "controller.db";
/// File with the token of the user `admin`, written at the first start.
const ADMIN_TOKEN: &str = "admin.token";

/// How long sessions of agents may take to end after everything was told to.
const SESSIONS_END: Duration = Duration::from_secs(2);

/// Why the controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The database.
    #[error("cannot open the database `{}`", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// The rows of the installation.
    #[error("cannot prepare the database")]
    Store(#[from] store::Error),
    /// The keys.
    #[error(transparent)]
    Secrets(#[from] secrets::startup::Failed),
    /// The authority, or TLS.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The packages' folder.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The logs' folder.
    #[error(transparent)]
    Logs(#[from] logs::Error),
    /// A port.
    #[error("cannot listen on `{address}` (`{field}`)")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// As in the configuration.
        field: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine.
    #[error("cannot start the engine")]
    Engine(#[from] engine::Error),
    /// What asks clouds.
    #[error("cannot set up HTTP for asking clouds about machines")]
    Http(#[source] reqwest::Error),
    /// The program's log or metrics.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// Where traces go.
    #[error("cannot send traces (`tracing`): {0}")]
    Tracing(String),
}

/// A controller that is ready to serve.
#[derive(Debug)]
pub struct App {
    api: Api,
    api_incoming: Incoming,
    agents_incoming: Incoming,
    /// How long the head of a request of the API may take.
    head: Duration,
    engine: Engine,
    ca: Arc<Ca>,
    verifier: Arc<Verifier>,
    store: Arc<dyn Store>,
    tasks: Tasks,
    shutdown_grace: Duration,
    /// Last, so that the lock is given back when everything else is gone.
    _data_dir: DataDir,
}

impl App {
    /// Builds everything and binds both ports.
    ///
    /// # Errors
    /// The first thing that does not work; see [`Error`].
    pub async fn build(config: Config, clock: Clock, metrics: PrometheusHandle) -> Result<Self, Error> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let tasks = Tasks::new();
        let path = data_dir.path().join(DATABASE);
        let store = Sqlite::open(&path, &tasks).await.map_err(|source| Error::Database { path, source })?;
        let store: Arc<dyn Store> = Arc::new(Measured::new(store, clock.clone()));
        let vault = Arc::new(secrets::startup::open(&store, &data_dir, &config.secrets, &clock).await?);
        let ca = Arc::new(Ca::load_or_create(&data_dir, config.agents.certificate_validity, clock.now())?);
        let verifier = Arc::new(Verifier::new(config.join, clock.clone()).map_err(Error::Http)?);
        let logs = Logs::open(data_dir.path().join("logs"), tasks.clone())?;
        let limits = blobs::Limits { packed: config.max_package_bytes, ..blobs::Limits::default() };
        let blobs = Blobs::open(data_dir.path().join("packages"), limits, tasks.clone())?;
        let artifacts = Blobs::open(data_dir.path().join("artifacts"), limits, tasks.clone())?;
        blobs.sweep_forever(clock.clone());
        let api_tls =
            config.api.tls.as_ref().map(|(certificate, key)| identity::api_from_files(certificate, key)).transpose()?;
        let door = |plane| Door::new(config.connections, plane);
        let api_incoming =
            bind(config.api.listen, "api.listen", api_tls.map_or(Tls::None, Tls::Server), door("api")).await?;
        let tls = Tls::Mutual(identity::agent_plane(&ca, &config.agents.names, clock.now())?);
        let agents_incoming = bind(config.agents.listen, "agents.listen", tls, door("agents")).await?;
        install(&store, &clock).await?;
        let parts = engine::Parts {
            store: Arc::clone(&store),
            logs,
            blobs: blobs.clone(),
            artifacts,
            vault,
            clock: clock.clone(),
            tasks: tasks.clone(),
            settings: config.engine,
        };
        let engine = Engine::start(parts).await?;
        scaler::start(engine.clone(), config.scaling, clock.clone(), &tasks);
        machines::start(engine.clone(), Arc::clone(&verifier), clock.clone(), &tasks);
        engine.ensure_admin().await?;
        admin_token(&data_dir, &store, &engine, &clock).await?;
        let traces = traces(&engine, config.tracing.as_ref()).await?;
        let api = Api::new(api::Parts {
            traces,
            engine: engine.clone(),
            store: Arc::clone(&store),
            blobs,
            ca: Arc::clone(&ca),
            clock,
            tasks: tasks.clone(),
            accepting: CancellationToken::new(),
            metrics,
        });
        Ok(Self {
            api,
            api_incoming,
            agents_incoming,
            head: config.connections.handshake,
            engine,
            ca,
            verifier,
            store,
            tasks,
            shutdown_grace: config.shutdown_grace,
            _data_dir: data_dir,
        })
    }

    /// Where the API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api_incoming.address()
    }

    /// Where the agents' plane listens.
    #[must_use]
    pub fn agents_address(&self) -> SocketAddr {
        self.agents_incoming.address()
    }

    /// The API as a service, for whoever calls it without a socket.
    pub fn router(&self) -> Router {
        api::router(self.api.clone())
    }

    /// The engine, for whoever calls it without a socket.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Serves both planes until `stop`, then ends what is open within the grace time. The service manager is told once both
    /// are served, and once the end begins. `false`: it ended because something it needs has failed.
    pub async fn run(self, stop: impl Future<Output = ()> + Send, manager: Manager) -> bool {
        let Self {
            api,
            api_incoming,
            agents_incoming,
            head,
            engine,
            ca,
            verifier,
            store,
            tasks,
            shutdown_grace,
            _data_dir,
            ..
        } = self;
        let accepting = api.accepting.clone();
        let drained = serve_api(&tasks, api_incoming, head, api);
        let gate = agents::Gate::new(engine.clone());
        let service = agents::service(engine, ca, verifier);
        serve_agents(&tasks, &accepting, agents_incoming, service, gate);
        manager.serving(&tasks);
        let failed = tokio::select! {
            () = stop => false,
            () = tasks.token().cancelled() => true,
        };
        manager.stopping(shutdown_grace);
        accepting.cancel();
        // Requests first: what they change is still committed. Then everything else, agents' sessions among it.
        if tokio::time::timeout(shutdown_grace, drained).await.is_err() {
            tracing::warn!("requests were still open after `shutdown_grace`");
        }
        if !tasks.shut_down(shutdown_grace).await {
            tracing::warn!(tasks = tasks.running(), "tasks still ran after `shutdown_grace`");
        }
        store.close().await;
        !failed
    }
}

/// Begins to send traces, if that is set.
#[cfg(feature = "otlp")]
async fn traces(engine: &Engine, settings: Option<&trace::Settings>) -> Result<Option<Traces>, Error> {
    let Some(settings) = settings else { return Ok(None) };
    let exporter = trace::Otlp::new(settings, &engine.meta().controller.to_string()).map_err(Error::Tracing)?;
    Ok(Some(trace::start(engine.clone(), Box::new(exporter), settings.part).await?))
}

/// A configuration that asks for traces was refused.
#[cfg(not(feature = "otlp"))]
#[expect(clippy::unused_async, reason = "as the other one")]
async fn traces(_: &Engine, _: Option<&trace::Settings>) -> Result<Option<Traces>, Error> {
    Ok(None)
}

async fn bind(address: SocketAddr, field: &'static str, tls: Tls, door: Door) -> Result<Incoming, Error> {
    let listener = TcpListener::bind(address).await;
    listener.and_then(|listener| Incoming::new(listener, tls, door)).map_err(|source| Error::Listen {
        address,
        field,
        source,
    })
}

/// Gives a new database its name.
async fn install(store: &Arc<dyn Store>, clock: &Clock) -> Result<(), Error> {
    let (row, now) = (MetaRow { controller: clock.controller_id(), incarnation: 1 }, clock.now());
    let write = store.write::<_, store::Error, _>(move |tx| {
        Box::pin(async move {
            match tx.meta().await? {
                Some(_) => Ok(()),
                None => tx.insert_meta(&row, now).await,
            }
        })
    });
    Ok(write.await?)
}

/// At the first start there is nobody yet who could make a token: one for `admin` is left in the data directory.
async fn admin_token(dir: &DataDir, store: &Arc<dyn Store>, engine: &Engine, clock: &Clock) -> Result<(), Error> {
    let tokens = store.read::<_, store::Error, _>(|tx| tx.tokens()).await?;
    if !tokens.is_empty() {
        return Ok(());
    }
    let token = TokenKind::Api.make(clock.random());
    // The file first: a crash in between leaves a file that the next start replaces, not a token that nobody has.
    dir.write(ADMIN_TOKEN, format!("{}\n", token.expose()).as_bytes())?;
    let new = engine::NewToken { user: engine::ADMIN.to_owned(), expires_at: None, limit: None };
    engine.add_token(new, TokenHash::of(token.expose()).as_bytes(), "controller").await?;
    tracing::info!(file = %dir.path().join(ADMIN_TOKEN).display(), "the token of `admin` was written");
    Ok(())
}

/// Serves the API; what is returned ends once no request is open any more.
fn serve_api(tasks: &Tasks, incoming: Incoming, head: Duration, api: Api) -> oneshot::Receiver<()> {
    let (drained_tx, drained_rx) = oneshot::channel::<()>();
    let (stop, owner) = (api.accepting.clone(), tasks.clone());
    let router = api::router(api);
    tasks.spawn("api", OnError::Stop, async move {
        api::serve(&owner, incoming, router, head, &stop).await;
        // Dropped, not sent: the receiver only waits for its end.
        drop(drained_tx);
        Ok::<(), std::convert::Infallible>(())
    });
    drained_rx
}

/// Serves the agents' plane until `accepting` ends; open sessions end by the tasks' own token.
fn serve_agents(
    tasks: &Tasks,
    accepting: &CancellationToken,
    incoming: Incoming,
    service: AgentPlaneServer<agents::Service>,
    gate: agents::Gate,
) {
    let (stop, all) = (accepting.clone(), tasks.token().clone());
    tasks.spawn("agents", OnError::Stop, async move {
        let served = agents::serve(service, gate, incoming, stop);
        tokio::select! {
            served = served => served,
            // A session that does not end by itself is cut; its agent comes back.
            () = async { all.cancelled().await; tokio::time::sleep(SESSIONS_END).await } => Ok(()),
        }
    });
}
