//! Why a step was not started, and against whom that counts.

/// Whose affair it is that a step was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The step's: it would be the same on every agent.
    Step,
    /// The agent's own work failed; another agent may do better.
    Agent,
    /// Nobody's: the agent has to leave, and gives back what it has not started.
    Leaving,
}

impl Cause {
    /// By what an agent says. One that does not know the second word never says it, and its give-back counts as a failure of its own.
    #[must_use]
    pub const fn said(agent_fault: bool, leaving: bool) -> Self {
        match (agent_fault, leaving) {
            (false, _) => Self::Step,
            (true, false) => Self::Agent,
            (true, true) => Self::Leaving,
        }
    }

    /// Whether another agent may do better: then a job of which nothing was started goes back to the queue.
    #[must_use]
    pub const fn is_elsewhere_better(self) -> bool {
        !matches!(self, Self::Step)
    }

    /// Whether it counts towards the agent's quarantine.
    #[must_use]
    pub const fn is_agents_fault(self) -> bool {
        matches!(self, Self::Agent)
    }
}
