//! Streams to agents. In memory only: after a restart agents say hello again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::id::AgentId;
use longshore_core::offer::Profile;
use longshore_core::placement::Candidate;
use longshore_core::plugins::{self, Plugin, Readiness};
use longshore_core::resources::Resources;
use longshore_core::time::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::plane::{Disk, Draining};
use super::view::PluginsView;
use crate::clock::Clock;
use crate::store::rows::{Drained, OutboxRow, ToAgent};

/// Between two alerts about the same agent.
const ALERT: Duration = Duration::from_secs(10 * 60);
/// Messages that may wait for a slow stream; when there are more it is cut and says hello again.
const QUEUE: usize = 256;

/// Why an agent whose machine the scaler lets go drains, for people.
const SCALED_IN: &str = "its machine is idle and is scaled in";

/// What an agent is and can, as far as it said.
#[derive(Debug, Clone)]
pub(super) struct Ability {
    pub(super) pool: String,
    /// By its join token.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) slots: u32,
    pub(super) mounts: BTreeSet<String>,
    pub(super) weakest: Profile,
    pub(super) draining: Option<Draining>,
    /// A person wants no more jobs there.
    pub(super) drained: Option<Drained>,
    /// Why its version gets no new jobs.
    pub(super) ahead: Option<String>,
    pub(super) engine: bool,
    /// It tells digests of images.
    pub(super) images: bool,
    pub(super) plans: bool,
    pub(super) operations: bool,
    pub(super) leaving: bool,
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
    /// It runs a container of its own when it is asked to.
    pub(super) probes: bool,
    /// What it has for all jobs together.
    pub(super) room: Resources,
    /// The most that one job gets.
    pub(super) largest: Resources,
    pub(super) disk: Disk,
}

impl Ability {
    /// Why it gets no more jobs, if so.
    fn drains(&self) -> Option<String> {
        let told = self.drained.as_ref().map(words);
        self.draining.as_ref().map(|draining| draining.reason.clone()).or(told)
    }

    /// How far it is with the plugins that its pool lists; `None`: it lists none.
    pub(super) fn plugins(&self) -> Option<PluginsView> {
        let digest = Some(&self.wanted_plugins).filter(|digest| !digest.is_empty())?.clone();
        let why_not = plugins::objection(&digest, self.plugins.as_ref());
        let told = self.plugins.as_ref().filter(|told| told.digest == digest).map(|told| told.message.clone());
        Some(PluginsView { ready: why_not.is_none(), digest, message: told.or(why_not).unwrap_or_default() })
    }
}

fn words(drained: &Drained) -> String {
    format!("{} wants it ({})", drained.by, drained.reason)
}

#[derive(Debug)]
struct Session {
    number: u64,
    ability: Ability,
    messages: mpsc::Sender<ToAgent>,
    sent: HashSet<i64>,
    cut: CancellationToken,
    /// Made anew by each process.
    instance: String,
    /// When something was last heard on it.
    heard: Duration,
    /// Another process wanted to say hello meanwhile.
    rival: Option<Rival>,
    /// When a rival was last told of.
    alerted: Option<Duration>,
}

/// Another process with the identity of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) instance: String,
    pub(super) boot_id: String,
}

/// Something was heard on a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// A rival said hello since something was last heard: now both are known to live. Told now and then.
    pub(super) rival: Option<Rival>,
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
    /// Cancelled when an agent is cut off: ends whatever it has open.
    cutoffs: HashMap<AgentId, CancellationToken>,
    /// Since when each agent says that it drains.
    draining: HashMap<AgentId, Timestamp>,
    /// Their machines go: nothing is offered to them. The rows are the truth; see `scale_in`.
    held: HashSet<AgentId>,
    next: u64,
}

impl State {
    fn drains(&mut self, agent: AgentId, ability: &Ability, now: Timestamp) {
        if ability.draining.is_some() {
            self.draining.entry(agent).or_insert(now);
        } else {
            self.draining.remove(&agent);
        }
    }
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
    pub(super) fn open(&self, agent: AgentId, instance: String, ability: Ability) -> Line {
        let (messages, received) = mpsc::channel(QUEUE);
        let cut = CancellationToken::new();
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let heard = self.clock.elapsed();
        state.seen.insert(agent, heard);
        state.drains(agent, &ability, self.clock.now());
        if let Some(drained) = ability.drained.as_ref().filter(|_| ability.leaving) {
            // The first message of an empty queue has room.
            drop(messages.try_send(ToAgent::Drain { reason: words(drained) }));
        }
        let (sent, cut_too) = (HashSet::new(), cut.clone());
        let session =
            Session { number, ability, messages, sent, cut: cut_too, instance, heard, rival: None, alerted: None };
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

    /// What an agent has open ends when this is cancelled.
    pub(super) fn cutoff(&self, agent: AgentId) -> CancellationToken {
        self.lock().cutoffs.entry(agent).or_default().clone()
    }

    /// Ends everything that an agent has open.
    pub(super) fn cut_off(&self, agent: AgentId) {
        if let Some(cutoff) = self.lock().cutoffs.remove(&agent) {
            cutoff.cancel();
        }
        self.cut(agent);
    }

    /// Whether another process than this one holds the agent's session and was heard within `patience`. It is remembered until that one
    /// is heard again.
    pub(super) fn contested(&self, agent: AgentId, rival: Rival, patience: Duration) -> bool {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&agent) else { return false };
        let other = !rival.instance.is_empty() && !session.instance.is_empty() && session.instance != rival.instance;
        if !other || now.saturating_sub(session.heard) >= patience {
            return false;
        }
        session.rival = Some(rival);
        true
    }

