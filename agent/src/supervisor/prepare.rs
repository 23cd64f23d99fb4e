//! Makes a step ready and asks for the right to start it: image, package, container, workspace, intent, confirmation, start.
//!
//! Everything up to the intent can be repeated. The intent is durable before the right is asked for, so a process that
//! comes later knows that it may have been granted; the nonce is not written down, so that process cannot take the
//! grant for its own.

use std::path::PathBuf;

use longshore_core::attempt::Cause;
use longshore_core::init::control::Deadlines;
use longshore_core::offer::Grant;

use super::attempt::{Attempt, Halt};
use super::deadlines::{deadlines, micros};
use super::package;
use super::reporter::Reporter;
use super::{Orders, Runtime};
use crate::executor::{Class, Created, Error as ExecutorError, Image, Step, Wanted};
use crate::ledger::{Intent, Started};
use crate::retry::Retry;
use crate::session::{Ending, Error as CallError, Phase, Start, Verdict};

/// A step whose container is there, not started.
pub(super) struct Prepared {
    image: Image,
    created: Created,
}

/// Why a step is not ready.
enum Fault {
    Executor(ExecutorError),
    Package(package::Error),
}

impl Fault {
    fn ending(self) -> Result<Ending, Halt> {
        match self {
            Self::Executor(error) => Ok(not_started(&error)),
            Self::Package(package::Error::Fenced(reason)) => Err(Halt::Fenced(reason)),
            Self::Package(error) => {
                let agent_fault = matches!(error, package::Error::Write { .. } | package::Error::Damaged { .. });
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                let reason = format!("{error}{cause}");
                Ok(Ending::NotStarted { reason, cause: whose(agent_fault) })
            }
        }
    }
}

fn not_started(error: &ExecutorError) -> Ending {
    Ending::NotStarted { reason: error.full(), cause: whose(error.class() == Class::AgentFault) }
}

const fn whose(agent_fault: bool) -> Cause {
    if agent_fault { Cause::Agent } else { Cause::Step }
}

fn canceled_before(cause: Option<String>) -> Ending {
    let cause = cause.map(|cause| format!(" by its agent: {cause}")).unwrap_or_default();
    Ending::NotStarted { reason: format!("canceled before the step was started{cause}"), cause: Cause::Step }
}

fn disk(error: &std::io::Error) -> Ending {
    Ending::NotStarted {
        reason: format!(
            "the agent's disk does not take its ledger ({error}), so nothing was started; free some space on the agent's host"
        ),
        cause: Cause::Agent,
    }
}

impl<R: Runtime> Attempt<R> {
    /// Makes a step ready, or says why it was not started. A cancel ends it at once.
    pub(super) async fn prepare(&self, step: &Step, reporter: &Reporter) -> Result<Result<Prepared, Ending>, Halt> {
        let mut orders = self.orders.clone();
        // What was not started can be done elsewhere.
        let fresh = step.offer.index == self.first_step();
        let canceled = async {
            if self.cancel.is_some() {
                return canceled_before(None);
            }
            let stops = |orders: &Orders| orders.cancel.is_some() || (fresh && orders.give_back.is_some());
            match orders.wait_for(stops).await.map(|orders| orders.clone()) {
                Ok(Orders { give_back: Some(reason), .. }) if fresh => Ending::NotStarted {
                    reason: format!("it was not started, because this agent has to leave: {reason}"),
                    cause: Cause::Leaving,
                },
                Ok(orders) => canceled_before(orders.cancel.and_then(|order| order.cause)),
                Err(_) => std::future::pending().await,
            }
        };
        let made = tokio::select! {
            biased;
            ending = canceled => return Ok(Err(ending)),
            made = self.make(step, reporter) => made,
        };
        match made {
            Ok(prepared) => Ok(Ok(prepared)),
            Err(fault) => fault.ending().map(Err),
        }
    }

