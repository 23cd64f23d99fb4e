//! Agents that ask for what is not theirs.

use std::time::Duration;

use longshore_core::id::AgentId;
use serde_json::json;

use super::{Engine, Result};

impl Engine {
    /// Writes down that an agent was refused what is not its own so many times. Nothing else happens to it: a person decides.
    ///
    /// # Errors
    /// When rows cannot be saved.
    pub async fn suspect(&self, agent: AgentId, rpc: &'static str, refusals: u32, within: Duration) -> Result<()> {
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                let detail = json!({ "rpc": rpc, "refusals": refusals, "within_seconds": within.as_secs() });
                cx.refused(tx, "agent.foreign_attempts", format!("agent/{agent}"), detail).await
            })
        })
        .await
    }
}
