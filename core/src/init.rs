//! What the agent hands to `longshore-init`, and what init leaves behind.
//!
//! The hand-over happens once, over a unix socket of one attempt's step, as JSON with two file
//! descriptors beside it: the spool (append-only) and the control file. The types are shared, so agent
//! and init cannot drift apart: init is embedded in the agent that starts it. A control file, however, may
//! be read by a *newer* agent after an upgrade, so its layout and [`ExitRecord`] only ever gain fields.

use crate::artifacts::{Artifact, Collect, LeftOut};
use serde::{Deserialize, Serialize};

/// Where the read-only directory with init and its socket is mounted in every job container.
pub const MOUNT: &str = "/.longshore";
/// The program that is PID 1, in [`MOUNT`].
pub const PROGRAM: &str = "/.longshore/init";
/// The socket that init connects to once, in [`MOUNT`].
pub const SOCKET: &str = "/.longshore/init.sock";
/// The byte init answers when it has read the whole hand-over.
pub const ACK: u8 = 0x06;
/// Longest captured output of one command in bytes; both kinds together fit into an exit record.
pub const MAX_OUTPUTS: usize = 256 << 10;
/// Longest stack settings in bytes that go with a plan.
pub const MAX_SETTINGS: usize = 16 << 10;
/// Longest plan in bytes. One that is longer than [`MAX_PACKED_PLAN`] goes packed ([`crate::pack`]).
pub const MAX_PLAN: usize = 8 << 20;
/// Longest plan with the stack's settings on its way, in bytes; encrypted and in base64 it fits into an exit record beside everything else.
pub const MAX_PACKED_PLAN: usize = 700 << 10;
/// What an encrypted plan is bound to, in place of the name of an output.
pub const PLAN: &str = "longshore:plan";
/// Exit code of init itself when it got no hand-over and so ran nothing and left no exit record.
pub const NOT_STARTED: u8 = 125;
/// Longest hand-over in bytes; a longer one is refused by init. As JSON in JSON a plan takes up to twice its length.
pub const MAX_HANDOVER: u64 = 24 << 20;
/// The descriptor number a command finds its event pipe at.
pub const EVENT_FD: i32 = 3;
/// Where a pool's plugins are in a container that has them: in an overlay of the step's own, mounted at the parent.
pub const PLUGINS: &str = "/longshore/pulumi/plugins";
/// What stands in a log where a secret was.
pub const MASK: &str = "[secret]";

/// Everything a step's container is to do. Holds secrets: it exists in memory and on the socket only.
#[derive(Serialize, Deserialize)]
pub struct Handover {
    /// Directories to make and links to lay before the first command, in this order.
    #[serde(default)]
    pub prepare: Vec<Prepare>,
    /// Run one after the other; the first that does not end with 0 ends the step.
    pub commands: Vec<Command>,
    /// Added to the image's own environment, replacing what has the same name.
    pub env: Vec<(String, String)>,
    /// Working directory of the commands, absolute.
    pub cwd: String,
    /// Values that may not appear in what is written to the spool.
    pub secrets: Vec<String>,
    /// The file that the commands may write outputs to (see [`crate::outputs`]), absolute, in a directory that is there. init makes it.
    #[serde(default)]
    pub output_file: Option<String>,
    /// Host names whose lock on the stack may be removed, for a command with [`Command::finds_lock`].
    #[serde(default)]
    pub over: Vec<String>,
    /// 32 bytes in hex. Secret outputs are encrypted with it before they touch a disk. `None`: no outputs are captured.
    #[serde(default)]
    pub outputs_key: Option<String>,
    /// The plan that the commands make or run.
    #[serde(default)]
    pub plan: Option<PlanFile>,
    /// Where the commands may leave files that are kept; `None`: nothing of the kind.
    #[serde(default)]
    pub artifacts: Option<Collect>,
}

/// A plan in the container. It may hold secrets, so its file lies where no disk is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// The file, absolute, in a directory that is there.
    pub path: String,
    /// The stack's settings (`Pulumi.STACK.yaml`), absolute. They go with the plan, because the key that the secrets in it are
    /// encrypted with comes from a salt that the CLI writes there.
    pub settings: String,
    /// What init writes before the first command: settings, a zero byte, plan. `None`: a command makes the plan, and init keeps
    /// both, encrypted with [`Handover::outputs_key`], in the exit record.
    #[serde(default)]
    pub content: Option<String>,
    /// What a command with [`Stdout::Checkpoint`] has to come to; with anything else no later command is run.
    #[serde(default)]
    pub checkpoint: Option<String>,
}

