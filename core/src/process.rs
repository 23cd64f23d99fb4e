//! What follows in a deployment when something has ended: which steps are skipped, which gates open, which jobs begin.
//!
//! Pure: the engine passes the steps as the rows have them and carries out the answer. The same rows give the same answer, so
//! a controller that was killed at any line finds the way on from the rows alone.

use crate::spec::{Step, ancestors, predecessors};
use crate::step::{SkippedBy, StepState};

/// A step as the rows have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepNow {
    /// Where it stands.
    pub state: StepState,
    /// Why it was skipped, if it was.
    pub skipped: Option<SkippedBy>,
    /// A job that has not ended has it among its steps.
    pub in_job: bool,
    /// A person asked for the deployment without it.
    pub skip: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// The step is not run.
    Skip {
        /// Its index.
        step: usize,
        /// Why.
        by: SkippedBy,
    },
    /// Its condition cannot be worked out.
    Fail {
        /// Its index.
        step: usize,
        /// Why.
        reason: String,
    },
    /// The controller begins it: an approval, a check, a child.
    Open {
        /// Its index.
        step: usize,
    },
    /// A job is queued.
    Job {
        /// Indices of its steps, in order.
        steps: Vec<usize>,
    },
}

/// How the steps of a project hang together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    before: Vec<Vec<usize>>,
    all_before: Vec<Vec<usize>>,
    /// The step that may follow a step within one job.
    follower: Vec<Option<usize>>,
    in_container: Vec<bool>,
}

impl Graph {
    /// The graph of these steps.
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let before = predecessors(steps);
        let in_container: Vec<bool> = steps.iter().map(Step::in_container).collect();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (step, before) in before.iter().enumerate() {
            for earlier in before {
                if let Some(after) = after.get_mut(*earlier) {
                    after.push(step);
                }
            }
        }
        let follows = |step: usize, after: &Vec<usize>| match after.as_slice() {
            [next] if before.get(*next).is_some_and(|before| *before == [step]) => {
                let both = in_container.get(step) == Some(&true) && in_container.get(*next) == Some(&true);
                both.then_some(*next)
            }
            _ => None,
        };
        let follower = after.iter().enumerate().map(|(step, after)| follows(step, after)).collect();
        Self { all_before: ancestors(steps), before, follower, in_container }
    }

    /// The job that begins with `step`.
    fn chain(&self, step: usize) -> Vec<usize> {
        let next = |step: &usize| self.follower.get(*step).copied().flatten();
        std::iter::successors(Some(step), next).collect()
    }

    /// Whether two steps may run at the same time.
    #[must_use]
    pub fn concurrent(&self, a: usize, b: usize) -> bool {
        let comes_before = |a: usize, b: usize| self.all_before.get(b).is_some_and(|before| before.contains(&a));
        a != b && !comes_before(a, b) && !comes_before(b, a)
    }

    /// What follows. `holds` says whether a step's condition holds, given whether a step before it ended badly; with
    /// `canceled` nothing more is begun.
    pub fn advance(
        &self,
        now: &[StepNow],
        canceled: bool,
        mut holds: impl FnMut(usize, bool) -> Result<bool, String>,
    ) -> Vec<Move> {
        let mut now = now.to_vec();
        let mut moves = Vec::new();
        // Predecessors stand before their successors, so one round sees every consequence.
        for step in 0..now.len() {
            let Some(current) = now.get(step).copied().filter(|current| current.state == StepState::Queued) else {
                continue;
            };
            if canceled {
                if !current.in_job {
                    skip(&mut now, &mut moves, step, SkippedBy::Cancel);
                }
                continue;
            }
            let over = |step: &usize| now.get(*step).is_none_or(|now| now.state.is_terminal());
            if !self.before.get(step).into_iter().flatten().all(over) {
                continue;
            }
            if current.skip {
                skip(&mut now, &mut moves, step, SkippedBy::Person);
                continue;
            }
            let failed = self.all_before.get(step).into_iter().flatten().any(|before| {
                now.get(*before).is_some_and(|now| now.state.is_bad() || now.skipped.is_some_and(SkippedBy::is_bad))
            });
            match holds(step, failed) {
                Ok(true) if current.in_job => {}
                Ok(true) => self.begin(&mut now, &mut moves, step),
                Ok(false) => {
                    let by = if failed { SkippedBy::Failure } else { SkippedBy::Condition };
                    skip(&mut now, &mut moves, step, by);
                }
                Err(reason) => {
                    set(&mut now, step, |now| now.state = StepState::Failed);
                    moves.push(Move::Fail { step, reason });
                }
            }
        }
        moves
    }

    fn begin(&self, now: &mut [StepNow], moves: &mut Vec<Move>, step: usize) {
        if self.in_container.get(step) != Some(&true) {
            set(now, step, |now| now.state = StepState::Waiting);
            return moves.push(Move::Open { step });
        }
        let steps = self.chain(step);
        for step in &steps {
            set(now, *step, |now| now.in_job = true);
        }
        moves.push(Move::Job { steps });
    }
}

fn set(now: &mut [StepNow], step: usize, change: impl FnOnce(&mut StepNow)) {
    if let Some(now) = now.get_mut(step) {
        change(now);
    }
}

fn skip(now: &mut [StepNow], moves: &mut Vec<Move>, step: usize, by: SkippedBy) {
    set(now, step, |now| (now.state, now.skipped) = (StepState::Skipped, Some(by)));
    moves.push(Move::Skip { step, by });
}

#[cfg(test)]
mod tests;
