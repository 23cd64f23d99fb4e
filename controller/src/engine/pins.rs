//! Which releases of other projects a release holds: one for each `deploy-release` step, chosen when it is made.
//!
//! Invariants: what a release holds was made before it, so releases never hold each other; no project comes twice on a way down
//! from a release, since a deployment keeps its project and environment to itself until its children have ended.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::expression::Template;
use longshore_core::id::ReleaseId;
use longshore_core::spec::{Action, Mode, Project, Step, check_version};
use longshore_core::variables::{self, Place};

use super::channels::{Subject, asked_about, choose};
use super::context::Values;
use super::create::{project, set_value};
use super::releases::find_to_deploy;
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::rows::{ProjectRow, ReleaseFilter, ReleaseRow, VariableRow};

/// How deep children go, the first one counted.
const MAX_DEPTH: usize = 5;

/// The release of each `deploy-release` step, by index of the step.
pub(super) type Pins = BTreeMap<u32, ReleaseId>;

/// Other projects that a deployment deploys too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// Names of the projects.
    pub projects: BTreeSet<String>,
    /// Where a release that is made on the spot goes by itself later.
    pub automatic: BTreeSet<String>,
}

impl Engine {
    /// The projects that a deployment of a release deploys too; of a new one those of the release that would be made now.
    ///
    /// # Errors
    /// When there is no such project or release, or none of a project that is to be deployed; a version that fits no channel.
    pub async fn below(&self, name: &str, subject: &Subject) -> Result<Below> {
        let (name, subject) = (name.to_owned(), subject.clone());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let (channel, version) = match subject {
                    Subject::Release(version) => {
                        let release = find_to_deploy(tx, &project, &version).await?;
                        let projects = projects(tx, &release.children).await?;
                        return Ok(Below { projects, automatic: BTreeSet::new() });
                    }
                    Subject::New { channel, version } => (channel, version),
                };
                let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
                let spec = spec.ok_or_else(|| Error::not_found("revision of project", &name))?;
                let set = tx.variables(project.id).await?;
                let chosen = choose(tx, &project, &spec, (channel.as_deref(), version.as_deref())).await?;
                let pins = pins(tx, &project, (&spec, &chosen.channel), &set).await?;
                let phases = spec.lifecycle_of(&chosen.channel).iter();
                let automatic = phases.filter(|phase| phase.mode == Mode::Automatic);
                let automatic = automatic.flat_map(|phase| phase.environments.iter().cloned()).collect();
                Ok(Below { projects: projects(tx, &pins).await?, automatic })
            })
        })
        .await
    }
}

/// The projects that a deployment of a working tree deploys too.
pub(super) async fn below_local(tx: &mut dyn Tx, name: &str, spec: &Project) -> Result<BTreeSet<String>> {
    let project = project(tx, name).await?;
    let set = tx.variables(project.id).await?;
    let channel = asked_about(spec, None)?;
    let pins = pins(tx, &project, (spec, channel), &set).await?;
    projects(tx, &pins).await
}

/// Chooses the releases of other projects that a release of this spec in a channel holds.
pub(super) async fn pins(
    tx: &mut dyn Tx,
    project: &ProjectRow,
    (spec, channel): (&Project, &str),
    set: &[VariableRow],
) -> Result<Pins> {
    let mut pins = Pins::new();
    for (index, step) in (0..).zip(&spec.steps) {
        let Action::DeployRelease(asked) = &step.action else { continue };
        let child = tx.project(&asked.project).await?.ok_or_else(|| Error::NotFound {
            kind: "project",
            name: asked.project.clone(),
            hint: Some(format!("step `{}` deploys it: apply its spec and make a release of it first", step.name)),
        })?;
        let release = match &asked.version {
            Some(template) => {
                let version = version_of((spec, channel), step, template, set)?;
                find_to_deploy(tx, &child, &version).await?
            }
            None => {
                let newest = newest(tx, &child, asked.channel.as_deref()).await?;
                newest.ok_or_else(|| no_release(step, &child.name, asked.channel.as_deref()))?
            }
        };
        if let Some(reason) = &release.blocked {
            let message = format!(
                "step `{}` deploys release `{}` of project `{}`, which is blocked: {reason}; nothing was made",
                step.name, release.version, child.name
            );
            let hint = "name another version, or leave `version` out for the newest one that is not blocked".to_owned();
            return Err(Error::refused("release_blocked", message, hint));
        }
        check_way(tx, project, step, &release).await?;
        pins.insert(index, release.id);
    }
    Ok(pins)
}

fn no_release(step: &Step, child: &str, channel: Option<&str>) -> Error {
    let place = channel.map_or_else(String::new, |name| format!(" in channel `{name}`"));
    let message = format!(
        "step `{}` deploys project `{child}`, which has no release{place} that is not blocked; nothing was made",
        step.name
    );
    let named = channel.map_or_else(String::new, |name| format!(" --channel {name}"));
    Error::refused("no_child_release", message, format!("make one: `longshore release create {child}{named}`"))
}