impl std::fmt::Debug for PlanFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanFile")
            .field("path", &self.path)
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover")
            .field("commands", &self.commands.len())
            .field("env", &self.env.len())
            .field("cwd", &self.cwd)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

/// One change to the container's file system before the first command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepare {
    /// Makes a directory and its parents (mode 0755); one that is there is left as it is.
    Directory {
        /// Absolute path.
        path: String,
    },
    /// For every directory in each of `sources` makes a directory of that name in `target`, filled with
    /// links to its entries. So a tool sees read-only plugins in a directory of its own that it may write to.
    LinkFarm {
        /// Absolute paths; those that are missing or unreadable are passed over.
        sources: Vec<String>,
        /// Absolute path, made when missing.
        target: String,
        /// When this directory is there, `target` becomes a link to it, and what it lacks of `sources` is added to it.
        #[serde(default)]
        shared: Option<String>,
    },
}

/// One program to run in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; the program is looked up in the job's `PATH`.
    pub argv: Vec<String>,
    /// What becomes of its standard output.
    #[serde(default)]
    pub stdout: Stdout,
    /// Opens a pipe at descriptor [`EVENT_FD`] whose lines are Pulumi engine events.
    #[serde(default)]
    pub events: bool,
    /// Pulumi command whose exit code and summary event decide the step; others (`stack select`) are means to it.
    #[serde(default)]
    pub decides: bool,
    /// Takes the stack's outputs from its engine events (needs `events`), as if [`Stdout::MaskedOutputs`] had captured them:
    /// so no `pulumi stack output` is needed to know those that are not secret.
    #[serde(default)]
    pub event_outputs: bool,
    /// Run only when a command before it captured an output shown as `[secret]`.
    #[serde(default)]
    pub only_with_secret_outputs: bool,
    /// An operation on a resource that is not there ([`crate::stack_lock`]): its standard error says who holds the stack's lock. The
    /// next command is run only when everybody who does is in [`Handover::over`]; with no lock the step ends here, and well.
    #[serde(default)]
    pub finds_lock: bool,
    /// What a command with [`Stdout::Checkpoint`] prints is kept as the state that the stack had before
    /// ([`crate::artifacts::STATE_BEFORE`]), if [`Handover::artifacts`] says so.
    #[serde(default)]
    pub keeps_state: bool,
}

/// What becomes of a command's standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdout {
    /// Written to the spool.
    #[default]
    Log,
    /// A JSON object of outputs in which secret ones read `[secret]`; kept in memory until the end.
    MaskedOutputs,
    /// The same object with the secret values shown; never written anywhere in clear.
    RevealedOutputs,
    /// A stack's whole state; nothing but its SHA-256 is kept, in [`ExitRecord::checkpoint`]. Two exports of a state that
    /// nobody wrote are the same bytes; one that was written again without a change is another one, because its time is.
    Checkpoint,
}

