//! Releases: made once, shown, blocked. What a release holds is the revision of the spec, versions of variables, the package and images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_core::id::ReleaseId;
use longshore_core::spec::{Phase, Project};
use longshore_core::version;
use serde_json::json;

use super::cascade::stale;
use super::channels::{Chosen, choose, parsed};
use super::create::project;
use super::cx::Cx;
use super::libraries::{check_names, newest_rows};
use super::pins::{Pins, check_permitted, pinned, pins};
use super::sources::Made;
use super::view::{ChildReleaseView, HeldPackageView, ReleaseStepView, ReleaseView, VariableView};
use super::{Engine, Error, Result};
use crate::hex;
use crate::store::Tx;
use crate::store::rows::{CommitRow, ProjectRow, ReleaseFilter, ReleaseRow, VariableRow};

/// Longest reason.
const MAX_REASON: usize = 2_000;
/// What the version of something made of a working tree begins with.
const LOCAL: &str = "local-";

/// A release that is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewRelease {
    /// Its version; `None`: the next one.
    pub version: Option<String>,
    /// Its channel; `None`: what the rules of the channels say.
    pub channel: Option<String>,
    /// SHA-256 in hex of a stored package; `None`: of the project's source, where it names one.
    pub package: Option<String>,
    /// Ref of the project's source, instead of the one in its spec.
    pub reference: Option<String>,
    /// Other projects that it may deploy by itself; `None`: nobody has to ask.
    pub permitted: Option<BTreeSet<String>>,
}

impl Engine {
    /// Freezes a project as it is now.
    ///
    /// # Errors
    /// A version that is none, is there already or fits no channel, a package that is not stored; nothing was made then.
    pub async fn create_release(&self, name: &str, new: NewRelease, by: &str) -> Result<ReleaseView> {
        let made = self.made_for(name, &new, by).await?;
        let (name, by_name) = (name.to_owned(), by.to_owned());
        let row = self
            .change(by, move |tx, cx| {
                Box::pin(async move {
                    let project = project(tx, &name).await?;
                    if made.as_ref().is_some_and(|made| made.revision != project.revision) {
                        return Err(stale(&name));
                    }
                    let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
                    let spec = spec.ok_or_else(|| Error::not_found("revision of project", &name))?;
                    let set = tx.variables(project.id).await?;
                    let asked = (new.channel.as_deref(), new.version.as_deref());
                    let chosen = choose(tx, &project, &spec, asked).await?;
                    let pins = pins(tx, &project, (&spec, &chosen.channel), &set).await?;
                    check_permitted(tx, &pins, new.permitted.as_ref()).await?;
                    let (package, source) = match made {
                        Some(made) => (Some(made.sha256), Some(made.source)),
                        None => (new.package, None),
                    };
                    make(tx, cx, &project, Content { package, source, chosen, pins }, &by_name).await
                })
            })
            .await?;
        if let Err(error) = self.pin_images(&row).await {
            // The release is made; its first start pins what is missing.
            tracing::warn!(error = &error as &dyn std::error::Error, "images of a release are not pinned yet");
        }
        self.read(move |tx| Box::pin(async move { view(tx, row).await })).await
    }

    /// The package of the project's source, when the release is to hold that.
    async fn made_for(&self, name: &str, new: &NewRelease, by: &str) -> Result<Option<Made>> {
        match (&new.package, &new.reference) {
            (Some(_), Some(_)) => Err(both()),
            (Some(_), None) => Ok(None),
            (None, reference) => {
                // What is wrong with the version is wrong before anything is fetched.
                if let Some(version) = &new.version {
                    parsed(version, "version")?;
                }
                self.sourced(name, reference.as_deref(), by).await
            }
        }
    }

