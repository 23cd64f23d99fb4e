//! Takes releases further: to the next phase when people ask, through automatic phases by itself, and back.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::gate;
use longshore_core::id::ReleaseId;
use longshore_core::spec::Mode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::create::project;
use super::releases::{self, held_spec, reached};
use super::{Engine, Error, NewDeployment, Result};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, ProjectRow, ReleaseFilter, ReleaseRow};
use crate::tasks::OnError;

/// Releases of a channel that are looked at when the controller starts: what it was about to do is found among the newest.
const NEWEST: u32 = 20;

/// A deployment of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromotedTo {
    /// `dep_...`.
    pub deployment: String,
    /// Where it goes.
    pub environment: String,
}

/// What a promotion began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Promoted {
    /// Name of the phase.
    pub phase: String,
    /// One for each environment that did not have the release.
    pub deployments: Vec<PromotedTo>,
}

/// What a rollback began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RolledBack {
    /// `dep_...`.
    pub deployment: String,
    /// Version of the release.
    pub release: String,
}

impl Engine {
    /// The next phase of a release, and those of its environments that it is not in and not on its way to.
    ///
    /// # Errors
    /// When there is no next phase, or everything of it is under way.
    pub async fn next_phase(&self, name: &str, version: &str) -> Result<(String, Vec<String>)> {
        let (name, version) = (name.to_owned(), version.to_owned());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let release = releases::find_to_deploy(tx, &project, &version).await?;
                let spec = held_spec(tx, &release).await?;
                let lifecycle = spec.lifecycle_of(&release.channel);
                if lifecycle.is_empty() {
                    let message = format!("project `{name}` has no lifecycle, so there is no next phase");
                    let hint = "write `lifecycle` into its spec, or deploy to an environment by name".to_owned();
                    return Err(Error::refused("no_lifecycle", message, hint));
                }
                let succeeded = reached(tx, release.id, lifecycle).await?;
                let Some(phase) = gate::next_phase(lifecycle, &succeeded) else {
                    let message = format!("release `{version}` has passed every phase");
                    return Err(Error::conflict("passed_every_phase", message, None));
                };
                let busy = tx.under_way(release.id).await?;
                let open = |name: &&String| !succeeded.contains(*name) && !busy.contains(*name);
                let open: Vec<String> = phase.environments.iter().filter(open).cloned().collect();
                if open.is_empty() {
                    let message = format!("release `{version}` is on its way through phase `{}` already", phase.name);
                    let hint = "wait for its deployments: `longshore deployment list`".to_owned();
                    return Err(Error::conflict("under_way", message, hint));
                }
                Ok((phase.name.clone(), open))
            })
        })
        .await
    }

    /// What the same operation began before: its answer may have been lost.
    ///
    /// # Errors
    /// When there is no such project or release.
    pub async fn promoted_before(&self, name: &str, version: &str, operation: &str) -> Result<Option<Promoted>> {
        let (name, version, operation) = (name.to_owned(), version.to_owned(), operation.to_owned());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let release = releases::find(tx, &project, &version).await?;
                for phase in held_spec(tx, &release).await?.lifecycle_of(&release.channel) {
                    let mut deployments = Vec::new();
                    for environment in phase.environments.iter().cloned() {
                        let before = tx.deployment_by_operation(&format!("{operation}/{environment}")).await?;
                        let to =
                            |row: DeploymentRow| PromotedTo { deployment: row.deployment.id.to_string(), environment };
                        deployments.extend(before.map(to));
                    }
                    if !deployments.is_empty() {
                        return Ok(Some(Promoted { phase: phase.name.clone(), deployments }));
                    }
                }
                Ok(None)
            })
        })
        .await
    }

    /// Deploys a release to the environments of its next phase.
    ///
    /// # Errors
    /// When there is no next phase, or everything of it is under way.
    pub async fn promote(
        &self,
        name: &str,
        version: &str,
        operation: &str,
        given: BTreeMap<String, String>,
        by: &str,
    ) -> Result<Promoted> {
        let (phase, open) = self.next_phase(name, version).await?;
        let mut deployments = Vec::new();
        for environment in open {
            let new = NewDeployment {
                project: name.to_owned(),
                environment: environment.clone(),
                release: Some(version.to_owned()),
                variables: given.clone(),
                operation_id: format!("{operation}/{environment}"),
                ..NewDeployment::default()
            };
            let deployment = self.create_deployment(new, by).await?.to_string();
            deployments.push(PromotedTo { deployment, environment });
        }
        Ok(Promoted { phase, deployments })
    }

    /// What the same rollback began before: its answer may have been lost.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn rolled_back_before(
        &self,
        operation: &str,
        project: &str,
        environment: &str,
    ) -> Result<Option<RolledBack>> {
        let (operation, project, environment) = (operation.to_owned(), project.to_owned(), environment.to_owned());
        let before = self
            .read(move |tx| Box::pin(async move { Ok(tx.deployment_by_operation(&operation).await?) }))
            .await?
            .filter(|row| row.project_name == project && row.environment == environment);
        Ok(before.map(|row| RolledBack { deployment: row.deployment.id.to_string(), release: row.version }))
    }

    /// Version of the release that last succeeded in an environment before the one that is there now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rollback_target(&self, name: &str, environment: &str) -> Result<String> {
        let (project_name, target) = (name.to_owned(), environment.to_owned());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &project_name).await?;
                if let Some(id) = tx.last_good(project.id, &target).await? {
                    let release = tx.release_by_id(id).await?.ok_or_else(|| Error::not_found("release", &id))?;
                    return Ok(release.version);
                }
                let message = format!(
                    "no other release of `{project_name}` that is not blocked has succeeded in `{target}`, so there is nothing to go back to"
                );
                let hint =
                    format!("`longshore deployment list --project {project_name} --env {target}` shows what was there");
                Err(Error::conflict("nothing_to_roll_back_to", message, hint))
            })
        })
        .await
    }

    /// Deploys a release that was in an environment before, as [`Engine::rollback_target`] found it.
    ///
    /// # Errors
    /// What [`Engine::create_deployment`] refuses.
    pub async fn rollback(
        &self,
        name: &str,
        environment: &str,
        version: String,
        operation: &str,
        by: &str,
    ) -> Result<RolledBack> {
        let new = NewDeployment {
            project: name.to_owned(),
            environment: environment.to_owned(),
            release: Some(version.clone()),
            operation_id: operation.to_owned(),
            ..NewDeployment::default()
        };
        let deployment = self.create_deployment(new, by).await?.to_string();
        Ok(RolledBack { deployment, release: version })
    }

    /// Looks, in a task of its own, whether releases go further by themselves.
    pub(super) fn promote_later(&self, releases: BTreeSet<ReleaseId>) {
        if releases.is_empty() {
            return;
        }
        let engine = self.clone();
        self.tasks().spawn("automatic phases", OnError::Log, async move {
            for release in releases {
                engine.promote_by_itself(release).await?;
            }
            Ok::<(), Error>(())
        });
    }

    /// What may have been cut off by the end of the process before this one.
    pub(super) fn promote_all(&self) {
        let engine = self.clone();
        self.tasks().spawn("automatic phases", OnError::Log, async move {
            let newest = engine
                .read(|tx| {
                    Box::pin(async move {
                        let mut found = BTreeSet::new();
                        for project in tx.projects().await? {
                            for channel in channels_of(tx, &project).await? {
                                let filter = ReleaseFilter { limit: NEWEST, channel, ..ReleaseFilter::default() };
                                found.extend(tx.releases(project.id, &filter).await?.into_iter().map(|row| row.id));
                            }
                        }
                        Ok(found)
                    })
                })
                .await?;
            for release in newest {
                engine.promote_by_itself(release).await?;
            }
            Ok::<(), Error>(())
        });
    }

    /// Starts the deployments of the next phase if that is automatic. Each environment is asked for once a release.
    pub(super) async fn promote_by_itself(&self, id: ReleaseId) -> Result<()> {
        let found = self
            .read(move |tx| {
                Box::pin(async move {
                    let release = tx.release_by_id(id).await?.ok_or_else(|| Error::not_found("release", &id))?;
                    let spec = held_spec(tx, &release).await?;
                    let lifecycle = spec.lifecycle_of(&release.channel);
                    let manual = lifecycle.iter().all(|phase| phase.mode == Mode::Manual);
                    if release.local.is_some() || release.blocked.is_some() || manual {
                        return Ok(None);
                    }
                    let succeeded = reached(tx, id, lifecycle).await?;
                    let mut due = Vec::new();
                    for environment in gate::automatic(lifecycle, &succeeded) {
                        if !tx.asked_for_in(id, environment).await? {
                            due.push(environment.to_owned());
                        }
                    }
                    Ok(Some((release, due)))
                })
            })
            .await?;
        let Some((release, due)) = found else { return Ok(()) };
        for environment in due {
            let new = NewDeployment {
                project: release.project_name.clone(),
                environment: environment.clone(),
                release: Some(release.version.clone()),
                operation_id: format!("automatic/{id}/{environment}"),
                ..NewDeployment::default()
            };
            if let Err(error) = self.create_deployment(new, "controller").await {
                self.not_promoted(&release, environment, &error).await?;
            }
        }
        Ok(())
    }

    async fn not_promoted(&self, release: &ReleaseRow, environment: String, error: &Error) -> Result<()> {
        let (project, version) = (release.project_name.clone(), release.version.clone());
        tracing::warn!(project, version, environment, %error, "a release cannot go on by itself");
        let reason = error.to_string();
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let detail =
                    json!({ "project": project, "version": version, "environment": environment, "reason": reason });
                cx.audit(tx, "release.not_promoted", format!("release/{project}/{version}"), detail).await
            })
        })
        .await
    }
}

/// The channels of a project as it is now, and `None` for the newest of all: an old line of versions is not hidden by a new one.
async fn channels_of(tx: &mut dyn Tx, project: &ProjectRow) -> Result<Vec<Option<String>>> {
    let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
    let own = spec.iter().flat_map(|spec| &spec.channels).map(|channel| Some(channel.name.clone()));
    Ok(std::iter::once(None).chain(own).collect())
}