/// How a step's container ended, by init's own account: the last record of the spool, and in the control file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code of the last command that ran; `None` when a signal ended it or it could not be started.
    pub code: Option<i32>,
    /// Signal that ended the last command.
    pub signal: Option<i32>,
    /// Bytes of standard output and standard error in the spool.
    pub bytes: u64,
    /// SHA-256 in hex over those bytes, in the spool's order.
    pub sha256: String,
    /// Bytes of log and events that could not be kept because the disk was full; more than 0 means the log is cut.
    /// Then the spool may end inside a record, and have no exit record.
    #[serde(default)]
    pub dropped: u64,
    /// Why a command could not be started, or what else went wrong in init's own work (outputs that could not be
    /// captured or kept). Masked like the log. With an error the step has failed, whatever the exit code.
    #[serde(default)]
    pub error: Option<String>,
    /// SIGTERM reached init: someone other than the agent stopped the container, so this is never a success.
    #[serde(default)]
    pub outside_stop: bool,
    /// The step was asked to stop: SIGINT was handed to the command that ran, or the next command was not started
    /// (then `code` and `signal` are `None` and `error` says so).
    #[serde(default)]
    pub interrupted: bool,
    /// The soft or the hard deadline passed.
    #[serde(default)]
    pub deadline: bool,
    /// The hard deadline passed and everything was killed.
    #[serde(default)]
    pub killed: bool,
    /// Index of the command that ended the step.
    #[serde(default)]
    pub command: usize,
    /// Outputs that are not secret: name and JSON value.
    #[serde(default)]
    pub outputs: std::collections::BTreeMap<String, serde_json::Value>,
    /// Outputs that are secret: name and base64 of nonce (12 bytes) + ChaCha20-Poly1305 ciphertext of the JSON value,
    /// with the name as associated data.
    #[serde(default)]
    pub secret_outputs: std::collections::BTreeMap<String, String>,
    /// SHA-256 in hex of the state that a command with [`Stdout::Checkpoint`] printed.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// The plan that was made, with the stack's settings, as in [`PlanFile::content`]; packed where
    /// it would not fit otherwise ([`crate::pack`]), and encrypted like a secret output whose name is [`PLAN`]; its text as it is, not as JSON.
    #[serde(default)]
    pub plan: Option<String>,
    /// Files that the step left and that are kept. Each lies in [`crate::artifacts::KEPT`] under its index here.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Files that it left and that are not kept, and why.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// The exit code of `init reach`: which places were reached.
pub mod reach {
    /// Most places that one code can tell of.
    pub const MOST: usize = 5;
    /// Set when any was reached, so that no other failure has such a code.
    const REACHED: u8 = 64;

    /// The code: 0 when none was reached.
    #[must_use]
    pub fn code(reached: &[bool]) -> u8 {
        let bits = (0_u8..).zip(reached).take(MOST).filter(|(_, reached)| **reached);
        bits.fold(0, |code, (bit, _)| code | REACHED | 1 << bit)
    }

    /// What a code says of so many places; `None`: it is the code of something else.
    #[must_use]
    pub fn read(code: i64, places: usize) -> Option<Vec<bool>> {
        let code = u8::try_from(code).ok()?;
        let reached: Vec<bool> = (0..places.min(MOST)).map(|bit| code & (1 << bit) != 0).collect();
        (self::code(&reached) == code).then_some(reached)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_code_is_read_as_it_was_meant() {
            for bits in 0_u32..32 {
                let reached: Vec<bool> = (0..5).map(|bit| bits & (1 << bit) != 0).collect();
                assert_eq!(read(code(&reached).into(), 5), Some(reached));
            }
            for other in [1, 125, 126, 127, 137, 64, -1, 300] {
                assert_eq!(read(other, 4), None, "{other}");
            }
        }
    }
}

/// The control file: a small file that agent and init share by descriptor.
pub mod control {
    /// Size of the file; it is allocated before the step starts, so that a full disk cannot stop an exit record.
    pub const SIZE: u64 = 65_536;
    /// Offset of the soft deadline: microseconds of `CLOCK_BOOTTIME`, u64 little endian, 0 for none. At it init sends the one SIGINT.
    pub const SOFT: u64 = 0;
    /// Offset of the hard deadline, same form. At it init kills everything.
    pub const HARD: u64 = 8;
    /// Offset of the exit record: u32 little endian length, then JSON. Length 0: none yet.
    pub const EXIT: u64 = 512;

    /// The two deadlines as they stand in the file.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Deadlines {
        /// Microseconds of `CLOCK_BOOTTIME`; 0: none.
        pub soft: u64,
        /// Microseconds of `CLOCK_BOOTTIME`; 0: none.
        pub hard: u64,
    }

    impl Deadlines {
        /// Bytes at [`SOFT`].
        #[must_use]
        pub fn to_bytes(self) -> [u8; 16] {
            let mut out = [0; 16];
            out[..8].copy_from_slice(&self.soft.to_le_bytes());
            out[8..].copy_from_slice(&self.hard.to_le_bytes());
            out
        }

        /// Reads what [`Deadlines::to_bytes`] wrote.
        #[must_use]
        pub fn from_bytes(bytes: [u8; 16]) -> Self {
            let word = |i: usize| {
                let mut b = [0; 8];
                b.copy_from_slice(&bytes[i..i + 8]);
                u64::from_le_bytes(b)
            };
            Self { soft: word(0), hard: word(8) }
        }
    }
}
