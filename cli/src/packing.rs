//! What to do about a package that cannot be made, in this program's words.

use longshore_core::archive::Refused;
use longshore_source::{git, pack};

use crate::exit::Exit;
use crate::failure::Failure;

impl From<pack::Error> for Failure {
    fn from(error: pack::Error) -> Self {
        use pack::Error;
        let (exit, next) = match &error {
            Error::Missing { .. } => (Exit::Usage, "check the path of the package"),
            Error::Form(_) => (Exit::Usage, "name a folder, or an archive in one of these forms"),
            Error::Refused(Refused::Entry { .. }) => (
                Exit::Usage,
                "take the entry out (of a folder: name it in `.longshoreignore`), or make it what a package can hold",
            ),
            Error::Refused(_) => {
                (Exit::Usage, "make the package smaller; what steps need in bulk fits better into an image")
            }
            Error::Damaged { .. } => (Exit::Usage, "make the archive again, or unpack it and name the folder"),
            Error::Unreadable { .. } => (Exit::Usage, "make it readable, or name it in `.longshoreignore`"),
            Error::Walk(_) => (Exit::Usage, "check the folder and its `.longshoreignore`"),
            Error::Changed(_) => {
                (Exit::Failed, "deploy again once nothing writes to the folder, or name the file in `.longshoreignore`")
            }
            Error::Special { .. } => (Exit::Usage, "name it in `.longshoreignore`"),
            Error::Write { .. } => (Exit::Failed, "make room there, or let TMPDIR name another folder"),
        };
        Self::of(exit, &error).next(next)
    }
}

impl From<git::Error> for Failure {
    fn from(error: git::Error) -> Self {
        use git::Error;
        let (exit, next) = match &error {
            Error::Reference(message) => {
                return Self::usage(format!("`--ref`: {message}"))
                    .next("write a branch, a tag, or a commit id in full");
            }
            Error::Dir(message) => return Self::usage(format!("`--dir`: {message}")),
            Error::Folder { .. } => (Exit::Failed, "make room there, or let TMPDIR name another folder"),
            Error::Missing | Error::Start(_) => {
                (Exit::Failed, "install git, or check the repository out elsewhere and push the folder")
            }
            Error::Failed { command, .. } if command == "fetch" => (
                Exit::Failed,
                "check the address and the ref: a branch, a tag, or a commit id in full; git must be able to reach it without asking",
            ),
            Error::NoFolder { .. } => (Exit::Usage, "name a folder of the repository with `--dir`"),
            Error::Submodule(_) => (Exit::Usage, "check the repository out with its submodules and push the folder"),
            _ => (Exit::Failed, "check the repository out elsewhere and push the folder"),
        };
        Self::of(exit, &error).next(next)
    }
}
