//! The only place that decides. The API, the agent plane and the timers call it; it loads rows, asks core what follows,
//! saves rows, timeline and outbox in one transaction and then carries out what follows.
//!
//! Invariants: what an RPC or a request is told was committed before; everything in memory (sessions, progress, wake-ups) can be lost
//! at any line and is worked out anew from rows and from what agents say in their hello.

mod access;
mod accounts;
mod approve;
mod artifacts;
mod audit;
mod cascade;
mod channels;
mod children;
mod cloud;
mod complete;
mod confirm;
mod context;
mod create;
mod cx;
mod dispatch;
mod enroll;
mod error;
mod explain;
mod fleet;
mod flow;
mod found;
mod gone;
mod guide;
mod hello;
mod http;
mod images;
mod join_rules;
mod libraries;
mod live;
mod local;
mod machines;
mod offers;
mod operations;
mod people;
mod pins;
pub mod plane;
mod plans;
mod pools;
mod program;
mod projects;
mod promote;
mod quarantine;
mod read;
mod releases;
mod rotate;
mod scale_in;
mod scaling;
mod sessions;
mod ship;
pub mod sources;
mod suspect;
#[cfg(test)]
mod tests;
mod timeline;
mod timers;
mod tokens;
mod turn;
mod turns;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_core::attempt::Limits;
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use longshore_core::trace::TraceParent;
use longshore_core::variables::Scope;
use tokio::sync::{Notify, Semaphore, oneshot};
use tracing::Instrument as _;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::logs::Logs;
use crate::secrets::Vault;
use crate::store::Store;
use crate::store::rows::MetaRow;
use crate::store::{self, Tx};
use crate::tasks::{OnError, Tasks};
use cx::{After, Cx};
use images::Questions;
use live::Live;
use sessions::Sessions;
use turns::{Desk, Look};

pub use access::{Actor, Need};
pub(crate) use accounts::ADMIN;
pub use approve::Vote;
pub use artifacts::{ArtifactCountView, ArtifactView, ArtifactsView, LeftOutView, OriginView};
pub use channels::Subject;
pub use cloud::{AccountView, NewAccount};
pub use error::Error;
pub use explain::{ExplainView, VariableExplained};
pub(crate) use gone::Silent;
pub use join_rules::NewJoinRule;
pub use libraries::LibraryView;
pub use live::{Change, Changes};
pub use local::NewLocal;
pub use operations::{NewOperation, OperationView};
pub use people::NewJoinToken;
pub use pins::Below;
pub use pools::PoolView;
pub use promote::{Promoted, PromotedTo, RolledBack};
pub use releases::NewRelease;
pub use rotate::{DataKeyView, RotationView, SecretsView};
pub(crate) use scaling::{Decided, Scaled};
pub use scaling::{LeavingView, PoolAgentsView, ScalerView, ScalingEventView, ScalingView, SlotsView};
pub use sources::MadeView;
pub use tokens::NewToken;
pub use view::{
    AgentView, AppliedView, ApprovalView, AttemptView, AuditPage, AuditView, ChildReleaseView, DeploymentView,
    DrainingView, EventView, GrantView, HeldPackageView, LocalView, LockView, LogView, PlanView, PluginsView,
    ProgressView, ProjectView, ReleaseStepView, ReleaseView, RoleView, SourceView, SpecView, StepView, TeamView,
    TokenView, UserView, VariableView,
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What is set from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Silence after which an agent counts as gone.
    pub lease: Duration,
    /// Between two heartbeats of an agent.
    pub heartbeat: Duration,
    /// How long a started attempt may run while its agent reaches no controller.
    pub max_disconnected: Duration,
    /// Silence after which an ephemeral agent that holds nothing leaves the list.
    pub ephemeral_silence: Duration,
    /// Between SIGINT and SIGKILL when a person cancels or a step's timeout passes.
    pub grace: Duration,
    /// How much is kept of what one try of a step leaves as files; `None`: nothing.
    pub artifacts: Option<longshore_core::artifacts::Limits>,
    /// Limits of an attempt's states.
    pub limits: Limits,
    /// Where people find this controller, without a `/` at the end; may be empty.
    pub url: String,
    /// How commits are fetched.
    pub sources: sources::Settings,
    /// The part of the deployments whose traces are sent, from 0 to 1; `None`: no traces are.
    pub traced: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            max_disconnected: Duration::from_secs(30 * 60),
            ephemeral_silence: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(10 * 60),
            artifacts: Some(longshore_core::artifacts::Limits { file_bytes: 64 << 20, total_bytes: 256 << 20 }),
            limits: Limits::default(),
            url: String::new(),
            sources: sources::Settings::default(),
            traced: None,
        }
    }
}

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Logs of steps.
    pub logs: Logs,
    /// Packages.
    pub blobs: Blobs,
    /// Files that steps left.
    pub artifacts: Blobs,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Time and randomness.
    pub clock: Clock,
    /// Owner of its tasks.
    pub tasks: Tasks,
    /// What is set from outside.
    pub settings: Settings,
}

