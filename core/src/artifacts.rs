//! What a step leaves behind as files, as agent, init and controller speak of it.
//!
//! init looks into the step's folder once nobody is left who could write to it, and says in its exit record what is kept and what is
//! not, and why. Invariants: only what that list names is ever stored; a path of it names a place below a folder and nothing else;
//! the list is bounded, so that it fits into an exit record beside everything else that may be there.

use serde::{Deserialize, Serialize};

/// What names the folder to a step.
pub const VARIABLE: &str = "LONGSHORE_ARTIFACTS";
/// Path of the state that a stack had before a step wrote to it.
pub const STATE_BEFORE: &str = "state-before.json";
/// The part of a try's folder that the step may write to.
pub const FILES: &str = "files";
/// The file in a try's folder that init writes the stack's state to.
pub const STATE: &str = "state";
/// The part of a try's folder that init moves what is kept to, each file under its index in the list.
pub const KEPT: &str = "kept";
/// Most files of one step that are kept.
pub const MAX_FILES: usize = 256;
/// Most files and folders that are looked at.
pub const MAX_ENTRIES: usize = 4096;
/// Most folders within one another.
pub const MAX_DEPTH: usize = 8;
/// Longest path in bytes.
pub const MAX_PATH: usize = 255;
/// Most files that are named as left out; more are counted.
pub const MAX_LEFT_OUT: usize = 64;
/// Longest list in bytes of JSON.
pub const MAX_LIST: usize = 56 << 10;

/// How much is kept of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files together.
    pub total_bytes: u64,
}

/// Where init finds what a step leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// The try's own folder, absolute. init makes it.
    pub folder: String,
    /// How much is kept.
    pub limits: Limits,
}

/// What a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The step left it.
    #[default]
    File,
    /// The state of the step's stack.
    State,
}

impl Kind {
    /// The word in rows and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::State => "state",
        }
    }

    /// Reads what [`Kind::as_str`] writes.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::File, Self::State].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Below the folder, with `/` between its parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
}

/// A file that is not kept, or a number of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As of an artifact, for people: what cannot be shown is replaced, and so are secrets. Empty where files are only counted.
    pub path: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
}

/// Why a file is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A secret value is in it or in its name.
    Secret,
    /// A link, a device, a socket or a pipe.
    NotRegular,
    /// It has another name somewhere else.
    HardLink,
    /// Another file system, or another place, is mounted there.
    Mount,
    /// Its name is too long, is not UTF-8 or holds control characters.
    Name,
    /// It lies in too many folders.
    Depth,
    /// It is longer than one file may be.
    TooLarge,
    /// With it there were more bytes than are kept of one step.
    TotalSize,
    /// There are more files than are kept or listed.
    TooMany,
    /// There was no time left to read it.
    Time,
    /// It changed while it was read, or after it was written.
    Changed,
    /// It could not be read or moved.
    Unreadable,
    /// It was listed, and did not reach the controller.
    NotDelivered,
    /// A word of a newer agent.
    #[serde(other)]
    Other,
}

impl Reason {
    /// The word in rows and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::NotRegular => "not_regular",
            Self::HardLink => "hard_link",
            Self::Mount => "mount",
            Self::Name => "name",
            Self::Depth => "depth",
            Self::TooLarge => "too_large",
            Self::TotalSize => "total_size",
            Self::TooMany => "too_many",
            Self::Time => "time",
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
            Self::NotDelivered => "not_delivered",
            Self::Other => "other",
        }
    }

    /// Reads what [`Reason::as_str`] writes.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        serde_json::from_value(word.into()).unwrap_or(Self::Other)
    }

    /// Why, and what to do, for people.
    #[must_use]
    pub const fn words(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Secret, Kind::State) => {
                "it holds a secret value of the job in clear: make the value a secret to Pulumi as well, in its program or its configuration"
            }
            (Self::Secret, Kind::File) => "it, or its name, holds a secret value of the job: leave the value out of it",
            (Self::NotRegular, _) => "it is no regular file: copy what it leads to",
            (Self::HardLink, _) => "it has a second name somewhere else: copy it",
            (Self::Mount, _) => "something else is mounted there: copy it",
            (Self::Name, _) => {
                "its path is longer than 255 bytes, is not UTF-8 or holds control characters: give it another"
            }
            (Self::Depth, _) => "it lies in more than 8 folders: pack them into one file",
            (Self::TooLarge, _) => "it is longer than `max_artifact_bytes` of the controller",
            (Self::TotalSize, _) => {
                "with it the step would leave more than `max_step_artifact_bytes` of the controller"
            }
            (Self::TooMany, _) => "a step leaves too many files: pack them into one",
            (Self::Time, _) => "there was no time left to read it: leave less",
            (Self::Changed, _) => "it changed while it was read or after it was written",
            (Self::Unreadable, _) => "it could not be read: see that the step's user may",
            (Self::NotDelivered, _) => "it did not reach the controller whole: the agent's log says why",
            (Self::Other, _) => "a newer agent says why",
        }
    }
}

/// Whether a text is a path that an artifact may have: relative, of plain parts, not too long, not too deep.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
    text.len() <= MAX_PATH && text.split('/').all(part) && text.split('/').count() <= MAX_DEPTH + 1
}

/// A text as it may be shown as a path: short, and without control characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    shown.truncate(shown.floor_char_boundary(MAX_PATH));
    shown
}

/// Bytes that one line takes of [`MAX_LIST`].
#[must_use]
pub fn listed(line: &impl Serialize) -> usize {
    serde_json::to_vec(line).map_or(MAX_LIST, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_folder() {
        for good in ["a", "a/b.txt", "..a/b..", "ä/ö", "a b", "a/a/a/a/a/a/a/a/a"] {
            assert!(is_path(good), "{good}");
        }
        let long = "x".repeat(MAX_PATH + 1);
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a\0b", "a\nb", &long, &"a/".repeat(9)] {
            assert!(!is_path(bad), "{bad:?}");
        }
        assert!(!is_path("1/2/3/4/5/6/7/8/9/10"));
    }

    #[test]
    fn words_come_back_as_what_they_were() {
        for reason in [Reason::Secret, Reason::NotRegular, Reason::TooMany, Reason::NotDelivered, Reason::Other] {
            assert_eq!(Reason::from_word(reason.as_str()), reason);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        assert_eq!(Reason::from_word("of tomorrow"), Reason::Other);
        assert_eq!((Kind::from_word("state"), Kind::from_word("x")), (Some(Kind::State), None));
    }

    #[test]
    fn what_is_shown_is_short_and_plain() {
        assert_eq!(shown("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(shown(&"ä".repeat(200)).len(), 254);
    }
}
