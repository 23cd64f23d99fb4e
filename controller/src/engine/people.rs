//! What people ask for: an end, a judgement, a join token.

use std::collections::BTreeMap;

use longshore_core::attempt::{Event, Proof, State};
use longshore_core::deployment::DeploymentState;
use longshore_core::id::DeploymentId;
use longshore_core::time::Timestamp;
use serde_json::json;

use super::cascade::on_attempt;
use super::children::cancel;
use super::{Engine, Error, Result};
use crate::store::rows::JoinTokenRow;

impl Engine {
    /// Asks for a deployment's end, and for that of its children. Asking again changes nothing.
    ///
    /// # Errors
    /// A conflict for one that has ended.
    pub async fn cancel(&self, id: DeploymentId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| cancel(tx, cx, id)).await
    }

    /// Lets a deployment that has not begun begin before all others that wait. Asking again changes nothing.
    ///
    /// # Errors
    /// A conflict for one that has begun or ended, or when another one has the greatest priority there is.
    pub async fn move_to_top(&self, id: DeploymentId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                if row.begun_at.is_some() || row.deployment.state.is_terminal() {
                    let message = format!("deployment `{id}` has begun already, so it waits behind nobody");
                    let hint = format!("`longshore explain {id}` says what it waits for");
                    return Err(Error::conflict("begun", message, hint));
                }
                let Some(most) = tx.top_priority(id).await?.filter(|most| *most >= row.priority) else {
                    return Ok(());
                };
                let priority = most.checked_add(1).ok_or_else(|| {
                    let message = "another deployment has the greatest priority there is; nothing was changed";
                    Error::conflict("no_priority_above", message, "cancel it, or wait".to_owned())
                })?;
                if !tx.set_priority(id, priority).await? {
                    return Err(super::cascade::stale(&id));
                }
                (cx.after.dispatch, cx.after.timers) = (true, true);
                cx.after.look.extend(row.locks.iter().cloned());
                cx.event(tx, "deployment.moved_to_top", Some(id), json!({ "priority": priority })).await
            })
        })
        .await
    }

    /// Declares an `unknown` deployment lost, on a person's responsibility. Its locks are freed.
    ///
    /// # Errors
    /// A conflict for one that is not `unknown`; a reason of less than 3 characters is invalid.
    pub async fn resolve(&self, id: DeploymentId, reason: &str, by: &str) -> Result<()> {
        let reason = reason.trim().to_owned();
        if reason.chars().count() < 3 || reason.len() > 2_000 {
            return Err(Error::invalid(
                "reason",
                "say in 3 to 2000 characters how you know that nothing of it runs any more",
                None,
            ));
        }
        let who = by.to_owned();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                if row.deployment.state != DeploymentState::Unknown {
                    let message = format!(
                        "deployment `{id}` is {}, only an unknown one can be resolved",
                        row.deployment.state.as_str()
                    );
                    return Err(Error::conflict(
                        "not_unknown",
                        message,
                        "ask for an end with `longshore cancel`".to_owned(),
                    ));
                }
                cx.event(tx, "deployment.resolved", Some(id), json!({ "reason": reason })).await?;
                for row in tx.live_attempts_of(id).await? {
                    if matches!(row.attempt.state, State::Unknown { .. }) {
                        let proof = Proof::Override { by: who.clone(), reason: reason.clone() };
                        on_attempt(tx, cx, &row.attempt, &Event::Proven(proof)).await?;
                    }
                }
                Ok(())
            })
        })
        .await
    }

    /// Records a join token by the SHA-256 of its text.
    ///
    /// # Errors
    /// When rows cannot be saved.
    pub async fn add_join_token(&self, new: NewJoinToken, hash: &[u8], by: &str) -> Result<JoinTokenRow> {
        let row = JoinTokenRow {
            id: self.clock().token_id(),
            pool: new.pool,
            labels: new.labels,
            uses: new.uses,
            used: 0,
            created_at: self.clock().now(),
            created_by: by.to_owned(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let hash = hash.to_vec();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                tx.insert_join_token(&row, &hash).await?;
                let detail =
                    json!({ "pool": row.pool, "labels": row.labels, "uses": row.uses, "expires_at": row.expires_at });
                cx.audit(tx, "join_token.created", format!("join_token/{}", row.id), detail).await?;
                Ok(row)
            })
        })
        .await
    }
}

/// A join token that is to be made.
#[derive(Debug, Clone)]
pub struct NewJoinToken {
    /// The pool that its agents join.
    pub pool: String,
    /// Labels that they get.
    pub labels: BTreeMap<String, String>,
    /// How many agents it lets in.
    pub uses: u32,
    /// When it ends.
    pub expires_at: Timestamp,
}
