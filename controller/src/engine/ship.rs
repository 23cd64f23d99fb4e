//! Which log an agent may append to.

use std::sync::Arc;

use longshore_core::attempt::State;
use longshore_core::fence::Fence;
use longshore_core::id::AgentId;

use super::Engine;
use super::hello::own;
use super::plane::Error;
use crate::logs::Log;

impl Engine {
    /// The log of a step that was confirmed in the caller's attempt. One that is complete takes nothing new, but says how far it is durable.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Fenced`], [`Error::Invalid`] for a step that was not confirmed.
    pub async fn log_of(&self, agent: AgentId, said: Fence, step: u32) -> Result<Arc<Log>, Error> {
        let ended = self
            .0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let start = tx.step_attempt(said.attempt, step).await?;
                    let start = start
                        .ok_or_else(|| Error::Invalid(format!("step {step} was not confirmed in this attempt")))?;
                    Ok::<_, Error>(start.state.is_terminal() || matches!(row.attempt.state, State::Ended { .. }))
                })
            })
            .await?;
        if ended {
            // A crash may have come between the row and the file.
            self.logs().seal(said.attempt, step).await;
        }
        Ok(self.logs().log(said.attempt, step).await?)
    }

    /// The package of the caller's attempt.
    ///
    /// # Errors
    /// [`Error::Foreign`] for another package or attempt, [`Error::Fenced`].
    pub async fn package_of(&self, agent: AgentId, said: Fence, sha256: &str) -> Result<(), Error> {
        let wanted = sha256.to_owned();
        self.0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    if matches!(row.attempt.state, State::Ended { .. }) {
                        return Err(Error::Fenced(format!("attempt `{}` has ended", said.attempt)));
                    }
                    let deployment = tx.deployment(row.attempt.deployment).await?.ok_or(Error::Foreign)?;
                    if deployment.package.as_deref() == Some(wanted.as_str()) { Ok(()) } else { Err(Error::Foreign) }
                })
            })
            .await
    }
}
