//! Makes packages: of a folder, of an archive of one, and of a commit of a git repository.
//!
//! The command line and the controller share it, so that the same commit is the same package wherever it is made. Whose settings and
//! credentials count while fetching is for the caller to say ([`git::Access`]).

pub mod git;
pub mod pack;
