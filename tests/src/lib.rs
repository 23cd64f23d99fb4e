//! What the end-to-end tests share: a running Longshore, seen only through its command line.
//!
//! Nothing here looks inside: the tests type what a user types and read what a script reads. Waiting is done by
//! asking the command line again; no test sleeps.

pub mod debian;
pub mod dev;
pub mod docker;
pub mod fleet;
pub mod group;
pub mod process;

use sha2::{Digest as _, Sha256};

/// SHA-256 in lowercase hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A spec with one step `one` that runs `script` on the tiny image, without network and with the mount `state`.
///
/// `step` holds further lines of the step, `top` further top-level lines; both are YAML as it stands.
#[must_use]
pub fn spec(project: &str, script: &str, step: &str, top: &str) -> String {
    let indent =
        |text: &str, by: &str| text.trim_matches('\n').lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    format!(
        "version: 1\nproject: {project}\nenvironments:\n  - name: dev\n{top}steps:\n  - name: one\n    image: {}\n    network: none\n    mounts: [state]\n{}    run: |\n{}",
        docker::TINY,
        indent(step, "    "),
        indent(script, "      "),
    )
}
