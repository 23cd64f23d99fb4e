//! Which digest an image of a release has: asked of an agent when the release is made.
//!
//! The controller has no images and no way to a registry; agents do. A release whose images no agent could tell is pinned by the first
//! start of a container of it, so that an answer that does not come holds nothing up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_core::expression::Template;
use longshore_core::id::AgentId;
use longshore_core::offer::Pull;
use longshore_core::spec::{self, Project};
use longshore_core::variables::{self, Place};
use tokio::sync::oneshot;

use super::context::Values;
use super::create::set_value;
use super::releases::{held_spec, held_variables};
use super::{Engine, Result};
use crate::store::rows::{ReleaseRow, ToAgent};

/// How long a release waits for all of its images. A pull that takes longer goes on at the agent.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an agent said: the digest, or why it cannot tell.
pub(super) type Told = Result<String, String>;

/// Questions that wait for an agent.
#[derive(Debug, Default)]
pub(super) struct Questions {
    state: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    open: HashMap<u64, (AgentId, oneshot::Sender<Told>)>,
}

impl Questions {
    fn ask(&self, agent: AgentId) -> (u64, oneshot::Receiver<Told>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let number = state.last;
        state.open.insert(number, (agent, sender));
        (number, receiver)
    }

    fn forget(&self, number: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number);
    }

    /// Takes an answer; only the agent that was asked can give it.
    pub(super) fn answer(&self, agent: AgentId, number: u64, told: Told) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open.get(&number).is_some_and(|(asked, _)| *asked == agent)
            && let Some((_, waiting)) = state.open.remove(&number)
        {
            // Who asked may have given up.
            let _heard = waiting.send(told).is_ok();
        }
    }
}

impl Engine {
    /// Pins the images of a release that an agent of its pool can tell.
    pub(super) async fn pin_images(&self, release: &ReleaseRow) -> Result<()> {
        let row = release.clone();
        let (spec, references, pools) = self
            .read(move |tx| {
                Box::pin(async move {
                    let spec = held_spec(tx, &row).await?;
                    let rows = held_variables(tx, &row).await?;
                    let set: Vec<_> = rows.iter().filter_map(|row| set_value(&spec, row)).collect();
                    let known = tx.images(row.id).await?;
                    let mut references = references(&row, &spec, &set);
                    references.retain(|reference, _| !known.contains_key(reference));
                    Ok((spec, references, super::pools::settings(tx).await?))
                })
            })
            .await?;
        if references.is_empty() {
            return Ok(());
        }
        // Of the first pool in which somebody can tell: a release is for all of them.
        let mut names = spec.environments.iter().map(|environment| spec.pool_of(&environment.name));
        let found = names.find_map(|pool| self.0.sessions.knows_images(pool).map(|agent| (agent, pool)));
        let Some((agent, pool)) = found else { return Ok(()) };
        let always = pools.get(pool).is_some_and(|pool| pool.pull == Some(Pull::Always));
        let until = self.clock().elapsed().saturating_add(PATIENCE);
        let asked: Vec<_> = references
            .into_iter()
            .map(|(reference, pull)| {
                self.digest_of(agent, (reference, if always { Pull::Always } else { pull }), until)
            })
            .collect();
        let told: Vec<(String, String)> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        if told.is_empty() {
            return Ok(());
        }
        let id = release.id;
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                for (reference, digest) in &told {
                    tx.pin_image(id, (reference, digest), cx.now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn digest_of(
        &self,
        agent: AgentId,
        (reference, pull): (String, Pull),
        until: Duration,
    ) -> Option<(String, String)> {
        let (request, answer) = self.0.questions.ask(agent);
        let question = ToAgent::ResolveImage { request, reference: reference.clone(), pull };
        let told = if self.0.sessions.tell(agent, question) {
            tokio::select! {
                told = answer => told.ok(),
                () = self.clock().sleep_until(until) => None,
            }
        } else {
            None
        };
        self.0.questions.forget(request);
        match told {
            Some(Ok(digest)) => Some((reference, digest)),
            Some(Err(reason)) => {
                tracing::warn!(%agent, reference, reason, "an agent cannot tell the digest of a release's image");
                None
            }
            None => None,
        }
    }
}

/// Names of the images that the steps of a release have, in any of its environments; and whether any step asks the registry for it.
fn references(release: &ReleaseRow, spec: &Project, set: &[variables::SetValue]) -> BTreeMap<String, Pull> {
    let (mut found, given) = (BTreeMap::new(), BTreeMap::new());
    for environment in &spec.environments {
        let place = Place { environment: &environment.name, channel: &release.channel, step: None, given: &given };
        let resolved = variables::resolve(spec, set, &place);
        for step in &spec.steps {
            let name = &release.project_name;
            let values = Values::before_release(name, &environment.name, resolved.clone(), &step.name);
            let text = step.image.as_ref().and_then(|image: &Template| image.render(&values).ok());
            if let Some(image) = text.map(|image| image.text).filter(|image| spec::check_image(image).is_ok()) {
                let pull = found.entry(image).or_insert(step.pull);
                if step.pull == Pull::Always {
                    *pull = Pull::Always;
                }
            }
        }
    }
    found
}
