//! Streams to agents. In memory only: after a restart agents say hello again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::id::AgentId;
use longshore_core::offer::Profile;
use longshore_core::placement::Candidate;
use longshore_core::plugins::{self, Plugin, Readiness};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::rows::{OutboxRow, ToAgent};

/// Messages that may wait for a slow stream; when there are more it is cut and says hello again.
const QUEUE: usize = 256;

/// What an agent is and can, as far as it said.
#[derive(Debug, Clone)]
pub(super) struct Ability {
    pub(super) pool: String,
    /// By its join token.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) slots: u32,
    pub(super) mounts: BTreeSet<String>,
    pub(super) weakest: Profile,
    pub(super) draining: bool,
    pub(super) engine: bool,
    /// It tells digests of images.
    pub(super) images: bool,
    pub(super) plans: bool,
    pub(super) operations: bool,
    /// How far it is with its pool's plugins; `None`: it does not know of them.
    pub(super) plugins: Option<Readiness>,
    /// Digest of the plugins that its pool wants; empty for none.
    pub(super) wanted_plugins: String,
    pub(super) facts: Value,
    /// Slots that the agent itself counts as free. A job's slot is taken there until its last trace is gone, which is after
    /// the rows count it as ended.
    pub(super) free: u32,
    /// Why it declined the last offer, until it says anew how it is: what it declined once it would decline again.
    pub(super) declined: Option<String>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    ability: Ability,
    messages: mpsc::Sender<ToAgent>,
    sent: HashSet<i64>,
    cut: CancellationToken,
}

/// The agent's end of a session.
#[derive(Debug)]
pub struct Line {
    pub(super) number: u64,
    /// What the agent is to be told.
    pub messages: mpsc::Receiver<ToAgent>,
    /// Cancelled when the stream has to end.
    pub cut: CancellationToken,
}

impl Line {
    /// Tells the streams of one agent apart.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<AgentId, Session>,
    /// When each agent was last heard of, connected or not.
    seen: HashMap<AgentId, Duration>,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Sessions {
    clock: Clock,
    state: Mutex<State>,
}

impl Sessions {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session; an older one of the same agent is cut.
    pub(super) fn open(&self, agent: AgentId, ability: Ability) -> Line {
        let (messages, received) = mpsc::channel(QUEUE);
        let cut = CancellationToken::new();
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.seen.insert(agent, self.clock.elapsed());
        let session = Session { number, ability, messages, sent: HashSet::new(), cut: cut.clone() };
        if let Some(old) = state.sessions.insert(agent, session) {
            old.cut.cancel();
        }
        Line { number, messages: received, cut }
    }

    /// Ends an agent's session, whichever it is.
    pub(super) fn cut(&self, agent: AgentId) {
        if let Some(old) = self.lock().sessions.remove(&agent) {
            old.cut.cancel();
        }
    }

    /// Ends this session, if it is still the agent's.
    pub(super) fn close(&self, agent: AgentId, number: u64) {
        let mut state = self.lock();
        if state.sessions.get(&agent).is_some_and(|session| session.number == number) {
            state.sessions.remove(&agent);
        }
    }

    /// Something was heard on this session; `false` when it is not the agent's any more.
    pub(super) fn heard(&self, agent: AgentId, number: u64, update: impl FnOnce(&mut Ability)) -> bool {
        let seen = self.clock.elapsed();
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&agent).filter(|session| session.number == number) else {
            return false;
        };
        update(&mut session.ability);
        state.seen.insert(agent, seen);
        true
    }

    /// Whether an agent can do something; `None` while it has no stream.
    pub(super) fn can(&self, agent: AgentId, what: fn(&Ability) -> bool) -> Option<bool> {
        self.lock().sessions.get(&agent).map(|session| what(&session.ability))
    }

    /// The agent made a call of its own: it is there, whatever its stream is doing.
    pub(super) fn called(&self, agent: AgentId) {
        let seen = self.clock.elapsed();
        self.lock().seen.insert(agent, seen);
    }

    /// When each agent was last heard of since the start.
    pub(super) fn seen(&self) -> HashMap<AgentId, Duration> {
        self.lock().seen.clone()
    }

    /// Hands a message to the agent's stream; `false` when there is none. The same row is handed to a stream once.
    pub(super) fn send(&self, row: &OutboxRow) -> bool {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&row.agent) else { return false };
        if !session.sent.insert(row.id) {
            return true;
        }
        if session.messages.try_send(row.message.clone()).is_err() {
            tracing::warn!(agent = %row.agent, "the agent's stream does not take messages; it is cut and has to say hello again");
            session.cut.cancel();
            state.sessions.remove(&row.agent);
            return false;
        }
        true
    }

    /// Hands a message to the agent's stream that need not outlive it; `false` when it does not take it.
    pub(super) fn tell(&self, agent: AgentId, message: ToAgent) -> bool {
        self.lock().sessions.get(&agent).is_some_and(|session| session.messages.try_send(message).is_ok())
    }

    /// The plugins of a pool are these from now on: its agents are told, and get no job before they have them.
    pub(super) fn want_plugins(&self, pool: &str, set: &[Plugin]) {
        let digest = plugins::digest(set);
        let mut state = self.lock();
        let of_pool = |session: &&mut Session| session.ability.pool == pool && session.ability.wanted_plugins != digest;
        for session in state.sessions.values_mut().filter(of_pool) {
            session.ability.wanted_plugins.clone_from(&digest);
            if session.ability.plugins.is_some() && session.messages.try_send(ToAgent::Plugins(set.to_vec())).is_err() {
                // It hears of them when it says hello again.
                session.cut.cancel();
            }
        }
    }

    /// An agent of the pool that tells digests of images, if one is connected.
    pub(super) fn knows_images(&self, pool: &str) -> Option<AgentId> {
        let fits = |ability: &Ability| ability.images && ability.engine && ability.pool == pool;
        self.lock().sessions.iter().filter(|(_, session)| fits(&session.ability)).map(|(id, _)| *id).min()
    }

    /// Takes what was handed over: for each agent the rows.
    pub(super) fn take_sent(&self) -> Vec<(AgentId, i64)> {
        self.lock()
            .sessions
            .iter()
            .flat_map(|(agent, session)| session.sent.iter().map(|id| (*agent, *id)).collect::<Vec<_>>())
            .collect()
    }

    /// The rows are removed, so they cannot come again.
    pub(super) fn forget_sent(&self, rows: &[(AgentId, i64)]) {
        let mut state = self.lock();
        for (agent, id) in rows {
            if let Some(session) = state.sessions.get_mut(agent) {
                session.sent.remove(id);
            }
        }
    }

    /// Connected agents as placement sees them.
    pub(super) fn candidates(&self, busy: &HashMap<AgentId, u32>) -> Vec<Candidate> {
        let candidate = |(id, session): (&AgentId, &Session)| {
            let ability = session.ability.clone();
            Candidate {
                id: *id,
                pool: ability.pool,
                labels: ability.labels,
                connected: true,
                draining: ability.draining,
                slots: ability.slots,
                busy: busy.get(id).copied().unwrap_or(0).max(ability.slots.saturating_sub(ability.free)),
                mounts: ability.mounts,
                weakest_profile: ability.weakest,
                engine: ability.engine,
                plugins: plugins::objection(&ability.wanted_plugins, ability.plugins.as_ref()),
                declined: ability.declined,
            }
        };
        self.lock().sessions.iter().map(candidate).collect()
    }

    pub(super) fn ability(&self, agent: AgentId) -> Option<Ability> {
        self.lock().sessions.get(&agent).map(|session| session.ability.clone())
    }
}