    /// A release.
    ///
    /// # Errors
    /// When there is no such project or version.
    pub async fn release(&self, name: &str, version: &str) -> Result<ReleaseView> {
        let (name, version) = (name.to_owned(), version.to_owned());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let row = find(tx, &project, &version).await?;
                view(tx, row).await
            })
        })
        .await
    }

    /// Releases of a project, or of one of its channels, newest version first, without what they hold; with `local` what was made of
    /// working trees instead. `before` is a version.
    ///
    /// # Errors
    /// When there is no such project; a version to begin before that is none.
    pub async fn releases(&self, name: &str, filter: ReleaseFilter) -> Result<Vec<ReleaseView>> {
        let before = match filter.before.clone() {
            // In the order of their making, which is that of their words.
            Some(text) if filter.local => Some(text),
            Some(text) => Some(version::sort_key(&parsed(&text, "before")?)),
            None => None,
        };
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let filter = ReleaseFilter { before, ..filter };
                let rows = tx.releases(project.id, &filter).await?;
                if rows.is_empty()
                    && let Some(channel) = &filter.channel
                    && let Some(now) = tx.revision(project.id, project.revision).await?
                {
                    // A channel that the spec does not name any more may have releases; one that never was is a slip.
                    now.spec.channel(channel)?;
                }
                Ok(rows.into_iter().map(bare).collect())
            })
        })
        .await
    }

    /// Forbids every further deployment of a release, or allows it again.
    ///
    /// # Errors
    /// When there is no such release, or a reason is missing.
    pub async fn block_release(
        &self,
        name: &str,
        version: &str,
        reason: Option<String>,
        by: &str,
    ) -> Result<ReleaseView> {
        if let Some(reason) = &reason
            && (reason.trim().len() < 3 || reason.len() > MAX_REASON)
        {
            return Err(Error::invalid("reason", format!("say why in 3 to {MAX_REASON} bytes"), None));
        }
        let (name, version) = (name.to_owned(), version.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let row = find(tx, &project, &version).await?;
                tx.block_release(row.id, reason.as_deref()).await?;
                let action = if reason.is_some() { "release.blocked" } else { "release.unblocked" };
                let detail = json!({ "project": name, "version": version, "reason": reason });
                cx.audit(tx, action, format!("release/{name}/{version}"), detail).await?;
                view(tx, ReleaseRow { blocked: reason, ..row }).await
            })
        })
        .await
    }
}

/// A package and a ref at once.
pub(super) fn both() -> Error {
    let message = "a package is given, or made of the project's source at a ref, not both".to_owned();
    Error::invalid("ref", message, "leave one of them out".to_owned())
}

/// A release by its version, or what to do.
pub(super) async fn find(tx: &mut dyn Tx, project: &ProjectRow, version: &str) -> Result<ReleaseRow> {
    tx.release(project.id, version).await?.ok_or_else(|| Error::NotFound {
        kind: "release",
        name: format!("{} {version}", project.name),
        hint: Some(format!(
            "`longshore release list {0}` shows them; make one with `longshore release create {0}`",
            project.name
        )),
    })
}

/// As [`find`], for what may be deployed again: what was made of a working tree may not.
pub(super) async fn find_to_deploy(tx: &mut dyn Tx, project: &ProjectRow, version: &str) -> Result<ReleaseRow> {
    let release = find(tx, project, version).await?;
    if release.local.is_some() {
        let message = format!("`{version}` was made of a working tree for one deployment, and is no release");
        let hint = format!(
            "apply the project and make a release: `longshore apply`, `longshore release create {}`",
            project.name
        );
        return Err(Error::refused("local_release", message, hint));
    }
    Ok(release)
}

/// Values that were set on the server, at the versions that a release holds.
pub(super) async fn held_variables(tx: &mut dyn Tx, release: &ReleaseRow) -> Result<Vec<VariableRow>> {
    let mut rows = Vec::new();
    for id in &release.variables {
        rows.push(tx.variable(*id).await?.ok_or_else(|| Error::not_found("version of a variable", id))?);
    }
    Ok(rows)
}

/// The spec that a release holds.
pub(super) async fn held_spec(tx: &mut dyn Tx, release: &ReleaseRow) -> Result<Arc<Project>> {
    if let Some(spec) = &release.local {
        return Ok(Arc::new(spec.clone()));
    }
    let revision = tx.revision(release.project, release.revision).await?;
    let missing = || Error::Internal(format!("revision {} of `{}` is missing", release.revision, release.project_name));
    Ok(revision.ok_or_else(missing)?.spec)
}

