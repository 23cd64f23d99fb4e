//! A group of machines as a cloud keeps it: as many as it is set to, each with a boot time and maybe an early end.

use super::trace::{Random, Scenario};

/// Seconds between a cloud's notice and the end of a machine.
const NOTICE: u64 = 120;

/// A machine, from the moment it is paid for.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) number: u8,
    /// Its agent is connected from then on.
    pub(super) ready: u64,
    /// Seconds at which its jobs end, with their stacks.
    pub(super) jobs: Vec<(u64, u64)>,
    /// It has had nothing to do since then.
    pub(super) idle_since: u64,
    /// The group was told to end it: it takes no job, and goes when the last one ended.
    pub(super) leaving: bool,
    /// The cloud takes it back then.
    pub(super) lost: Option<u64>,
}

impl Machine {
    pub(super) fn draining(&self, now: u64) -> bool {
        self.leaving || self.lost.is_some_and(|at| now + NOTICE >= at)
    }

    pub(super) fn busy(&self) -> u32 {
        u32::try_from(self.jobs.len()).unwrap_or(u32::MAX)
    }
}

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) machines: Vec<Machine>,
    pub(super) capacity: u32,
    random: Random,
    next: u8,
    boot: (u64, u64),
    lives: Option<f64>,
}

impl Group {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let random = Random::new(seed ^ 0x67_726f_7570);
        let (boot, lives) = (scenario.boot, scenario.lives);
        Self { machines: Vec::new(), capacity: scenario.min, random, next: 0, boot, lives }
    }

    /// Begins machines until there are as many as it is set to.
    pub(super) fn fill(&mut self, now: u64) {
        let mut here = self.machines.iter().filter(|machine| !machine.leaving).count();
        while here < usize::try_from(self.capacity).unwrap_or(usize::MAX) {
            let ready = now + self.random.between(self.boot);
            let lives = self.lives.map(|mean| -mean * (1.0 - self.random.unit()).ln());
            // Whole seconds; what lives longer than the run lives for ever.
            let lost = lives.map(|seconds| {
                ready + (0u32..1_000_000).find(|n| f64::from(*n) >= seconds).map_or(u64::MAX >> 1, u64::from)
            });
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            self.machines.push(Machine { number, ready, jobs: Vec::new(), idle_since: ready, leaving: false, lost });
            here += 1;
        }
    }

    /// Fewer machines, whichever they are: what a group does that is set to fewer. They finish what they have.
    pub(super) fn set(&mut self, capacity: u32) {
        let mut here = self.machines.iter().filter(|machine| !machine.leaving).count();
        while here > usize::try_from(capacity).unwrap_or(usize::MAX) {
            let staying: Vec<usize> =
                (0..self.machines.len()).filter(|at| !self.machines.get(*at).is_some_and(|m| m.leaving)).collect();
            let pick = self.random.between((0, staying.len() as u64 - 1));
            let at = staying.get(usize::try_from(pick).unwrap_or(0)).copied().unwrap_or(0);
            if let Some(machine) = self.machines.get_mut(at) {
                machine.leaving = true;
            }
            here -= 1;
        }
        self.capacity = capacity;
    }

    /// These machines go.
    pub(super) fn remove(&mut self, numbers: &[u8], capacity: u32) {
        for machine in self.machines.iter_mut().filter(|machine| numbers.contains(&machine.number)) {
            machine.leaving = true;
        }
        self.capacity = capacity;
    }
}
