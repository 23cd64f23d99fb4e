//! From two configuration files to a controller that serves and an agent that is connected to it.

use std::path::Path;
use std::process::Output as Finished;
use std::time::Duration;

use longshore_core::secret::Secret;
use serde_json::{Value, json};

use super::child::{Control, Program, command};
use super::layout::{self, Layout};
use super::{Error, MOST_DEATHS};
use crate::client::retry::Patience;
use crate::client::{Address, Client, Request};
use crate::failure::chain;
use crate::output::Output;

/// Pause between two looks at what is not there yet.
const LOOK: Duration = Duration::from_millis(50);
/// How often people are told that it takes time.
const PATIENCE_TEXT: u32 = 200;
/// Exit code of an agent whose identity is missing, expired or of another controller (`EX_NOPERM`).
const NO_IDENTITY: i32 = 77;
/// Pool that the agent joins.
const POOL: &str = "default";

/// What is needed on the way.
pub(super) struct BringUp<'a> {
    pub(super) layout: &'a Layout,
    pub(super) address: Address,
    pub(super) controller: &'a Program,
    pub(super) agent: &'a Program,
    pub(super) agent_control: &'a Control,
    pub(super) output: Output,
}

impl BringUp<'_> {
    /// Waits for the controller, enrols the agent when that was never done, starts it and waits until it is connected.
    /// Gives the token of the user `admin`.
    pub(super) async fn run(&self) -> Result<Secret, Error> {
        let anonymous = self.client(None)?;
        self.wait_for(self.controller, "the controller to be ready", async || anonymous.is_ready().await).await?;
        let token = self.admin_token()?;
        let client = self.client(Some(token.clone()))?;
        self.layout.forget(&self.layout.join_token());
        let known = self.layout.identity().exists();
        if !known {
            self.enroll(&client).await?;
        }
        self.agent_control.go.cancel();
        let mut again = known;
        self.wait_for(self.agent, "the agent to connect", async || {
            if again && self.agent.last_code.get() == Some(NO_IDENTITY) {
                again = false;
                self.output.message("[dev] the agent's certificate is of no use any more; it joins again");
                if let Err(error) = self.enroll(&client).await {
                    self.output.message(&format!("[dev] {}", chain(&error)));
                }
            }
            is_connected(&client).await
        })
        .await?;
        Ok(token)
    }

    fn client(&self, token: Option<Secret>) -> Result<Client, Error> {
        Client::new(self.address.clone(), token).map_err(Error::Client)
    }

    fn admin_token(&self) -> Result<Secret, Error> {
        let path = self.layout.admin_token();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Folder { what: "read", path, source })?;
        Ok(Secret::new(text.trim().to_owned()))
    }

    async fn enroll(&self, client: &Client) -> Result<(), Error> {
        let request = Request::post(&["join-tokens"]).json(&json!({ "pool": POOL }));
        let answer = client.json(&request, Patience::SHORT).await.map_err(Error::JoinToken)?;
        let text = |name| answer.get(name).and_then(Value::as_str).ok_or(Error::NoJoinToken(name));
        layout::write(&self.layout.ca_file(), text("ca_pem")?)?;
        let file = self.layout.join_token();
        layout::write(&file, text("token")?)?;
        let finished = self.enroll_with(&file).await;
        self.layout.forget(&file);
        let finished =
            finished.map_err(|source| Error::Start { name: "agent", path: self.agent.path.clone(), source })?;
        if finished.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
        Err(Error::Enroll { status: finished.status, said })
    }

    async fn enroll_with(&self, token_file: &Path) -> std::io::Result<Finished> {
        let mut command = command(&self.agent.path);
        command
            .args(["enroll", "--force", "--config"])
            .arg(self.layout.agent_config())
            .arg("--token-file")
            .arg(token_file);
        command.output().await
    }

    /// Looks until it is so; gives up when the child it depends on dies again and again.
    async fn wait_for(&self, child: &Program, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), Error> {
        let mut looks: u32 = 0;
        while !is_so().await {
            if child.deaths.get() >= MOST_DEATHS {
                return Err(Error::Dies { name: child.name, times: MOST_DEATHS });
            }
            looks = looks.saturating_add(1);
            if looks.is_multiple_of(PATIENCE_TEXT) {
                self.output.message(&format!("[dev] still waiting for {what}"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

async fn is_connected(client: &Client) -> bool {
    let Ok(agents) = client.json(&Request::get(&["agents"]), Patience::NONE).await else { return false };
    let connected = |agent: &Value| {
        agent.get("connected").and_then(Value::as_bool) == Some(true)
            || agent.get("state").and_then(Value::as_str) == Some("connected")
    };
    agents
        .as_array()
        .or_else(|| agents.get("agents").and_then(Value::as_array))
        .is_some_and(|agents| agents.iter().any(connected))
}