/// A deployment that is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewDeployment {
    /// Name of the project.
    pub project: String,
    /// Name of the environment.
    pub environment: String,
    /// SHA-256 in hex of a stored package; `None`: of the project's source, where it names one.
    pub package: Option<String>,
    /// Ref of the project's source, instead of the one in its spec.
    pub reference: Option<String>,
    /// Version of a release; `None`: one is made on the spot.
    pub release: Option<String>,
    /// Channel of the release that is made on the spot; `None`: what the rules say.
    pub channel: Option<String>,
    /// The working tree that it is of; `None`: the project as it was applied, or a release.
    pub local: Option<NewLocal>,
    /// Values of the variables that are asked for.
    pub variables: BTreeMap<String, String>,
    /// Greater ones begin first; 0 is usual.
    pub priority: i64,
    /// It does not begin before.
    pub not_before: Option<Timestamp>,
    /// It is not begun after.
    pub expires_at: Option<Timestamp>,
    /// Made by the client; the same one again answers with the same deployment.
    pub operation_id: String,
    /// The deployment, and the index of its step, that begins this one.
    pub parent: Option<(DeploymentId, u32)>,
    /// People decide about a step that failed.
    pub guided: bool,
    /// Names of the steps that are not to be run.
    pub skip: Vec<String>,
    /// Other projects that it may deploy too; `None`: nobody has to ask.
    pub permitted: Option<BTreeSet<String>>,
    /// It is no deployment of a release: this is done to a stack of it.
    pub operation: Option<NewOperation>,
    /// The span that it belongs under; `None`: what the call is in, if that is in a trace.
    pub trace_parent: Option<TraceParent>,
}

/// A value that is to be set.
#[derive(Debug, Clone)]
pub struct NewVariable {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: Secret,
    /// Whether it is a secret.
    pub secret: bool,
    /// What it is for.
    pub scope: Scope,
}

/// Which log a step has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLog {
    /// Name of the step.
    pub name: String,
    /// Index of the step.
    pub index: u32,
    /// The attempt that was last confirmed for it; `None`: none yet, so there is no log.
    pub attempt: Option<AttemptId>,
    /// Nothing follows in this log, nor will there be another one of this step.
    pub ended: bool,
}

/// The engine. A cheap handle.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    meta: MetaRow,
    /// When this engine began to serve: no lease is older.
    began: Duration,
    began_at: Timestamp,
    sessions: Sessions,
    live: Live,
    scaling: scaling::Memory,
    /// There may be a job to hand out.
    dispatch: Notify,
    desk: Desk,
    /// The next due time may have changed.
    timers: Notify,
    /// There may be an address to ask.
    checks: Notify,
    questions: Questions,
    /// Messages were handed over and can be removed.
    outbox: Notify,
    /// There may be secrets to move to the newest data key.
    reseal: Notify,
    /// The timeline has become longer.
    longer: Notify,
    /// Secrets are being moved.
    resealing: AtomicBool,
    /// When to look for agents that are gone, by the clock that does not jump.
    vanish_at: Mutex<Duration>,
    /// What steps that run may take, as far as it was asked.
    step_times: Mutex<timers::StepTimes>,
    /// Commits that may be fetched at the same time.
    fetches: Semaphore,
}

