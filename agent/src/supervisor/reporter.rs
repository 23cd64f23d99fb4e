//! What an attempt is doing, for people, at a pace they can read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_core::fence::Fence;
use tokio::time::Instant;

use super::Board;
use crate::session::{Message, Outlet, Phase, Progress};

/// Least time between two messages of one phase.
const PACE: Duration = Duration::from_millis(250);

/// Says how far a step is.
#[derive(Debug)]
pub(super) struct Reporter {
    outlet: Outlet,
    board: Board,
    fence: Fence,
    step: u32,
    last: Mutex<Option<(Phase, Instant)>>,
}

impl Reporter {
    pub(super) fn new(outlet: &Outlet, board: &Board, fence: Fence, step: u32) -> Self {
        Self { outlet: outlet.clone(), board: board.clone(), fence, step, last: Mutex::default() }
    }

    /// Says it when the phase is new or the last word is old enough.
    pub(super) fn say(&self, phase: Phase, message: &str, current: u64, total: u64) {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|(before, at)| before == phase && now.duration_since(at) < PACE) {
                return;
            }
            *last = Some((phase, now));
        }
        self.board.reach(self.fence.attempt, phase);
        self.send(phase, message, current, total);
    }

    /// Says what should be known later too: it goes into the deployment's timeline.
    pub(super) fn note(&self, message: &str) {
        tracing::info!(attempt = %self.fence.attempt, step = self.step, message, "noted");
        self.send(Phase::Note, message, 0, 0);
    }

    fn send(&self, phase: Phase, message: &str, current: u64, total: u64) {
        self.outlet.say(Message::Progress(Progress {
            fence: self.fence,
            step: self.step,
            phase,
            message: message.to_owned(),
            current,
            total,
        }));
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::id::AttemptId;
    use longshore_core::time::Timestamp;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_phase_is_said_at_once_and_then_at_its_pace() {
        let (outlet, mut said) = Outlet::new();
        let board = Board::new(1, None);
        let fence = Fence { attempt: AttemptId::new(Timestamp::from_micros(1), [1; 10]), epoch: 1, incarnation: 1 };
        let reporter = Reporter::new(&outlet, &board, fence, 0);
        for current in 0..1_000 {
            reporter.say(Phase::Pulling, "layer", current, 1_000);
        }
        reporter.note("said whenever it comes");
        reporter.note("and again");
        reporter.say(Phase::Creating, "", 0, 0);
        tokio::time::advance(PACE).await;
        reporter.say(Phase::Creating, "", 0, 0);
        let mut phases = Vec::new();
        while let Ok(Message::Progress(progress)) = said.try_recv() {
            phases.push((progress.phase, progress.current));
        }
        assert_eq!(board.phases().borrow().get(&fence.attempt), Some(&Phase::Creating));
        board.release(fence.attempt);
        assert!(board.phases().borrow().is_empty());
        assert_eq!(
            phases,
            [(Phase::Pulling, 0), (Phase::Note, 0), (Phase::Note, 0), (Phase::Creating, 0), (Phase::Creating, 0)]
        );
    }
}
