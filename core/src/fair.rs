//! Whose job is next, so that no project starves another.
//!
//! Jobs stand in lines: those of one pool, priority and project that ask the same of an agent, in the order they came. Only the first
//! job of each line matters, so finding the next job costs as much as there are lines, whatever their length.
//!
//! The order of turns:
//! 1. Greater priority is first.
//! 2. Of equal priority the project with the fewest jobs in the pool is first, and of those the one whose last start is longest ago.
//! 3. Within a project the job that came first is first.
//!
//! What follows from it, for jobs of equal priority: once nothing of a project runs, at most one job of each other project is started
//! before its next one, however many they have. So its oldest job waits at most until its own running jobs are over and then one job
//! of each other project. The limits count every job that is offered, running or of unknown fate.

use std::collections::{BTreeMap, HashMap};

use crate::placement::Placement;

/// Who the turns of one pool are counted for.
#[derive(Debug, Clone, Default)]
pub struct Served {
    counter: u64,
    /// By pool and project.
    last: HashMap<(String, String), u64>,
}

impl Served {
    /// A job of the project was started in the pool.
    pub fn note(&mut self, pool: &str, project: &str) {
        self.counter += 1;
        self.last.insert((pool.to_owned(), project.to_owned()), self.counter);
    }

    fn last(&self, pool: &str, project: &str) -> u64 {
        self.last.get(&(pool.to_owned(), project.to_owned())).copied().unwrap_or(0)
    }
}

/// The first job of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Greater ones go first.
    pub priority: i64,
    /// Whose job it is.
    pub project: String,
    /// Its place among all jobs, by age.
    pub seq: i64,
    /// Most jobs of the project that may run at once, in all pools.
    pub max_running: Option<u32>,
}

/// Jobs that count against limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Of each project in all pools.
    pub all: BTreeMap<String, u32>,
    /// Of each project in this pool.
    pub here: BTreeMap<String, u32>,
}

/// Why a job is not started although an agent may be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// The project's `max_running`.
    Project(u32),
    /// The pool's `max_per_project`.
    Pool(u32),
}

impl Running {
    /// One more job of the project.
    pub fn add(&mut self, project: &str, here: bool) {
        *self.all.entry(project.to_owned()).or_default() += 1;
        if here {
            *self.here.entry(project.to_owned()).or_default() += 1;
        }
    }

    /// The limit that keeps a project's job from being started.
    #[must_use]
    pub fn limit(&self, project: &str, max_running: Option<u32>, placement: &Placement) -> Option<Limited> {
        let of = |map: &BTreeMap<String, u32>| map.get(project).copied().unwrap_or(0);
        let own = max_running.filter(|most| of(&self.all) >= *most).map(Limited::Project);
        own.or_else(|| placement.max_per_project.filter(|most| of(&self.here) >= *most).map(Limited::Pool))
    }
}

/// The lines of one pool, and whose turn it is.
#[derive(Debug)]
pub struct Turns<'a> {
    pool: &'a str,
    placement: Placement,
    served: &'a Served,
    running: Running,
    /// Started in this round: later than everything in `served`.
    started: HashMap<String, u64>,
    heads: Vec<Option<Head>>,
}

impl<'a> Turns<'a> {
    /// The lines by their first jobs; their places in `heads` are their names below.
    #[must_use]
    pub fn new(pool: &'a str, placement: Placement, heads: Vec<Head>, running: Running, served: &'a Served) -> Self {
        let heads = heads.into_iter().map(Some).collect();
        Self { pool, placement, served, running, started: HashMap::new(), heads }
    }

    /// The line whose first job is next.
    #[must_use]
    pub fn next(&self) -> Option<usize> {
        let here = |project: &str| self.running.here.get(project).copied().unwrap_or(0);
        let free = |head: &&Head| self.running.limit(&head.project, head.max_running, &self.placement).is_none();
        self.heads
            .iter()
            .enumerate()
            .filter_map(|(line, head)| head.as_ref().filter(free).map(|head| (line, head)))
            .min_by_key(|(_, head)| {
                (std::cmp::Reverse(head.priority), here(&head.project), self.last(&head.project), head.seq)
            })
            .map(|(line, _)| line)
    }

    fn last(&self, project: &str) -> u64 {
        match self.started.get(project) {
            Some(order) => self.served.counter + order,
            None => self.served.last(self.pool, project),
        }
    }

    /// The first job of a line was started; `next` is the one behind it.
    pub fn started(&mut self, line: usize, next: Option<Head>) {
        let Some(head) = self.heads.get_mut(line).and_then(Option::take) else { return };
        self.running.add(&head.project, true);
        let order = self.started.values().max().copied().unwrap_or(0) + 1;
        self.started.insert(head.project, order);
        self.put(line, next);
    }

    /// The first job of a line cannot be started, but the one behind it may be.
    pub fn skip(&mut self, line: usize, next: Option<Head>) {
        self.put(line, next);
    }

    /// No agent takes the jobs of a line now.
    pub fn close(&mut self, line: usize) {
        self.put(line, None);
    }

    fn put(&mut self, line: usize, next: Option<Head>) {
        if let Some(slot) = self.heads.get_mut(line) {
            *slot = next;
        }
    }

    /// Jobs that count, with those started here.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