/// What a release holds. Its channel does not belong to it: the same thing in another channel is no way around a block.
fn digest(project: &ProjectRow, package: Option<&str>, variables: &[i64], pins: &Pins) -> String {
    let mut held = json!({ "revision": project.revision, "package": package, "variables": variables });
    // Left out where there are none: releases from before this keep their digest.
    if let Some(held) = held.as_object_mut().filter(|_| !pins.is_empty()) {
        held.insert("children".to_owned(), json!(pins));
    }
    sha256(&held.to_string())
}

fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

/// Versions of all variables that count for a project now, its libraries' among them.
async fn frozen(tx: &mut dyn Tx, project: &ProjectRow) -> Result<Vec<i64>> {
    let revision = tx.revision(project.id, project.revision).await?;
    let missing = || Error::Internal(format!("the newest revision of `{}` is missing", project.name));
    frozen_for(tx, project, &revision.ok_or_else(missing)?.spec).await
}

/// Versions of all variables that count for a spec of a project now.
async fn frozen_for(tx: &mut dyn Tx, project: &ProjectRow, spec: &Project) -> Result<Vec<i64>> {
    let rows = newest_rows(tx, project, spec).await?;
    check_names(spec, &rows)?;
    Ok(rows.iter().map(|row| row.id).collect())
}

/// A release of what the project is now, in a channel.
pub(super) async fn on_the_spot(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    project: &ProjectRow,
    (spec, channel): (&Project, &str),
    (package, source): (Option<String>, Option<CommitRow>),
    by: &str,
) -> Result<ReleaseRow> {
    let variables = frozen(tx, project).await?;
    let set = newest_rows(tx, project, spec).await?;
    let pins = pins(tx, project, (spec, channel), &set).await?;
    match tx.release_same(project.id, &digest(project, package.as_deref(), &variables, &pins)).await? {
        // The gate refuses it: the same thing under another version is no way around a block.
        Some(row) if row.blocked.is_some() => Ok(row),
        // What an image's name means may have changed since a release with the same spec was made, and this deploys what is there now.
        _ => {
            let chosen = choose(tx, project, spec, (Some(channel), None)).await?;
            make(tx, cx, project, Content { package, source, chosen, pins }, by).await
        }
    }
}

/// What holds the spec of a working tree, for the one deployment of it.
pub(super) async fn of_working_tree(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    project: &ProjectRow,
    (spec, channel, spec_digest): (&Project, &str, &str),
    (package, by): (Option<String>, &str),
) -> Result<ReleaseRow> {
    let set = newest_rows(tx, project, spec).await?;
    let (variables, children) = (frozen_for(tx, project, spec).await?, pins(tx, project, (spec, channel), &set).await?);
    let held = json!({ "local": spec_digest, "package": package, "variables": variables, "children": children });
    let id = cx.clock.release_id();
    // No version that anybody can give, and in the order of making.
    let version = format!("{LOCAL}{}", id.to_string().trim_start_matches("rel_"));
    let row = ReleaseRow {
        id,
        project: project.id,
        project_name: project.name.clone(),
        sort_key: version.clone(),
        version,
        revision: project.revision,
        package,
        source: None,
        digest: sha256(&held.to_string()),
        variables,
        children,
        channel: channel.to_owned(),
        blocked: None,
        local: Some(spec.clone()),
        created_at: cx.now,
        created_by: by.to_owned(),
    };
    if tx.insert_release(&row).await? {
        return Ok(row);
    }
    Err(Error::Internal(format!("`{}` is there already", row.version)))
}

/// What a release is made of.
struct Content {
    package: Option<String>,
    /// The commit that the package was made of.
    source: Option<CommitRow>,
    chosen: Chosen,
    pins: Pins,
}

