//! Where a sealed value stands. The place is bound to the value: moved anywhere else it does not open.

use std::fmt;

use longshore_core::id::{ApprovalId, AttemptId, DeploymentId};

use crate::store::rows::Owner;

/// The sorts of rows that hold sealed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Secret variables.
    Variable,
    /// Secret outputs of steps.
    Output,
    /// Keys that agents encrypt secret outputs with.
    OutputsKey,
    /// Plans that approvals are bound to.
    Plan,
}

impl Kind {
    /// All of them. A table with sealed values that is not here is not rotated.
    pub const ALL: [Self; 4] = [Self::Variable, Self::Output, Self::OutputsKey, Self::Plan];
}

/// The row and field of one sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A version of a variable.
    Variable {
        /// Whose it is.
        owner: Owner,
        /// What it is for, as [`Scope::column`](longshore_core::variables::Scope::column) writes it; `None`: everything.
        environment: Option<String>,
        /// Its name.
        name: String,
    },
    /// An output of a step.
    Output {
        /// The deployment.
        deployment: DeploymentId,
        /// Index of the step.
        step: u32,
        /// Name of the output.
        name: String,
    },
    /// The key of one start of a step.
    OutputsKey {
        /// The attempt.
        attempt: AttemptId,
        /// The step's slot.
        step: u32,
    },
    /// The plan of one approval.
    Plan {
        /// The approval.
        approval: ApprovalId,
    },
}

impl Place {
    /// The associated data. It must never change for rows that are there.
    #[must_use]
    pub fn aad(&self) -> String {
        match self {
            Self::Variable { owner, environment, name } => {
                let environment = environment.as_deref().unwrap_or("*");
                match owner {
                    Owner::Project(project) => format!("variable:{project}:{environment}:{name}"),
                    Owner::Library(library) => format!("library:{library}:{environment}:{name}"),
                }
            }
            Self::Output { deployment, step, name } => format!("output:{deployment}:{step}:{name}"),
            Self::OutputsKey { attempt, step } => format!("outputs_key:{attempt}:{step}"),
            Self::Plan { approval } => format!("plan:{approval}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.aad())
    }
}
