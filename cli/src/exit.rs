//! Exit codes: what scripts decide by.
//!
//! The numbers are part of the contract with users' scripts and never change their meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; with `--wait`: the deployment succeeded.
    Done,
    /// Failed, here or in the deployment.
    Failed,
    /// Wrong usage or a bad spec. Nothing was sent, or the server took nothing of it.
    Usage,
    /// The deployment was canceled.
    Canceled,
    /// The outcome is unknown, or the deployment was lost to infrastructure.
    Unknown,
    /// Refused by the server: permission, policy, conflict.
    Refused,
    /// The server could not be reached.
    Unreachable,
    /// Interrupted by Ctrl-C (128 + SIGINT, as shells report it).
    Interrupted,
    /// Ended by SIGTERM (128 + SIGTERM).
    Terminated,
}

impl Exit {
    /// The number a process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Canceled => 3,
            Self::Unknown => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The code for a deployment that stands at `state` when the command stops looking at it.
    #[must_use]
    pub fn of_state(state: &str) -> Self {
        match state {
            "succeeded" => Self::Done,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            // `lost`, `unknown`, and any state that is not an end: what became of it is not known here.
            _ => Self::Unknown,
        }
    }

    /// The code for an HTTP status that is no success.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            400 => Self::Usage,
            401..=499 => Self::Refused,
            502..=504 => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_codes_of_the_contract() {
        let table = [("succeeded", 0), ("failed", 1), ("canceled", 3), ("lost", 4), ("unknown", 4), ("running", 4)];
        for (state, code) in table {
            assert_eq!(Exit::of_state(state).code(), code, "{state}");
        }
    }

    #[test]
    fn statuses_have_the_codes_of_the_contract() {
        let table = [
            (400, 2),
            (401, 5),
            (403, 5),
            (404, 5),
            (409, 5),
            (422, 5),
            (429, 5),
            (500, 1),
            (502, 6),
            (503, 6),
            (504, 6),
        ];
        for (status, code) in table {
            assert_eq!(Exit::of_status(status).code(), code, "{status}");
        }
    }
}
