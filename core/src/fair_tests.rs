use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const POOL: &str = "default";
/// Longest job, in ticks.
const LONGEST: u32 = 5;

/// A job that comes: when, of which project, how long it runs, and with which priority.
type Arrival = (u32, usize, u32, i64);
/// A job that waits: its place by age, how long it runs, and when it came.
type Waiting = (i64, u32, u32);

/// What became of one.
#[derive(Debug, Clone, PartialEq)]
struct Started {
    project: usize,
    seq: i64,
    priority: i64,
    /// When it could first be the next one of its project.
    first_at: u32,
    at: u32,
}

/// One pool with agents that take any job, tick by tick.
struct Pool {
    slots: usize,
    limits: Vec<Option<u32>>,
    most: Option<u32>,
    served: Served,
    /// By project and priority.
    lines: BTreeMap<(usize, i64), VecDeque<Waiting>>,
    /// Project and end.
    running: Vec<(usize, u32)>,
    started: Vec<Started>,
    last_start: BTreeMap<usize, u32>,
}

impl Pool {
    fn new(slots: usize, limits: &[Option<u32>], most: Option<u32>) -> Self {
        Self {
            slots,
            limits: limits.to_vec(),
            most,
            served: Served::default(),
            lines: BTreeMap::new(),
            running: Vec::new(),
            started: Vec::new(),
            last_start: BTreeMap::new(),
        }
    }

    fn head(&self, key: (usize, i64)) -> Option<Head> {
        let (seq, _, _) = *self.lines.get(&key)?.front()?;
        Some(Head { priority: key.1, project: key.0.to_string(), seq, max_running: self.limits[key.0] })
    }

    fn fill(&mut self, now: u32) {
        let keys: Vec<(usize, i64)> = self.lines.keys().copied().filter(|key| self.head(*key).is_some()).collect();
        let heads = keys.iter().filter_map(|key| self.head(*key)).collect();
        let mut running = Running::default();
        for (project, _) in &self.running {
            running.add(&project.to_string(), true);
        }
        let served = self.served.clone();
        let placement = Placement { max_per_project: self.most, ..Placement::default() };
        let mut turns = Turns::new(POOL, placement, heads, running, &served);
        while self.running.len() < self.slots {
            let Some(line) = turns.next() else { break };
            let key = keys[line];
            let (seq, length, came) = self.lines.get_mut(&key).unwrap().pop_front().unwrap();
            turns.started(line, self.head(key));
            self.served.note(POOL, &key.0.to_string());
            self.running.push((key.0, now + length));
            let first_at = self.last_start.insert(key.0, now).unwrap_or(0).max(came);
            self.started.push(Started { project: key.0, seq, priority: key.1, first_at, at: now });
        }
    }

    /// Runs it all; `look` sees the jobs that run after each tick.
    fn run(&mut self, arrivals: &[Arrival], mut look: impl FnMut(&BTreeMap<usize, u32>)) {
        let mut arrivals: VecDeque<(usize, Arrival)> = arrivals.iter().copied().enumerate().collect();
        arrivals.make_contiguous().sort_by_key(|(place, (at, ..))| (*at, *place));
        let (mut now, mut seq) = (0, 0);
        while !arrivals.is_empty() || !self.running.is_empty() || self.lines.values().any(|line| !line.is_empty()) {
            self.running.retain(|(_, end)| *end > now);
            while arrivals.front().is_some_and(|(_, (at, ..))| *at <= now) {
                let (_, (_, project, length, priority)) = arrivals.pop_front().unwrap();
                seq += 1;
                self.lines.entry((project, priority)).or_default().push_back((seq, length, now));
            }
            self.fill(now);
            let mut counts = BTreeMap::new();
            for (project, _) in &self.running {
                *counts.entry(*project).or_insert(0) += 1;
            }
            look(&counts);
            now += 1;
        }
    }
}

fn arrivals(projects: usize, priorities: i64) -> impl Strategy<Value = Vec<Arrival>> {
    proptest::collection::vec((0..40_u32, 0..projects, 1..=LONGEST, 0..priorities), 1..200)
}