/// The release of the highest version that is not blocked: in a channel, or in the default one where the project has one.
async fn newest(tx: &mut dyn Tx, project: &ProjectRow, channel: Option<&str>) -> Result<Option<ReleaseRow>> {
    let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
    let spec = spec.ok_or_else(|| Error::not_found("revision of project", &project.name))?;
    let channel = match channel {
        Some(name) => Some(spec.channel(name)?),
        None => spec.default_channel().filter(|_| !spec.channels.is_empty()),
    };
    let channel = channel.map(|channel| channel.name.clone());
    let mut filter = ReleaseFilter { channel, ..ReleaseFilter::default() };
    loop {
        let page = tx.releases(project.id, &filter).await?;
        let Some(last) = page.last() else { return Ok(None) };
        filter.before = Some(last.sort_key.clone());
        if let Some(found) = page.into_iter().find(|release| release.blocked.is_none()) {
            return Ok(Some(found));
        }
    }
}

/// The version that a step names, which has to be the same in every environment: a release holds one.
fn version_of(
    (spec, channel): (&Project, &str),
    step: &Step,
    template: &Template,
    set: &[VariableRow],
) -> Result<String> {
    let field = format!("steps.{}.deploy-release.version", step.name);
    let set: Vec<_> = set.iter().filter_map(|row| set_value(spec, row)).collect();
    let (mut found, given): (Option<String>, _) = (None, BTreeMap::new());
    for environment in &spec.environments {
        let place = Place { environment: &environment.name, channel, step: None, given: &given };
        let resolved = variables::resolve(spec, &set, &place);
        let values = Values::before_release(&spec.name, &environment.name, resolved, &step.name);
        let rendered = template.render(&values).map_err(|error| {
            let hint = "a release holds the version, so it cannot come with a deployment".to_owned();
            Error::invalid(&field, error.to_string(), hint)
        })?;
        let version = rendered.text;
        check_version(&version)
            .map_err(|why| Error::invalid(&field, format!("came out as `{version}`: {why}"), None))?;
        match &found {
            Some(other) if *other != version => {
                let message = format!("is `{other}` in one environment and `{version}` in another");
                let hint =
                    "a release holds one release of the other project: write the same version for all".to_owned();
                return Err(Error::invalid(&field, message, hint));
            }
            _ => found = Some(version),
        }
    }
    found.ok_or_else(|| Error::Internal(format!("project `{}` has no environment", spec.name)))
}

/// Refuses a child that leads back to the project, or too far down.
async fn check_way(tx: &mut dyn Tx, project: &ProjectRow, step: &Step, child: &ReleaseRow) -> Result<()> {
    let (below, depth) = way_down(tx, BTreeSet::from([child.id])).await?;
    if below.contains(&project.name) {
        let message = format!(
            "step `{}` deploys release `{}` of project `{}`, which in turn deploys project `{}`: that would never end; \
             nothing was made",
            step.name, child.version, child.project_name, project.name
        );
        let hint = "take one of the `deploy-release` steps out, or deploy both from a third project".to_owned();
        return Err(Error::refused("child_circle", message, hint));
    }
    if depth > MAX_DEPTH {
        let message = format!(
            "step `{}` deploys release `{}` of project `{}`, whose own children go {depth} deep with it; {MAX_DEPTH} are \
             allowed; nothing was made",
            step.name, child.version, child.project_name
        );
        return Err(Error::refused("child_depth", message, "deploy some of them side by side instead".to_owned()));
    }
    Ok(())
}

/// Names of all projects that these releases deploy, their own ones first.
pub(super) async fn projects(tx: &mut dyn Tx, pins: &Pins) -> Result<BTreeSet<String>> {
    Ok(way_down(tx, pins.values().copied().collect()).await?.0)
}

/// The projects of these releases and of all that they hold, and how deep that goes.
async fn way_down(tx: &mut dyn Tx, mut level: BTreeSet<ReleaseId>) -> Result<(BTreeSet<String>, usize)> {
    let (mut found, mut depth) = (BTreeSet::new(), 0);
    // Each release was made after those that it holds, so this ends.
    while !level.is_empty() {
        depth += 1;
        let mut next = BTreeSet::new();
        for id in level {
            let release = tx.release_by_id(id).await?.ok_or_else(|| Error::not_found("release", &id))?;
            next.extend(release.children.into_values());
            found.insert(release.project_name);
        }
        level = next;
    }
    Ok((found, depth))
}

/// Refuses what would deploy a project that the permission was not asked for, because something changed meanwhile.
pub(super) async fn check_permitted(tx: &mut dyn Tx, pins: &Pins, permitted: Option<&BTreeSet<String>>) -> Result<()> {
    let Some(permitted) = permitted else { return Ok(()) };
    match projects(tx, pins).await?.iter().find(|name| !permitted.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::conflict(
            "changed_meanwhile",
            format!(
                "it would deploy project `{name}` too, which it did not when your permissions were looked at; nothing was made"
            ),
            "ask again".to_owned(),
        )),
    }
}

/// The release that a step of a release deploys.
pub(super) async fn pinned(tx: &mut dyn Tx, release: &ReleaseRow, index: u32) -> Result<Option<ReleaseRow>> {
    match release.children.get(&index) {
        Some(id) => Ok(tx.release_by_id(*id).await?),
        None => Ok(None),
    }
}
