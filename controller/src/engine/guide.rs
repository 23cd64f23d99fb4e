//! Guided failure: a step that failed for good waits for a person, who has it tried again, ignored or failed.
//!
//! Invariants: the attempt ends as if nobody were asked, so no slot of an agent is held while people think; a retry is a new job that
//! begins with the step, in a fresh workspace; a cancel decides for the person: what failed has failed.

use longshore_core::id::DeploymentId;
use longshore_core::spec::{Action, Step};
use longshore_core::step::{Choice, End, StepEvent, StepState};
use serde_json::json;

use super::cascade::{move_step, stale};
use super::flow::follow;
use super::{Engine, Error, Result};
use crate::store::rows::{DeploymentRow, StepRow};

/// Longest comment.
const MAX_COMMENT: usize = 4_000;

/// What becomes of a step that failed for good.
pub(super) fn failed(row: &DeploymentRow, spec: &Step, step: &mut StepRow) -> StepEvent {
    let may_ask = spec.in_container() || matches!(spec.action, Action::Http(_));
    if row.guided && row.deployment.cancel_asked.is_none() && may_ask {
        step.guided = true;
        StepEvent::Asked
    } else {
        StepEvent::Ended(End::Failed)
    }
}

/// Whether people are asked about this step.
pub(super) fn is_asked(step: &StepRow) -> bool {
    step.guided && step.state == StepState::Waiting
}

/// What a deployment waits for, with this step.
pub(super) fn words(step: &StepRow) -> String {
    let command =
        format!("longshore deployment guide {} --step {} retry|ignore|fail --comment TEXT", step.deployment, step.name);
    format!("a person, since step `{}` failed: `{command}`", step.name)
}

impl Engine {
    /// Takes a person's word on a step that failed.
    ///
    /// # Errors
    /// When nobody is asked about the step, or the comment is missing. Nothing changes then.
    pub async fn guide(&self, id: DeploymentId, name: &str, choice: Choice, comment: &str, by: &str) -> Result<()> {
        let (name, comment, person) = (name.to_owned(), comment.trim().to_owned(), by.to_owned());
        if comment.is_empty() || comment.len() > MAX_COMMENT {
            let message = format!("say why in 1 to {MAX_COMMENT} bytes; it is kept with the step");
            return Err(Error::invalid("comment", message, None));
        }
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                let found = tx.steps(id).await?.into_iter().find(|step| step.name == name);
                let mut step = found.ok_or_else(|| Error::not_found("step", &name))?;
                if row.deployment.state.is_terminal() || !is_asked(&step) {
                    let message = format!(
                        "step `{name}` of deployment `{id}` is {}, and nobody is asked about it; it is as it was",
                        step.state.as_str()
                    );
                    let hint = format!("`longshore deployment show {id}` says what it waits for");
                    return Err(Error::conflict("not_asked", message, hint));
                }
                let state = step.state.after(choice.event()).ok_or_else(|| stale(&name))?;
                step.reason = Some(choice.reason(step.reason.as_deref().unwrap_or("failed"), &person, &comment));
                if choice == Choice::Retry {
                    (step.tries, step.due_at, step.exit_code, step.signal) = (0, None, None, None);
                }
                move_step(tx, cx, &mut step, state).await?;
                let detail = json!({ "step": name, "choice": choice.as_str(), "comment": comment });
                cx.event(tx, "step.guided", Some(id), detail).await?;
                follow(tx, cx, id).await
            })
        })
        .await
    }
}
