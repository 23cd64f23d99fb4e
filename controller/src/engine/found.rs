//! What a deployment is made of, by what the rows say: a release that is there, the project as it is now, or a stack of a release.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::spec::Project;

use super::create::project;
use super::libraries::newest_rows;
use super::local::{self, Tree};
use super::operations::{self, NewOperation};
use super::{Error, NewDeployment, Result, channels, releases};
use crate::store::Tx;
use crate::store::rows::{LocalRow, OperationRow, ProjectRow, ReleaseRow, VariableRow};

/// What the rows say about a wish.
pub(super) struct Found {
    pub(super) project: ProjectRow,
    /// `None`: one is made on the spot.
    pub(super) release: Option<ReleaseRow>,
    pub(super) operation: Option<OperationRow>,
    /// Of the release, or of the one that is to be made.
    pub(super) channel: String,
    pub(super) spec: Arc<Project>,
    pub(super) variables: Vec<VariableRow>,
    /// Of a working tree, if so.
    pub(super) local: Option<LocalRow>,
    /// Values that were asked for by name before, and count where the wish says nothing.
    pub(super) before: BTreeMap<String, String>,
}

impl Found {
    /// Finds what a wish is about, and that it has such an environment.
    pub(super) async fn by(tx: &mut dyn Tx, new: &NewDeployment, tree: Option<Tree>) -> Result<Self> {
        if tree.is_some() && new.release.is_some() {
            let hint = "leave one of them out".to_owned();
            return Err(Error::invalid("local", "a working tree is no release", hint));
        }
        let project = project(tx, &new.project).await?;
        let found = match (&new.operation, &new.release) {
            (Some(operation), _) => Self::of_stack(tx, project, new, operation).await?,
            (None, Some(version)) => Self::of_release(tx, project, new, version).await?,
            (None, None) => Self::of_project(tx, project, new, tree).await?,
        };
        if found.spec.environment(&new.environment).is_none() {
            let known: Vec<_> =
                found.spec.environments.iter().map(|environment| format!("`{}`", environment.name)).collect();
            let hint = format!(
                "project `{}` has {}; add it to `environments` and apply the project",
                new.project,
                known.join(", ")
            );
            return Err(Error::NotFound { kind: "environment", name: new.environment.clone(), hint: Some(hint) });
        }
        Ok(found)
    }

    async fn of_stack(
        tx: &mut dyn Tx,
        project: ProjectRow,
        new: &NewDeployment,
        operation: &NewOperation,
    ) -> Result<Self> {
        let on = operations::find(tx, &project, (&new.environment, new.release.as_deref()), operation).await?;
        Ok(Self {
            project,
            channel: on.release.channel.clone(),
            release: Some(on.release),
            operation: Some(on.operation),
            spec: on.spec,
            variables: on.variables,
            local: None,
            before: on.before,
        })
    }

    async fn of_release(tx: &mut dyn Tx, project: ProjectRow, new: &NewDeployment, version: &str) -> Result<Self> {
        let release = releases::find_to_deploy(tx, &project, version).await?;
        if new.package.is_some() && new.package != release.package {
            let message = format!("release `{version}` holds its own package, which no deployment changes");
            let hint = "leave the package out, or make a new release with it".to_owned();
            return Err(Error::invalid("package", message, hint));
        }
        if new.channel.as_ref().is_some_and(|channel| *channel != release.channel) {
            let message = format!("release `{version}` is in channel `{}`, and that never changes", release.channel);
            let hint = "leave the channel out, or make a new release in the other one".to_owned();
            return Err(Error::invalid("channel", message, hint));
        }
        let (spec, variables) =
            (releases::held_spec(tx, &release).await?, releases::held_variables(tx, &release).await?);
        let (channel, release) = (release.channel.clone(), Some(release));
        Ok(Self { project, release, operation: None, channel, spec, variables, local: None, before: BTreeMap::new() })
    }

    /// The project as it was applied, or a working tree of it.
    async fn of_project(tx: &mut dyn Tx, project: ProjectRow, new: &NewDeployment, tree: Option<Tree>) -> Result<Self> {
        let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
        let spec =
            spec.ok_or_else(|| Error::Internal(format!("the newest revision of `{}` is missing", new.project)))?;
        if let Some(sha256) = &new.package
            && tx.package(sha256).await?.is_none()
        {
            let hint = Some("upload it first with PUT /api/v1/packages/SHA256".to_owned());
            return Err(Error::NotFound { kind: "package", name: sha256.clone(), hint });
        }
        let wanted = new.channel.as_deref();
        let (spec, channel, local) = match tree {
            Some(tree) => {
                local::check_environment(&spec, &new.environment)?;
                let channel = channels::asked_about(&tree.spec, wanted)?.to_owned();
                (Arc::new(tree.spec), channel, Some(tree.row))
            }
            None => {
                let channel = channels::choose(tx, &project, &spec, (wanted, None)).await?.channel;
                (spec, channel, None)
            }
        };
        let variables = newest_rows(tx, &project, &spec).await?;
        let (release, operation, before) = (None, None, BTreeMap::new());
        Ok(Self { project, release, operation, channel, spec, variables, local, before })
    }
}
