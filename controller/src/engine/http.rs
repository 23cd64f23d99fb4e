//! What the controller begins itself when it is due: `http` steps, where it asks an address until the answer is good or no try is
//! left, and the children of `deploy-release` steps.
//!
//! Asking twice does no harm, so a controller that was killed while it asked asks again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_core::id::DeploymentId;
use longshore_core::spec::{Action, Http, Step, check_url};
use longshore_core::step::{End, StepState};
use serde_json::json;

use super::approve::end_gate;
use super::cascade::{move_step, stale};
use super::context::Values;
use super::flow::{follow, spec_of};
use super::{Engine, Error, Result, guide};
use crate::store::rows::{DeploymentRow, StepRow};
use crate::tasks::OnError;

/// Time for one answer when the step does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a body that are looked at.
const MAX_BODY: usize = 1 << 20;
/// Longest sleep, whatever is due.
const NAP: Duration = Duration::from_secs(3_600);

/// One that is being asked; forgotten when this is dropped.
struct Asking {
    all: Arc<Mutex<HashSet<(DeploymentId, u32)>>>,
    which: (DeploymentId, u32),
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.which);
    }
}

impl Engine {
    pub(super) async fn check_forever(self) -> Result<()> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Internal(format!("no HTTP client: {error}")))?;
        let asking: Arc<Mutex<HashSet<(DeploymentId, u32)>>> = Arc::default();
        loop {
            let began = self.clock().elapsed();
            let next = match self.ask_due(&client, &asking).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "checks failed; they are tried again");
                    self.settings().heartbeat
                }
            };
            tokio::select! {
                () = self.0.checks.notified() => {}
                () = self.clock().sleep_until(began.saturating_add(next)) => {}
            }
        }
    }

    /// Begins what is due; answers how long nothing will be.
    async fn ask_due(
        &self,
        client: &reqwest::Client,
        asking: &Arc<Mutex<HashSet<(DeploymentId, u32)>>>,
    ) -> Result<Duration> {
        let due = self.read(|tx| Box::pin(async move { Ok(tx.due_steps().await?) })).await?;
        let now = self.clock().now();
        let mut next = NAP;
        for step in due {
            let Some(at) = step.due_at else { continue };
            if at > now {
                next = next.min(at.since(now).max(Duration::from_millis(1)));
                continue;
            }
            let which = (step.deployment, step.index);
            if !asking.lock().unwrap_or_else(PoisonError::into_inner).insert(which) {
                continue;
            }
            let (engine, client, asked) = (self.clone(), client.clone(), Asking { all: Arc::clone(asking), which });
            self.tasks().spawn_until_stop("check", OnError::Log, async move {
                let done = engine.ask(&client, step).await;
                if done.is_err() {
                    // A full disk, say: it stays due.
                    let pause = engine.clock().sleep(engine.settings().heartbeat);
                    let _paused = engine.tasks().token().run_until_cancelled(pause).await.is_some();
                }
                drop(asked);
                engine.0.checks.notify_one();
                done
            });
        }
        Ok(next)
    }

    async fn ask(&self, client: &reqwest::Client, step: StepRow) -> Result<()> {
        let (id, index) = (step.deployment, step.index);
        let vault = Arc::clone(&self.0.parts.vault);
        let (spec, url) = self
            .read(move |tx| {
                Box::pin(async move {
                    let row: DeploymentRow =
                        tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                    let spec = spec_of(tx, &row).await?;
                    let place = usize::try_from(index).unwrap_or(usize::MAX);
                    let spec = spec.steps.get(place).cloned().ok_or_else(|| Error::not_found("step", &index))?;
                    let steps = tx.steps(id).await?;
                    let values = Values::load(tx, &vault, &row, Some(&spec.name), &steps).await?;
                    Ok((spec.clone(), url(&spec, &values)))
                })
            })
            .await?;
        let http = match &spec.action {
            Action::Http(http) => http,
            Action::DeployRelease(_) => return self.begin_child(id, index).await,
            _ => return Ok(()),
        };
        let answer = match url {
            Ok(url) => answer(client, http, &url, spec.timeout.unwrap_or(TIMEOUT)).await,
            Err(reason) => Err(reason),
        };
        self.note(id, index, &spec, answer).await
    }

    /// Records one answer.
    async fn note(&self, id: DeploymentId, index: u32, spec: &Step, answer: Result<(), String>) -> Result<()> {
        let (spec, retries) = (spec.clone(), spec.retries);
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let found = tx.steps(id).await?.into_iter().find(|step| step.index == index);
                // A cancel was faster.
                let Some(mut step) = found.filter(|step| step.state == StepState::Running) else { return Ok(()) };
                step.tries += 1;
                match (answer, retries) {
                    (Ok(()), _) => end_gate(tx, cx, id, index, End::Succeeded, None).await?,
                    (Err(why), Some(retries)) if step.tries <= retries.max => {
                        step.reason = Some(format!("try {} of {}: {why}", step.tries, retries.max + 1));
                        step.due_at = Some(cx.now.after(retries.wait(step.tries)));
                        cx.after.timers = true;
                        cx.after.changed.insert(id);
                        tx.update_step(&step).await?;
                        return Ok(());
                    }
                    (Err(why), _) => {
                        let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                        let event = guide::failed(&row, &spec, &mut step);
                        let state = step.state.after(event).ok_or_else(|| stale(&step.name))?;
                        (step.reason, step.due_at) = (Some(why), None);
                        move_step(tx, cx, &mut step, state).await?;
                        let action = if state.is_terminal() { "step.ended" } else { "step.asked" };
                        let detail = json!({ "step": step.name, "state": state, "reason": step.reason });
                        cx.event(tx, action, Some(id), detail).await?;
                    }
                }
                follow(tx, cx, id).await
            })
        })
        .await
    }
}

fn url(spec: &Step, values: &Values) -> Result<String, String> {
    let Action::Http(http) = &spec.action else { return Err("it asks no address".to_owned()) };
    let rendered = http.url.render(values).map_err(|error| format!("`http.url`: {error}"))?;
    if rendered.secret {
        return Err("`http.url` holds a secret, which would be shown".to_owned());
    }
    check_url(&rendered.text).map_err(|error| format!("`http.url` came out as `{}`: {error}", rendered.text))?;
    Ok(rendered.text)
}

/// Asks once. The error says what was wrong with the answer.
async fn answer(client: &reqwest::Client, http: &Http, url: &str, timeout: Duration) -> Result<(), String> {
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("`{url}` does not answer: {error}{cause}")
    };
    let mut response = client.get(url).timeout(timeout).send().await.map_err(failed)?;
    let status = response.status().as_u16();
    if status != http.status {
        return Err(format!("`{url}` answers with status {status}, wanted {}", http.status));
    }
    let Some(wanted) = &http.body else { return Ok(()) };
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            body.truncate(MAX_BODY);
            break;
        }
    }
    if String::from_utf8_lossy(&body).contains(wanted.as_str()) {
        return Ok(());
    }
    Err(format!("`{url}` answers with status {status}, but its body does not hold `{wanted}`"))
}
