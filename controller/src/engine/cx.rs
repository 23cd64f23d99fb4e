//! What a change of rows carries with it, and what follows when it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::deployment::DeploymentState;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, DeploymentId, ReleaseId};
use longshore_core::time::Timestamp;
use serde_json::Value;

use super::Result;
use crate::clock::Clock;
use crate::secrets::Vault;
use crate::store::Tx;
use crate::store::rows::{EventRow, OutboxRow, Outcome, ToAgent};

/// Carried out after the commit, and only then.
#[derive(Debug, Default)]
pub(super) struct After {
    /// To be handed to agents' streams.
    pub(super) outbox: Vec<OutboxRow>,
    /// Their views differ.
    pub(super) changed: BTreeSet<DeploymentId>,
    /// Releases that got further, so that an automatic phase may be due.
    pub(super) promote: BTreeSet<ReleaseId>,
    /// They have ended.
    pub(super) ended: BTreeMap<DeploymentId, DeploymentState>,
    /// How long after its acceptance a deployment's job was claimed.
    pub(super) claimed_after: Vec<Duration>,
    /// Logs that nothing follows in.
    pub(super) seal: Vec<(AttemptId, u32)>,
    /// There may be a job to hand out.
    pub(super) dispatch: bool,
    /// Who waits for these may get them.
    pub(super) look: BTreeSet<String>,
    /// A due time may have changed.
    pub(super) timers: bool,
    /// A data key that is durable now and seals from here on.
    pub(super) data_key: Option<u32>,
}

/// Time and author of a change.
#[derive(Debug)]
pub(super) struct Cx {
    pub(super) now: Timestamp,
    pub(super) actor: String,
    pub(super) grace: Duration,
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) after: After,
}

impl Cx {
    pub(super) fn new(clock: &Clock, vault: &Arc<Vault>, actor: &str, grace: Duration) -> Self {
        let (now, clock, vault) = (clock.now(), clock.clone(), Arc::clone(vault));
        Self { now, actor: actor.to_owned(), grace, clock, vault, after: After::default() }
    }

    /// Writes a line of the timeline. What is about no deployment says better by [`Cx::audit`] what it is about.
    pub(super) async fn event(
        &mut self,
        tx: &mut dyn Tx,
        action: &str,
        deployment: Option<DeploymentId>,
        detail: Value,
    ) -> Result<()> {
        self.after.changed.extend(deployment);
        let project = || detail.get("project").and_then(Value::as_str).map(|name| format!("project/{name}"));
        let object = deployment.map(|id| format!("deployment/{id}")).or_else(project).unwrap_or_default();
        self.write(tx, action, object, Outcome::Done, deployment, detail).await
    }

    /// Writes a line of the audit that is about no deployment. `object` as in `user/alice`.
    pub(super) async fn audit(&self, tx: &mut dyn Tx, action: &str, object: String, detail: Value) -> Result<()> {
        self.write(tx, action, object, Outcome::Done, None, detail).await
    }

    /// Writes that something was refused. It is no part of a deployment's timeline: nothing happened to it.
    pub(super) async fn refused(&self, tx: &mut dyn Tx, action: &str, object: String, detail: Value) -> Result<()> {
        self.write(tx, action, object, Outcome::Refused, None, detail).await
    }

    async fn write(
        &self,
        tx: &mut dyn Tx,
        action: &str,
        object: String,
        outcome: Outcome,
        deployment: Option<DeploymentId>,
        detail: Value,
    ) -> Result<()> {
        let (action, actor) = (action.to_owned(), self.actor.clone());
        tx.insert_event(&EventRow { id: 0, at: self.now, actor, action, object, outcome, deployment, detail }).await?;
        Ok(())
    }

    /// Leaves a message for an agent.
    pub(super) async fn tell(&mut self, tx: &mut dyn Tx, agent: AgentId, message: ToAgent) -> Result<()> {
        let mut row = OutboxRow { id: 0, agent, message };
        row.id = tx.insert_outbox(&row).await?;
        self.after.outbox.push(row);
        Ok(())
    }

    /// The message of a cancel.
    pub(super) fn cancel(&self, fence: Fence) -> ToAgent {
        ToAgent::Cancel { fence, grace_seconds: u32::try_from(self.grace.as_secs()).unwrap_or(u32::MAX) }
    }
}