    async fn make(&self, step: &Step, reporter: &Reporter) -> Result<Prepared, Fault> {
        let runtime = &self.shared.runtime;
        let reference = &step.offer.image;
        let began = crate::clock::now();
        let image = async {
            let progress = |progress: crate::executor::PullProgress| {
                if progress.note {
                    return reporter.note(&progress.message);
                }
                reporter.say(Phase::Pulling, &progress.message, progress.current, progress.total);
            };
            let image = runtime.prepare_image(&Wanted::from(&step.offer), progress).await.map_err(Fault::Executor);
            self.times.note("image", began);
            image
        };
        let package = async {
            let package = self.fetch(step, reporter).await;
            if !matches!(package, Ok(None)) {
                self.times.note("package", began);
            }
            package
        };
        let (image, package) = tokio::try_join!(image, package)?;
        let began = crate::clock::now();
        reporter.say(Phase::Creating, &format!("container of image {reference}"), 0, 0);
        let created = runtime.create(step, &image).await.map_err(Fault::Executor)?;
        self.hold(step.offer.index, Some(&created.id), false);
        if package.is_some() {
            reporter.say(Phase::Unpacking, "package", 0, 0);
        }
        runtime.prepare_workspace(step, &created, package.as_deref()).await.map_err(Fault::Executor)?;
        if let Some(path) = package
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::debug!(%error, "the package stays until the attempt has ended");
        }
        self.times.note("container", began);
        Ok(Prepared { image, created })
    }

    /// The package, for the first step.
    async fn fetch(&self, step: &Step, reporter: &Reporter) -> Result<Option<PathBuf>, Fault> {
        let first = self.offer.steps.first().is_some_and(|first| first.index == step.offer.index);
        let Some(package) = self.offer.package.as_ref().filter(|_| first) else { return Ok(None) };
        let to = self.shared.ledger.attempt_dir(self.id()).join("package.tar.zst");
        let packages = &self.shared.packages;
        let _flight = packages.flight(&package.sha256).await;
        if packages.take(&package.sha256, &to).await {
            return Ok(Some(to));
        }
        let fetch = || {
            let progress = |bytes| reporter.say(Phase::Unpacking, "fetching the package", bytes, package.bytes);
            package::fetch(&self.shared.client, self.offer.fence, package, &to, self.shared.retry, progress)
        };
        let mut fetched = fetch().await;
        if matches!(fetched, Err(package::Error::Write { .. })) && packages.clear().await {
            // What was kept for later jobs is worth less than this one.
            fetched = fetch().await;
        }
        fetched.map_err(Fault::Package)?;
        packages.keep(&package.sha256, &to).await;
        Ok(Some(to))
    }

    /// Asks for the right to start, starts, and follows the step to its end.
    pub(super) async fn start(&mut self, step: &Step, prepared: Prepared, reporter: &Reporter) -> Result<Ending, Halt> {
        let (attempt, index) = (self.id(), step.offer.index);
        let intent = Intent {
            container: prepared.created.id.clone(),
            image_digest: prepared.image.id.clone(),
            at: crate::clock::now(),
        };
        let written = intent.clone();
        if let Err(error) = self.ledger(move |ledger| ledger.intend(attempt, index, &written)).await {
            return Ok(disk(&error));
        }
        match self.confirm(index, &intent).await? {
            Verdict::Granted(grant) => self.run_granted(step, prepared, *grant, reporter).await,
            Verdict::AlreadyStarted(_) => Ok(Ending::Lost {
                reason: "the agent ended between the grant and the start; nothing was started, and the step's secrets are not handed out twice; deploy again".to_owned(),
                spool_bytes: 0,
                canceled: false,
            }),
            Verdict::Canceled(reason) => Ok(Ending::NotStarted { reason: format!("canceled before the step was started: {reason}"), cause: Cause::Step }),
            Verdict::Failed(reason) => Err(Halt::Recorded(reason)),
        }
    }

    /// Asks with one nonce until there is an answer.
    async fn confirm(&self, step: u32, intent: &Intent) -> Result<Verdict, Halt> {
        let start = Start {
            fence: self.offer.fence,
            step,
            container: intent.container.clone(),
            nonce: crate::clock::nonce(),
            image_digest: intent.image_digest.clone(),
            took: self.times.take(),
        };
        let began = crate::clock::now();
        let mut retry = Retry::new(self.shared.retry);
        loop {
            match self.shared.client.confirm_start(&start).await {
                Ok(verdict) => {
                    self.times.note("confirm", began);
                    return Ok(verdict);
                }
                Err(CallError::Fenced(reason)) => return Err(Halt::Fenced(reason)),
                Err(error) => {
                    tracing::warn!(attempt = %self.id(), slot = step, %error, "the start could not be confirmed, asking again");
                }
            }
            self.pause(&mut retry).await;
        }
    }

    async fn run_granted(
        &mut self,
        step: &Step,
        prepared: Prepared,
        grant: Grant,
        reporter: &Reporter,
    ) -> Result<Ending, Halt> {
        let (attempt, index) = (self.id(), step.offer.index);
        let started = Started {
            at: crate::clock::now(),
            boot_id: self.shared.boot_id.clone(),
            soft: crate::clock::boot_micros().saturating_add(micros(grant.timeout)),
            grace: grant.grace,
        };
        let written = started.clone();
        if let Err(error) = self.ledger(move |ledger| ledger.start(attempt, index, &written)).await {
            return Ok(disk(&error));
        }
        let container = prepared.created.id.as_str();
        self.hold(index, Some(container), true);
        let first =
            deadlines(&started, &self.shared.contact.borrow().clone(), self.cancel.as_ref(), Deadlines::default());
        let result =
            self.shared.runtime.start(step, &self.offer, &prepared.created, &prepared.image, &grant, first).await;
        drop(grant);
        match result {
            Ok(()) => {
                reporter.say(Phase::Running, "", 0, 0);
                self.follow(index, container, &started, reporter).await
            }
            Err(error) if error.may_have_run() => {
                tracing::error!(%attempt, error = error.full(), "the step may have begun");
                match self.follow(index, container, &started, reporter).await? {
                    Ending::Lost { spool_bytes, canceled, .. } => {
                        Ok(Ending::Lost { reason: error.full(), spool_bytes, canceled })
                    }
                    ended => Ok(ended),
                }
            }
            // Nothing of the step ran, but that is no failure of the step: the container or the engine went away under it.
            Err(error @ (ExecutorError::Handover { .. } | ExecutorError::EngineUnreachable { .. })) => {
                Ok(Ending::Lost { reason: error.full(), spool_bytes: 0, canceled: false })
            }
            Err(error) => Ok(not_started(&error)),
        }
    }
}