    /// Whether two processes have lately been seen to have the agent's identity.
    pub(super) fn is_cloned(&self, agent: AgentId) -> bool {
        let now = self.clock.elapsed();
        let alerted = self.lock().sessions.get(&agent).and_then(|session| session.alerted);
        alerted.is_some_and(|at| now.saturating_sub(at) < ALERT)
    }

    /// Ends this session, if it is still the agent's.
    pub(super) fn close(&self, agent: AgentId, number: u64) {
        let mut state = self.lock();
        if state.sessions.get(&agent).is_some_and(|session| session.number == number) {
            state.sessions.remove(&agent);
        }
    }

    /// Something was heard on this session; `None` when it is not the agent's any more.
    pub(super) fn heard(&self, agent: AgentId, number: u64, update: impl FnOnce(&mut Ability)) -> Option<Heard> {
        let seen = self.clock.elapsed();
        let mut state = self.lock();
        let session = state.sessions.get_mut(&agent).filter(|session| session.number == number)?;
        update(&mut session.ability);
        session.heard = seen;
        let quiet = session.alerted.is_some_and(|at| seen.saturating_sub(at) < ALERT);
        let rival = session.rival.take().filter(|_| !quiet);
        if rival.is_some() {
            session.alerted = Some(seen);
        }
        let ability = session.ability.clone();
        state.drains(agent, &ability, self.clock.now());
        state.seen.insert(agent, seen);
        Some(Heard { rival })
    }

    /// A person wants no more jobs on an agent, or wants them again.
    pub(super) fn drain(&self, agent: AgentId, drained: Option<Drained>) {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&agent) else { return };
        let reason = drained.as_ref().map(words).unwrap_or_default();
        let differs = session.ability.drained != drained;
        session.ability.drained = drained;
        // A stream that is too slow for it says hello again, and is told then.
        if differs && session.ability.leaving && session.messages.try_send(ToAgent::Drain { reason }).is_err() {
            session.cut.cancel();
        }
    }

    /// Since when an agent says that it drains.
    pub(super) fn draining_since(&self, agent: AgentId) -> Option<Timestamp> {
        self.lock().draining.get(&agent).copied()
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

    /// An agent takes no more for now, until it says anew how it is.
    pub(super) fn declines(&self, agent: AgentId, reason: &str) {
        if let Some(session) = self.lock().sessions.get_mut(&agent) {
            session.ability.declined = Some(reason.to_owned());
        }
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

    /// Nothing is offered to the agent from here on.
    pub(super) fn hold(&self, agent: AgentId) {
        self.lock().held.insert(agent);
    }

    /// The agent may be offered jobs again.
    pub(super) fn let_go(&self, agent: AgentId) {
        self.lock().held.remove(&agent);
    }

    /// Connected agents as placement sees them.
    pub(super) fn candidates(&self, fleet: &Fleet) -> Vec<Candidate> {
        let state = self.lock();
        let candidate = |(id, session): (&AgentId, &Session)| {
            // Not the facts, which are the larger part and of no use here.
            let ability = &session.ability;
            let (busy, reserved) = fleet.load(*id);
            Candidate {
                id: *id,
                pool: ability.pool.clone(),
                labels: ability.labels.clone(),
                connected: true,
                draining: ability.drains().or_else(|| state.held.contains(id).then(|| SCALED_IN.to_owned())),
                ahead: ability.ahead.clone(),
                slots: ability.slots,
                busy: busy.max(ability.slots.saturating_sub(ability.free)),
                mounts: ability.mounts.clone(),
                weakest_profile: ability.weakest,
                engine: ability.engine,
                plugins: plugins::objection(&ability.wanted_plugins, ability.plugins.as_ref()),
                declined: ability.declined.clone(),
                room: ability.room,
                reserved,
                largest: ability.largest,
                disk_left: ability.disk.left,
                low: ability.disk.low.clone(),
                quarantined: fleet.quarantined(*id),
                kept_for: None,
            }
        };
        state.sessions.iter().map(candidate).collect()
    }

    pub(super) fn ability(&self, agent: AgentId) -> Option<Ability> {
        let state = self.lock();
        let mut ability = state.sessions.get(&agent).map(|session| session.ability.clone())?;
        if state.held.contains(&agent) {
            ability.draining.get_or_insert_with(|| Draining { reason: SCALED_IN.to_owned(), until: None });
        }
        Some(ability)
    }
}
