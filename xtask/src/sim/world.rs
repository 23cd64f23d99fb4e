//! Jobs on machines, second by second.

use std::collections::{BTreeSet, VecDeque};

use super::group::Group;
use super::policy::{Policy, View};
use super::trace::{Arrival, Scenario};

/// Longest time after the last arrival until everything has ended.
const TAIL: u64 = 6 * 3_600;

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Seconds that each job waited for a machine, sorted. Time that it waited for its stack is not counted.
    pub(super) waits: Vec<u64>,
    /// Seconds of machines, from their begin to their end.
    machine_seconds: u64,
    /// Seconds that the run took.
    length: u64,
    /// Most machines at once.
    pub(super) most: usize,
    /// Jobs that ended with a machine that the cloud took back.
    pub(super) lost: u32,
}

impl Outcome {
    /// A percentile of the waits, in seconds.
    pub(super) fn wait(&self, percent: usize) -> f64 {
        let at = (self.waits.len() * percent).div_ceil(100).saturating_sub(1);
        f64::from(u32::try_from(self.waits.get(at).copied().unwrap_or(0)).unwrap_or(u32::MAX))
    }

    pub(super) fn machine_hours(&self) -> f64 {
        f64::from(u32::try_from(self.machine_seconds).unwrap_or(u32::MAX)) / 3_600.0
    }

    pub(super) fn mean_machines(&self) -> f64 {
        self.machine_hours() * 3_600.0 / f64::from(u32::try_from(self.length.max(1)).unwrap_or(u32::MAX))
    }
}

/// A job that has not begun, and since when only a machine was missing.
struct Waiting {
    job: Arrival,
    since: Option<u64>,
}

struct World<'a> {
    scenario: &'a Scenario,
    group: Group,
    queue: VecDeque<Waiting>,
    held: BTreeSet<u64>,
    outcome: Outcome,
}

/// Runs a scenario under a policy.
pub(super) fn run(scenario: &Scenario, seed: u64, policy: &mut dyn Policy) -> Outcome {
    let outcome = Outcome { waits: Vec::new(), machine_seconds: 0, length: 0, most: 0, lost: 0 };
    let group = Group::new(scenario, seed);
    let mut world = World { scenario, group, queue: VecDeque::new(), held: BTreeSet::new(), outcome };
    let mut arrivals = scenario.arrivals(seed).into_iter().peekable();
    for now in 0..scenario.length + TAIL {
        while let Some(job) = arrivals.next_if(|job| job.at <= now) {
            world.queue.push_back(Waiting { job, since: None });
        }
        world.end(now);
        world.hand_out(now);
        // Machines are paid for while there may be jobs; what is left in the queue then is still run.
        if now < scenario.length {
            let view = View { now, helped: world.helped(), group: &world.group, slots: scenario.slots };
            policy.step(&view).apply(&mut world.group);
        } else if world.queue.is_empty() && world.group.machines.iter().all(|machine| machine.jobs.is_empty()) {
            break;
        }
        world.group.fill(now);
        if now < scenario.length {
            world.outcome.length += 1;
            world.outcome.machine_seconds += world.group.machines.len() as u64;
        }
        world.outcome.most = world.outcome.most.max(world.group.machines.len());
    }
    world.outcome.waits.sort_unstable();
    world.outcome
}

impl World<'_> {
    /// Jobs and machines whose time is over.
    fn end(&mut self, now: u64) {
        for machine in &mut self.group.machines {
            let before = machine.jobs.len();
            let lost = machine.lost.is_some_and(|at| at <= now);
            for (end, stack) in &machine.jobs {
                if *end <= now || lost {
                    self.held.remove(stack);
                    self.outcome.lost += u32::from(lost && *end > now);
                }
            }
            machine.jobs.retain(|(end, _)| *end > now && !lost);
            if before > 0 && machine.jobs.is_empty() {
                machine.idle_since = now;
            }
        }
        self.group.machines.retain(|machine| {
            let gone = machine.lost.is_some_and(|at| at <= now) || (machine.leaving && machine.jobs.is_empty());
            !gone
        });
    }

    /// First come, first served; the agent with the most free slots, as the controller picks it.
    fn hand_out(&mut self, now: u64) {
        let (slots, mut waiting) = (self.scenario.slots, VecDeque::new());
        let mut kept = self.held.clone();
        for mut next in std::mem::take(&mut self.queue) {
            // What waits keeps its stack from those behind it.
            if !kept.insert(next.job.stack) {
                waiting.push_back(next);
                continue;
            }
            let since = *next.since.get_or_insert(now);
            let free =
                self.group.machines.iter_mut().filter(|m| m.ready <= now && !m.draining(now) && m.busy() < slots);
            let Some(machine) = free.min_by_key(|m| (m.busy(), m.number)) else {
                waiting.push_back(next);
                continue;
            };
            machine.jobs.push((now + next.job.takes, next.job.stack));
            self.held.insert(next.job.stack);
            self.outcome.waits.push(now - since);
        }
        self.queue = waiting;
    }

    fn helped(&self) -> u32 {
        u32::try_from(self.queue.iter().filter(|next| next.since.is_some()).count()).unwrap_or(u32::MAX)
    }
}
