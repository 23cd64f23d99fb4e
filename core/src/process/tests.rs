//! Any graph, any order of ends: the rules that hold all the same.

use proptest::prelude::*;

use super::*;
use crate::spec::{Action, Approval, Script};

/// A step that needs these; `None`: what stands before it.
fn step(name: usize, needs: Option<Vec<usize>>, container: bool) -> Step {
    let approval = Approval { teams: Vec::new(), needs: 1, plan: None, expires: None };
    let run = Action::Run { script: Script::Shell("true".to_owned()) };
    Step {
        name: format!("s{name}"),
        image: None,
        action: if container { run } else { Action::Approval(approval) },
        mounts: Vec::new(),
        accounts: Vec::new(),
        env: Vec::new(),
        timeout: None,
        network: crate::spec::Network::default(),
        profile: crate::spec::Profile::default(),
        resources: crate::resources::Resources::default(),
        pull: Default::default(),
        needs: needs.map(|needs| needs.into_iter().map(|index| format!("s{index}")).collect()),
        group: None,
        when: None,
        retries: None,
        skippable: false,
        line: 0,
    }
}

fn chain(length: usize) -> Vec<Step> {
    (0..length).map(|index| step(index, None, true)).collect()
}

fn queued(count: usize) -> Vec<StepNow> {
    vec![StepNow { state: StepState::Queued, skipped: None, in_job: false, skip: false }; count]
}

/// As without any `when`.
fn by_success(_: usize, failed: bool) -> Result<bool, String> {
    Ok(!failed)
}

#[test]
fn containers_in_a_row_are_one_job_and_a_gate_parts_them() {
    let mut steps = chain(5);
    assert_eq!(Graph::new(&steps).advance(&queued(5), false, by_success), [Move::Job { steps: vec![0, 1, 2, 3, 4] }]);
    steps[2] = step(2, None, false);
    let graph = Graph::new(&steps);
    let mut now = queued(5);
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![0, 1] }]);
    now[0].state = StepState::Succeeded;
    now[1].state = StepState::Succeeded;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Open { step: 2 }]);
    now[2].state = StepState::Succeeded;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![3, 4] }]);
}

#[test]
fn a_fork_begins_both_ways_and_a_join_waits_for_both() {
    let steps = [
        step(0, None, true),
        step(1, Some(vec![0]), true),
        step(2, Some(vec![0]), true),
        step(3, Some(vec![1, 2]), true),
    ];
    let graph = Graph::new(&steps);
    let mut now = queued(4);
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![0] }]);
    assert!(graph.concurrent(1, 2) && !graph.concurrent(0, 3) && !graph.concurrent(1, 1));
    now[0].state = StepState::Succeeded;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![1] }, Move::Job { steps: vec![2] }]);
    now[1].state = StepState::Succeeded;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![2] }]);
    now[2].state = StepState::Failed;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Skip { step: 3, by: SkippedBy::Failure }]);
}

#[test]
fn a_condition_that_cannot_be_worked_out_fails_its_step_and_those_behind() {
    let graph = Graph::new(&[step(0, None, false), step(1, None, true)]);
    let odd = |index: usize, failed: bool| if index == 0 { Err("odd".to_owned()) } else { Ok(!failed) };
    let moves = graph.advance(&queued(2), false, odd);
    let failed = Move::Fail { step: 0, reason: "odd".to_owned() };
    assert_eq!(moves, [failed, Move::Skip { step: 1, by: SkippedBy::Failure }]);
}

#[test]
fn what_is_left_out_is_no_failure_and_what_a_cancel_left_is_one() {
    let graph = Graph::new(&chain(2));
    let first = |index: usize, failed: bool| Ok(index != 0 && !failed);
    let moves = graph.advance(&queued(2), false, first);
    assert_eq!(moves, [Move::Skip { step: 0, by: SkippedBy::Condition }, Move::Job { steps: vec![1] }]);
    let mut now = queued(2);
    (now[0].state, now[0].skipped) = (StepState::Skipped, Some(SkippedBy::Cancel));
    assert_eq!(graph.advance(&now, false, by_success), [Move::Skip { step: 1, by: SkippedBy::Failure }]);
}

#[test]
fn what_a_person_leaves_out_is_skipped_in_its_turn_and_is_no_failure() {
    let graph = Graph::new(&chain(3));
    let mut now = queued(3);
    now[1].skip = true;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![0, 1, 2] }]);
    now.iter_mut().for_each(|now| now.in_job = true);
    now[0].state = StepState::Succeeded;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Skip { step: 1, by: SkippedBy::Person }]);
    (now[1].state, now[1].skipped) = (StepState::Skipped, Some(SkippedBy::Person));
    now[2].in_job = false;
    assert_eq!(graph.advance(&now, false, by_success), [Move::Job { steps: vec![2] }]);
}

/// A deployment whose parts end in an order that `choices` makes up.
struct Run {
    steps: Vec<Step>,
    graph: Graph,
    now: Vec<StepNow>,
    jobs: Vec<Vec<usize>>,
    canceled: bool,
    begun: Vec<bool>,
    choices: std::iter::Cycle<std::vec::IntoIter<u8>>,
}

