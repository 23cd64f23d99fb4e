//! Deployments of a working tree: they go by the spec that came with them, and leave the project as it is.
//!
//! Invariants:
//! - The spec is held by a release of its own that nothing else deploys; the project's revisions and releases are not changed.
//! - Where it may go is said by the project as it was applied, never by the spec that came: lifecycle and protection are its own.
//! - Everything after the gate is as for any deployment: locks, approvals, fences, audit.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_core::gate::Wish;
use longshore_core::spec::Project;

use super::create::project;
use super::pins::below_local;
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, LocalRow};

/// Longest name of a commit: a SHA-256 in hex.
const MAX_COMMIT: usize = 64;

/// A working tree that is to be deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewLocal {
    /// Text of its spec.
    pub spec: String,
    /// The commit that is checked out.
    pub commit: Option<String>,
    /// Whether something differs from the commit.
    pub dirty: Option<bool>,
}

/// A working tree whose spec is understood.
pub(super) struct Tree {
    pub(super) spec: Project,
    pub(super) row: LocalRow,
}

impl Engine {
    /// Reads the spec of a working tree of a project.
    pub(super) async fn working_tree(&self, name: &str, new: &NewLocal) -> Result<Tree> {
        let is_commit =
            |text: &String| (7..=MAX_COMMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if new.commit.as_ref().is_some_and(|commit| !is_commit(commit)) {
            let message = format!("write 7 to {MAX_COMMIT} hex digits, or leave it out");
            return Err(Error::invalid("local.commit", message, None));
        }
        let (spec, digest) = self.read_spec(new.spec.as_bytes()).await?;
        if spec.name != name {
            let message = format!("the spec is of project `{}`, and `{name}` is to be deployed", spec.name);
            return Err(Error::refused("other_project", message, "deploy the project that the spec names".to_owned()));
        }
        Ok(Tree { row: LocalRow { spec: digest, commit: new.commit.clone(), dirty: new.dirty }, spec })
    }

    /// The other projects that a deployment of a working tree deploys too.
    ///
    /// # Errors
    /// What is wrong with the spec; when there is no such project, or none of one that it deploys.
    pub async fn below_local(&self, name: &str, new: &NewLocal) -> Result<BTreeSet<String>> {
        let (tree, name) = (self.working_tree(name, new).await?, name.to_owned());
        self.read(move |tx| Box::pin(async move { below_local(tx, &name, &tree.spec).await })).await
    }
}

/// The project's spec as it was applied last.
pub(super) async fn applied(tx: &mut dyn Tx, name: &str) -> Result<Arc<Project>> {
    let project = project(tx, name).await?;
    let revision = tx.revision(project.id, project.revision).await?;
    Ok(revision.ok_or_else(|| Error::not_found("revision of project", name))?.spec)
}

/// Whether a working tree may go to an environment at all: roles and locks are over environments that were applied.
pub(super) fn check_environment(applied: &Project, name: &str) -> Result<()> {
    if applied.environment(name).is_some() {
        return Ok(());
    }
    let hint = format!(
        "a working tree goes where the project as it was applied goes: apply `{}` with the environment first",
        applied.name
    );
    Err(Error::NotFound { kind: "environment", name: name.to_owned(), hint: Some(hint) })
}

/// Puts into the wish of a deployment what the project as it was applied says.
pub(super) fn bound<'a>(
    wish: Wish<'a>,
    row: &DeploymentRow,
    (applied, channel): (&'a Project, &str),
    own: &Project,
) -> Wish<'a> {
    let says = |spec: &Project| spec.environment(&row.environment).is_some_and(|environment| environment.protected);
    let protected = says(applied) || says(own);
    Wish { local: true, protected, lifecycle: applied.lifecycle_of(channel), ..wish }
}
