//! The stable words of refusals: the one list of them.
//!
//! A word that is out stays: scripts decide by it. Each has a page `docs/errors/WORD.md`, which the command line carries with it, so
//! that a word without a page does not compile there; tests compare the list with what the sources use and with the pages there are.

/// Hands all words to a macro, as literals.
#[macro_export]
macro_rules! problem_codes {
    ($each:ident) => {
        $each! {
            "account_exists",
            "account_missing",
            "already_voted",
            "approval_decided",
            "bad_cursor",
            "bad_json",
            "bad_package",
            "bad_query",
            "bad_request",
            "bad_spec",
            "begun",
            "changed_meanwhile",
            "channel_ambiguous",
            "channel_refuses",
            "child_circle",
            "child_depth",
            "confirm_needed",
            "digest_mismatch",
            "disabled",
            "disk_full",
            "ended",
            "exists",
            "expired",
            "forbidden",
            "internal",
            "invalid",
            "last_admin",
            "library_exists",
            "lifecycle",
            "local_phase",
            "local_protected",
            "local_release",
            "never",
            "no_channel",
            "no_child_release",
            "no_git",
            "no_lifecycle",
            "no_machine",
            "no_priority_above",
            "no_program",
            "no_source",
            "no_stack",
            "no_such_method",
            "no_such_path",
            "not_asked",
            "not_found",
            "not_in_team",
            "not_json",
            "not_skippable",
            "not_unknown",
            "nothing_there",
            "nothing_to_roll_back_to",
            "operation_reused",
            "other_project",
            "other_release",
            "own_deployment",
            "passed_every_phase",
            "refused",
            "release_blocked",
            "revision_moved",
            "revoked",
            "schedule",
            "secret_missing",
            "source_failed",
            "source_protocol",
            "stale",
            "stopping",
            "too_large",
            "two_writers",
            "unauthorized",
            "under_way",
            "unknown_stack",
            "unknown_variable",
            "upload_cut",
            "upload_offset",
            "uploads_crowded",
            "variable_required",
            "version_taken",
            "waits_for_ever"
        }
    };
}

macro_rules! list {
    ($($code:literal),*) => {
        /// Every word, sorted.
        pub const CODES: &[&str] = &[$($code),*];
    };
}
problem_codes!(list);

/// Whether a word is one of them.
#[must_use]
pub fn is_code(word: &str) -> bool {
    CODES.binary_search(&word).is_ok()
}

/// Where the page of a word is, from the root of the repository.
#[must_use]
pub fn page(code: &str) -> String {
    format!("docs/errors/{code}.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_once_and_fit_a_file_name() {
        assert!(CODES.is_sorted_by(|a, b| a < b), "{CODES:?}");
        assert!(CODES.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')), "{CODES:?}");
        assert!(is_code("not_found") && !is_code("found"));
    }
}