impl Run {
    fn new(steps: Vec<Step>, choices: Vec<u8>) -> Self {
        let (graph, mut now, begun) = (Graph::new(&steps), queued(steps.len()), vec![false; steps.len()]);
        for (now, choice) in now.iter_mut().zip(&choices) {
            now.skip = choice.is_multiple_of(7);
        }
        Self { steps, graph, now, jobs: Vec::new(), canceled: false, begun, choices: choices.into_iter().cycle() }
    }

    fn choice(&mut self, of: usize) -> usize {
        usize::from(self.choices.next().unwrap()) % of
    }

    /// Conditions that differ by step: always, on failure, on success, never.
    fn moves(&self) -> Vec<Move> {
        let holds = |step: usize, failed: bool| match step % 5 {
            1 => Ok(true),
            2 if step.is_multiple_of(2) => Ok(failed),
            4 if step % 8 == 4 => Err("odd".to_owned()),
            _ => Ok(!failed),
        };
        self.graph.advance(&self.now, self.canceled, holds)
    }

    fn begin(&mut self, step: usize) {
        let before = predecessors(&self.steps);
        assert!(before[step].iter().all(|before| self.now[*before].state.is_terminal()), "{step} begins too early");
        assert!(!self.canceled, "{step} begins after a cancel");
        assert!(!self.now[step].skip, "{step} begins though a person left it out");
        assert!(!std::mem::replace(&mut self.begun[step], true), "{step} begins twice");
    }

    /// Carries out what follows, and sees that nothing more follows then.
    fn follow(&mut self) {
        for next in self.moves() {
            match next {
                Move::Skip { step, by } => {
                    assert_eq!(self.now[step].state, StepState::Queued);
                    (self.now[step].state, self.now[step].skipped) = (StepState::Skipped, Some(by));
                }
                Move::Fail { step, .. } => self.now[step].state = StepState::Failed,
                Move::Open { step } => {
                    self.begin(step);
                    assert!(!self.steps[step].in_container());
                    self.now[step].state = StepState::Waiting;
                }
                Move::Job { steps } => self.queue(steps),
            }
        }
        assert_eq!(self.moves(), [], "the same rows say something new");
    }

    fn queue(&mut self, steps: Vec<usize>) {
        assert!(!self.canceled, "a job after a cancel");
        let before = predecessors(&self.steps);
        for pair in steps.windows(2) {
            assert_eq!(before[pair[1]], [pair[0]], "a job's steps follow each other");
        }
        for step in &steps {
            assert!(self.steps[*step].in_container() && !self.now[*step].in_job, "{step} is in one job at most");
            self.now[*step].in_job = true;
        }
        self.jobs.push(steps);
    }

    fn end(&mut self) -> StepState {
        [StepState::Succeeded, StepState::Succeeded, StepState::Failed, StepState::Lost][self.choice(4)]
    }

    /// Ends the job: what was not begun is free again, and the first of it says why it was not, as the engine does.
    fn over(&mut self, job: usize, broken: bool) {
        let mut first = broken;
        for step in self.jobs.remove(job) {
            self.now[step].in_job = false;
            if self.now[step].state == StepState::Queued && std::mem::take(&mut first) {
                let by = if self.canceled { SkippedBy::Cancel } else { SkippedBy::Failure };
                (self.now[step].state, self.now[step].skipped) = (StepState::Skipped, Some(by));
            }
        }
    }

    fn job(&mut self, job: usize) {
        let next = self.jobs[job].iter().copied().find(|step| !self.now[*step].state.is_terminal());
        match next {
            None => self.over(job, false),
            // It breaks before the step is started, or a person ends it.
            Some(_) if self.canceled || self.choice(6) == 0 => self.over(job, true),
            Some(step) => {
                self.begin(step);
                self.now[step].state = self.end();
            }
        }
    }

    /// Ends something that is open; `false` when nothing is.
    fn event(&mut self) -> bool {
        let gates: Vec<_> = (0..self.now.len()).filter(|step| self.now[*step].state == StepState::Waiting).collect();
        let open = gates.len() + self.jobs.len();
        if open == 0 {
            return false;
        }
        if !self.canceled && self.choice(12) == 0 {
            self.canceled = true;
            return true;
        }
        match self.choice(open) {
            gate if gate < gates.len() => self.now[gates[gate]].state = self.end(),
            job => self.job(job - gates.len()),
        }
        true
    }
}

fn graphs() -> impl Strategy<Value = Vec<Step>> {
    let one = (any::<bool>(), any::<bool>(), proptest::collection::vec(any::<prop::sample::Index>(), 0..4));
    proptest::collection::vec(one, 1..14).prop_map(|drawn| {
        let make = |(index, (container, plain, needs)): (usize, (bool, bool, Vec<prop::sample::Index>))| {
            let needs = needs.iter().filter(|_| index > 0).map(|need| need.index(index)).collect();
            step(index, (!plain).then_some(needs), container || plain)
        };
        drawn.into_iter().enumerate().map(make).collect()
    })
}

proptest! {
    #[test]
    fn every_step_begins_after_its_predecessors_or_is_skipped(
        steps in graphs(),
        choices in proptest::collection::vec(any::<u8>(), 40..200),
    ) {
        let mut run = Run::new(steps, choices);
        run.follow();
        // A step has at most four things happen to it.
        for _ in 0..100 {
            if !run.event() {
                break;
            }
            run.follow();
        }
        prop_assert!(run.now.iter().all(|now| now.state.is_terminal() && !now.in_job), "something is left: {:?}", run.now);
    }
}