impl Engine {
    /// Loads what is needed and starts the dispatcher and the timers. The installation's row must be there.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub async fn start(parts: Parts) -> Result<Self> {
        let meta = parts.store.read(|tx| Box::pin(async move { tx.meta().await })).await?;
        let meta = meta.ok_or_else(|| Error::Internal("the installation's row is missing".to_owned()))?;
        let (began, began_at) = (parts.clock.elapsed(), parts.clock.now());
        let sessions = Sessions::new(parts.clock.clone());
        let (dispatch, timers, checks, outbox) = (Notify::new(), Notify::new(), Notify::new(), Notify::new());
        let (live, questions, reseal) = (Live::default(), Questions::default(), Notify::new());
        // A rotation that was cut short goes on.
        if parts.vault.keys() > 1 {
            reseal.notify_one();
        }
        let fetches = Semaphore::new(parts.settings.sources.at_once);
        let engine = Self(Arc::new(Inner {
            fetches,
            parts,
            meta,
            began,
            began_at,
            sessions,
            live,
            scaling: scaling::Memory::default(),
            dispatch,
            desk: Desk::new(began_at),
            timers,
            checks,
            questions,
            outbox,
            reseal,
            longer: Notify::new(),
            resealing: AtomicBool::new(false),
            vanish_at: Mutex::default(),
            step_times: Mutex::default(),
        }));
        engine.hold_again().await?;
        let tasks = &engine.0.parts.tasks;
        tasks.spawn_until_stop("dispatcher", OnError::Stop, engine.clone().dispatch_forever());
        tasks.spawn_until_stop("timers", OnError::Stop, engine.clone().time_forever());
        tasks.spawn_until_stop("checks", OnError::Stop, engine.clone().check_forever());
        engine.promote_all();
        tasks.spawn_until_stop("reseal", OnError::Log, engine.clone().reseal_forever());
        tasks.spawn_until_stop("outbox", OnError::Stop, engine.clone().clear_outbox_forever());
        Ok(engine)
    }

    /// This installation.
    #[must_use]
    pub fn meta(&self) -> MetaRow {
        self.0.meta
    }

    /// The logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.0.parts.logs
    }

    /// Packages.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.0.parts.blobs
    }

    /// Why something is not well; empty when all is.
    #[must_use]
    pub fn health(&self) -> Vec<String> {
        self.0.parts.logs.health().into_iter().collect()
    }

    /// Rows, for who reads the timeline on.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nothing is sent without it"))]
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.0.parts.store
    }

    /// Ends when the timeline has become longer since it was asked last.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nothing is sent without it"))]
    pub(crate) async fn longer(&self) {
        self.0.longer.notified().await;
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.parts.clock
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.parts.tasks
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.parts.settings
    }

    /// Runs a change of rows; carries out what follows once it is committed.
    ///
    /// In a task of its own: whoever asked may go away between the commit and what follows, and then nobody would carry it out.
    async fn change<T, E, F>(&self, actor: &str, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<store::Error> + Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx, &'t mut Cx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let mut cx = Cx::new(self.clock(), &self.0.parts.vault, actor, self.settings().grace);
        let (answer, answered) = oneshot::channel();
        let engine = self.clone();
        // The lines of the log that it writes have the ids of what asked for it.
        let span = tracing::Span::current();
        let task = async move {
            let done: Result<(T, After), E> = engine
                .0
                .parts
                .store
                .write(move |tx| {
                    Box::pin(async move {
                        let value = change(tx, &mut cx).await?;
                        Ok((value, cx.after))
                    })
                })
                .await;
            let result = match done {
                Ok((value, after)) => {
                    engine.carry_out(after).await;
                    Ok(value)
                }
                Err(error) => Err(error),
            };
            // Who asked may have gone away.
            let _heard = answer.send(result).is_ok();
            Ok::<(), Infallible>(())
        };
        self.tasks().spawn("change", OnError::Log, task.instrument(span));
        answered.await.unwrap_or_else(|_| Err(store::Error::Closed.into()))
    }

    async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        self.0.parts.store.read(read).await
    }

    /// What follows a commit. Anything lost here is found again from the rows.
    async fn carry_out(&self, after: After) {
        if let Some(id) = after.data_key {
            self.0.parts.vault.promote(id);
            self.0.resealing.store(true, Ordering::SeqCst);
            self.0.reseal.notify_one();
        }
        if !after.timeline.is_empty() {
            timeline::log(&after.timeline);
            self.0.longer.notify_one();
        }
        for row in &after.outbox {
            if self.0.sessions.send(row) {
                self.0.outbox.notify_one();
            }
        }
        for (attempt, step) in after.seal {
            self.logs().seal(attempt, step).await;
        }
        for took in after.claimed_after {
            metrics::histogram!("longshore_deploy_to_agent_seconds").record(took.as_secs_f64());
        }
        for (id, state) in after.ended {
            metrics::counter!("longshore_deployments_ended_total", "state" => state.as_str()).increment(1);
            self.0.live.forget(id);
        }
        self.promote_later(after.promote);
        for id in after.changed {
            self.0.live.changed(id);
        }
        if !after.look.is_empty() {
            self.0.desk.look(Look { keys: after.look, ..Look::default() });
        }
        if after.dispatch {
            self.0.dispatch.notify_one();
        }
        if after.timers {
            self.0.timers.notify_one();
            self.0.checks.notify_one();
        }
    }
}