proptest! {
    /// The bound of the module's words: its running jobs end, then every other project may start one.
    #[test]
    fn the_oldest_job_of_each_project_starts_within_a_bound(
        slots in 1..6_usize, all in arrivals(6, 1), limits in proptest::collection::vec(proptest::option::of(1..4_u32), 6),
    ) {
        let mut pool = Pool::new(slots, &limits, None);
        pool.run(&all, |_| {});
        let projects = all.iter().map(|(_, project, ..)| project).collect::<std::collections::BTreeSet<_>>().len();
        let bound = LONGEST * (1 + u32::try_from(projects.div_ceil(slots)).unwrap());
        prop_assert_eq!(pool.started.len(), all.len());
        for job in &pool.started {
            prop_assert!(job.at - job.first_at <= bound, "{job:?} waited longer than {bound}");
        }
    }

    #[test]
    fn limits_are_never_exceeded_and_nothing_is_left_behind(
        slots in 1..8_usize, all in arrivals(4, 3), most in proptest::option::of(1..4_u32),
        limits in proptest::collection::vec(proptest::option::of(1..4_u32), 4),
    ) {
        let mut pool = Pool::new(slots, &limits, most);
        let mut exceeded = Vec::new();
        pool.run(&all, |running| {
            let beyond = |(project, count): (&usize, &u32)| {
                limits[*project].is_some_and(|limit| *count > limit) || most.is_some_and(|limit| *count > limit)
            };
            if running.iter().any(beyond) || running.values().sum::<u32>() > u32::try_from(slots).unwrap() {
                exceeded.push(running.clone());
            }
        });
        prop_assert_eq!(exceeded, vec![]);
        prop_assert_eq!(pool.started.len(), all.len());
    }

    #[test]
    fn a_project_is_served_in_the_order_its_jobs_came(slots in 1..6_usize, all in arrivals(4, 1)) {
        let mut pool = Pool::new(slots, &[None; 4], None);
        pool.run(&all, |_| {});
        for project in 0..4 {
            let order: Vec<i64> = pool.started.iter().filter(|job| job.project == project).map(|job| job.seq).collect();
            prop_assert!(order.is_sorted(), "{order:?}");
        }
    }

    /// Whatever comes before, with one slot the job with the greatest priority of those that wait is next.
    #[test]
    fn greater_priority_is_first(all in proptest::collection::vec((0..1_u32, 0..4_usize, 1..=LONGEST, 0..4_i64), 1..80)) {
        let mut pool = Pool::new(1, &[None; 4], None);
        pool.run(&all, |_| {});
        prop_assert!(pool.started.is_sorted_by(|a, b| a.priority >= b.priority));
    }
}

#[test]
fn one_job_is_not_behind_a_thousand_of_another() {
    for slots in [1, 2, 7] {
        let mut pool = Pool::new(slots, &[None; 2], None);
        let mut all: Vec<Arrival> = vec![(0, 0, 3, 0); 1_000];
        all.push((1, 1, 3, 0));
        pool.run(&all, |_| {});
        let one = pool.started.iter().find(|job| job.project == 1).unwrap();
        assert!(one.at <= 4, "{slots} slots: {one:?}");
    }
}

#[test]
fn two_projects_share_evenly_whatever_they_queue() {
    let mut pool = Pool::new(4, &[None; 2], None);
    let all: Vec<Arrival> = (0..400).map(|n| (0, usize::from(n % 10 == 0), 2, 0)).collect();
    pool.run(&all, |_| {});
    let both: Vec<usize> = pool.started.iter().take(80).map(|job| job.project).collect();
    assert_eq!(both.iter().filter(|project| **project == 1).count(), 40, "{both:?}");
}

#[test]
fn what_cannot_be_placed_holds_up_its_own_line_only() {
    let head = |seq, project: &str| Head { priority: 0, project: project.to_owned(), seq, max_running: None };
    let served = Served::default();
    let heads = vec![head(1, "a"), head(2, "a"), head(3, "b")];
    let mut turns = Turns::new(POOL, Placement::default(), heads, Running::default(), &served);
    assert_eq!(turns.next(), Some(0));
    turns.close(0);
    assert_eq!(turns.next(), Some(1));
    turns.started(1, Some(head(4, "a")));
    assert_eq!(turns.next(), Some(2), "`a` has had its turn");
    turns.skip(2, Some(head(5, "b")));
    assert_eq!(turns.next(), Some(2));
    turns.close(2);
    assert_eq!(turns.next(), Some(1));
    assert_eq!(turns.running().here.get("a"), Some(&1));
}