async fn make(tx: &mut dyn Tx, cx: &mut Cx, project: &ProjectRow, of: Content, by: &str) -> Result<ReleaseRow> {
    let Content { package, source, chosen: Chosen { channel, version }, pins } = of;
    if let Some(sha256) = &package
        && tx.package(sha256).await?.is_none()
    {
        let hint = Some("upload it first with PUT /api/v1/packages/SHA256".to_owned());
        return Err(Error::NotFound { kind: "package", name: sha256.clone(), hint });
    }
    let variables = frozen(tx, project).await?;
    let row = ReleaseRow {
        id: cx.clock.release_id(),
        project: project.id,
        project_name: project.name.clone(),
        sort_key: version::sort_key(&version),
        version: version.to_string(),
        channel,
        revision: project.revision,
        digest: digest(project, package.as_deref(), &variables, &pins),
        package,
        source,
        variables,
        children: pins,
        blocked: None,
        local: None,
        created_at: cx.now,
        created_by: by.to_owned(),
    };
    if !tx.insert_release(&row).await? {
        let message = format!(
            "release `{}` of project `{}` is there already, and a release never changes",
            row.version, row.project_name
        );
        return Err(Error::conflict(
            "version_taken",
            message,
            "choose another version, or leave `--version` out for the next one".to_owned(),
        ));
    }
    let mut detail = json!({ "project": row.project_name, "version": row.version, "channel": row.channel, "revision": row.revision, "package": row.package });
    if let Some(source) = &row.source {
        detail["source"] = json!(source);
    }
    cx.audit(tx, "release.created", format!("release/{}/{}", row.project_name, row.version), detail).await?;
    cx.after.promote.insert(row.id);
    Ok(row)
}

/// A release without what it holds.
fn bare(row: ReleaseRow) -> ReleaseView {
    ReleaseView {
        id: row.id.to_string(),
        project: row.project_name,
        version: row.version,
        channel: row.channel,
        revision: row.revision,
        package: None,
        images: BTreeMap::new(),
        steps: Vec::new(),
        variables: Vec::new(),
        blocked: row.blocked,
        local: row.local.is_some(),
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
    }
}

async fn view(tx: &mut dyn Tx, row: ReleaseRow) -> Result<ReleaseView> {
    let spec = held_spec(tx, &row).await?;
    let package = match &row.package {
        Some(sha256) => {
            let stored = tx.package(sha256).await?.ok_or_else(|| Error::not_found("package", sha256))?;
            let source = row.source.clone().map(Into::into);
            Some(HeldPackageView { sha256: stored.sha256, bytes: stored.bytes, source })
        }
        None => None,
    };
    let set: Vec<VariableView> = held_variables(tx, &row).await?.iter().map(super::projects::variable_view).collect();
    let images = tx.images(row.id).await?;
    let mut children = BTreeMap::new();
    for index in row.children.keys() {
        children.extend(pinned(tx, &row, *index).await?.map(|child| (*index, child_view(child))));
    }
    let steps = (0..).zip(&spec.steps).map(|(index, step)| ReleaseStepView {
        child: children.remove(&index),
        name: step.name.clone(),
        kind: kind(step).to_owned(),
        image: step.image.as_ref().map(|image| image.source().to_owned()),
        needs: step.needs.clone(),
        group: step.group.clone(),
        when: step.when.as_ref().map(|when| when.source().to_owned()),
    });
    let (steps, variables) = (steps.collect(), super::projects::declared(&spec, set));
    Ok(ReleaseView { package, images, steps, variables, ..bare(row) })
}

fn child_view(row: ReleaseRow) -> ChildReleaseView {
    ChildReleaseView { release: row.id.to_string(), project: row.project_name, version: row.version }
}

fn kind(step: &longshore_core::spec::Step) -> &'static str {
    use longshore_core::spec::Action;
    match &step.action {
        Action::Run { .. } => "run",
        Action::Pulumi(_) => "pulumi",
        Action::Approval(_) => "approval",
        Action::Http(_) => "http",
        Action::DeployRelease(_) => "deploy-release",
        _ => "other",
    }
}

/// Environments of a lifecycle in which a release succeeded.
pub(super) async fn reached(tx: &mut dyn Tx, release: ReleaseId, lifecycle: &[Phase]) -> Result<BTreeSet<String>> {
    let mut reached = BTreeSet::new();
    for phase in lifecycle {
        for environment in &phase.environments {
            if tx.succeeded_in(release, environment).await? {
                reached.insert(environment.clone());
            }
        }
    }
    Ok(reached)
}
