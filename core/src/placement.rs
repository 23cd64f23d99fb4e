//! Which agent gets a job, and for every other one the exact predicate that rejected it (promise P11).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::AgentId;
use crate::offer::{OfferStep, Profile};

/// An agent as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: AgentId,
    /// The pool it belongs to.
    pub pool: String,
    /// Labels by its join token.
    pub labels: BTreeMap<String, String>,
    /// A stream to it is open.
    pub connected: bool,
    /// It takes no more jobs.
    pub draining: bool,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Jobs that are offered to it, run there or are being cleared away there.
    pub busy: u32,
    /// Names of the host directories jobs may mount.
    pub mounts: BTreeSet<String>,
    /// Weakest profile it permits.
    pub weakest_profile: Profile,
    /// Container engine answers.
    pub engine: bool,
    /// Why it has not the pool's plugins ready; none: it has.
    pub plugins: Option<String>,
    /// Why it declined the last offer; it is asked again when it has said how it is since.
    pub declined: Option<String>,
}

/// What a job asks of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The pool it must run in.
    pub pool: &'a str,
    /// Labels that the agent has to have.
    pub labels: &'a BTreeMap<String, String>,
    /// Its steps.
    pub steps: &'a [OfferStep],
}

/// Why an agent does not get a job: the predicate's name and the words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `pool`, `label`, `connected`, `draining`, `engine`, `mount`, `profile`, `plugins`, `slots` or `declined`.
    pub predicate: &'static str,
    /// For people.
    pub message: String,
}

/// Every predicate that rejects `agent` for the job; none when it may have it.
#[must_use]
pub fn rejections(agent: &Candidate, request: &Request<'_>) -> Vec<Rejection> {
    let mut found = Vec::new();
    let mut reject = |predicate, message: String| found.push(Rejection { predicate, message });
    if agent.pool != request.pool {
        reject("pool", format!("is in pool `{}`, the job asks for `{}`", agent.pool, request.pool));
    }
    for (name, value) in request.labels {
        match agent.labels.get(name) {
            Some(own) if own == value => {}
            Some(own) => reject("label", format!("has the label `{name}={own}`, the job asks for `{name}={value}`")),
            None => reject("label", format!("has no label `{name}`, the job asks for `{name}={value}`")),
        }
    }
    if !agent.connected {
        reject("connected", "is not connected".to_owned());
    }
    if agent.draining {
        reject("draining", "is draining and takes no more jobs".to_owned());
    }
    if agent.connected && !agent.engine {
        reject("engine", "its container engine does not answer".to_owned());
    }
    if let Some(why) = &agent.plugins {
        reject("plugins", why.clone());
    }
    for step in request.steps {
        for mount in step.mounts.iter().filter(|mount| !agent.mounts.contains(*mount)) {
            reject("mount", format!("has no mount `{mount}`, which step `{}` asks for", step.name));
        }
        if !step.profile.permitted_by(agent.weakest_profile) {
            reject(
                "profile",
                format!(
                    "permits no profile weaker than `{}`, step `{}` asks for `{}`",
                    agent.weakest_profile.as_str(),
                    step.name,
                    step.profile.as_str()
                ),
            );
        }
    }
    if agent.busy >= agent.slots {
        reject("slots", format!("all {} slots are taken", agent.slots));
    }
    if let Some(reason) = &agent.declined {
        reject("declined", format!("declined the last offer ({reason}); it is asked again at its next heartbeat"));
    }
    found
}

/// Picks the agent for a job: the one with the most free slots, then the smallest id.
#[must_use]
pub fn pick<'a>(agents: impl IntoIterator<Item = &'a Candidate>, request: &Request<'_>) -> Option<&'a Candidate> {
    agents
        .into_iter()
        .filter(|agent| rejections(agent, request).is_empty())
        .min_by_key(|agent| (std::cmp::Reverse(agent.slots - agent.busy), agent.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::Network;
    use crate::time::Timestamp;

    fn agent(n: u8) -> Candidate {
        Candidate {
            id: AgentId::new(Timestamp::from_micros(0), [n; 10]),
            pool: "default".to_owned(),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            connected: true,
            draining: false,
            slots: 2,
            busy: 0,
            mounts: BTreeSet::from(["state".to_owned()]),
            weakest_profile: Profile::Standard,
            engine: true,
            plugins: None,
            declined: None,
        }
    }

    fn step() -> OfferStep {
        OfferStep {
            index: 0,
            name: "one".to_owned(),
            image: "tiny".to_owned(),
            profile: Profile::Standard,
            network: Network::None,
            mounts: vec!["state".to_owned()],
            pulumi: false,
            pull: crate::offer::Pull::default(),
            digest: None,
        }
    }

    #[test]
    fn each_predicate_rejects_alone() {
        let steps = [step()];
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let request = Request { pool: "default", labels: &labels, steps: &steps };
        type Break = fn(&mut Candidate);
        let cases: [(&str, Break); 11] = [
            ("label", |a| a.labels.clear()),
            ("label", |a| drop(a.labels.insert("zone".to_owned(), "b".to_owned()))),
            ("pool", |a| a.pool = "gpu".to_owned()),
            ("connected", |a| a.connected = false),
            ("draining", |a| a.draining = true),
            ("engine", |a| a.engine = false),
            ("plugins", |a| a.plugins = Some("has not all plugins of the pool: 1 of 2".to_owned())),
            ("mount", |a| a.mounts.clear()),
            ("profile", |a| a.weakest_profile = Profile::Locked),
            ("slots", |a| a.busy = 2),
            ("declined", |a| a.declined = Some("the disk is full".to_owned())),
        ];
        assert_eq!(rejections(&agent(1), &request), []);
        for (predicate, break_it) in cases {
            let mut one = agent(1);
            break_it(&mut one);
            let found: Vec<_> = rejections(&one, &request).into_iter().map(|r| r.predicate).collect();
            assert_eq!(found, [predicate]);
            assert_eq!(pick([&one], &request), None);
        }
    }

    #[test]
    fn the_least_busy_agent_is_picked() {
        let (mut first, second) = (agent(1), agent(2));
        let steps = [step()];
        let labels = BTreeMap::new();
        let request = Request { pool: "default", labels: &labels, steps: &steps };
        assert_eq!(pick([&second, &first], &request).unwrap().id, first.id);
        first.busy = 1;
        assert_eq!(pick([&second, &first], &request).unwrap().id, second.id);
    }
}
