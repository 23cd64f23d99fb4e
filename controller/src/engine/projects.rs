//! Projects, their variables and packages.

use std::sync::Arc;

use longshore_core::spec::names;
use longshore_core::spec::{self, Project, Variable};
use longshore_core::variables::Scope;
use serde_json::json;

use super::context::variable_place;
use super::create::project;
use super::cx::Cx;
use super::libraries::newest_rows;
use super::view::{AppliedView, ProjectView, SpecView, VariableView};
use super::{Engine, Error, NewVariable, Result};
use crate::hex;
use crate::store::Tx;
use crate::store::rows::{CommitRow, Owner, PackageRow, ProjectRow, RevisionRow, VariableRow, VariableValue};

/// Longest value of a variable in bytes.
const MAX_VALUE: usize = 256 << 10;

impl Engine {
    /// Creates a project or gives it a new revision; a spec that means the same changes nothing.
    ///
    /// # Errors
    /// [`Error::Spec`] with every mistake.
    pub async fn apply_project(&self, text: &[u8], by: &str) -> Result<AppliedView> {
        self.apply_project_if(text, None, by).await
    }

    /// As [`Engine::apply_project`], but only if `if_revision` is the newest revision (0: there is no project yet). A spec that means
    /// the same as the newest one is never refused, so that a request whose answer was lost may be repeated.
    ///
    /// # Errors
    /// [`Error::Spec`] with every mistake; a conflict when there is another revision by now.
    pub async fn apply_project_if(&self, text: &[u8], if_revision: Option<u64>, by: &str) -> Result<AppliedView> {
        let (spec, digest) = self.read_spec(text).await?;
        if let Some(source) = &spec.source {
            self.allowed(source)?;
        }
        let (id, created_by) = (self.clock().project_id(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let before = tx.project(&spec.name).await?;
                let mut row = match before {
                    Some(row) => row,
                    None => {
                        ProjectRow { id, name: spec.name.clone(), revision: 0, created_at: cx.now, updated_at: cx.now }
                    }
                };
                let newest = tx.revision(row.id, row.revision).await?;
                if newest.as_ref().is_some_and(|newest| newest.digest == digest) {
                    return Ok(AppliedView { project: row.name, revision: row.revision, changed: false });
                }
                if if_revision.is_some_and(|wanted| wanted != row.revision) {
                    return Err(moved(&row.name, newest.as_ref()));
                }
                (row.revision, row.updated_at) = (row.revision + 1, cx.now);
                tx.save_project(&row).await?;
                let revision = row.revision;
                tx.insert_revision(&RevisionRow {
                    project: row.id,
                    revision,
                    digest,
                    spec: Arc::new(spec),
                    created_at: cx.now,
                    created_by,
                })
                .await?;
                let detail = json!({ "project": row.name, "revision": revision });
                cx.audit(tx, "project.applied", format!("project/{}", row.name), detail).await?;
                Ok(AppliedView { project: row.name, revision, changed: true })
            })
        })
        .await
    }

    /// A spec with what it names on the server, and its digest.
    pub(super) async fn read_spec(&self, text: &[u8]) -> Result<(Project, String)> {
        let mut spec = spec::parse_bytes(text).map_err(Error::Spec)?;
        if !spec.libraries.is_empty() || spec.steps.iter().any(|step| !step.accounts.is_empty()) {
            let text = String::from_utf8_lossy(text);
            spec = spec::parse_with(&text, Some(&self.outside().await?)).map_err(Error::Spec)?;
        }
        let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spec.digest_input()).as_ref());
        Ok((spec, digest))
    }

    /// All projects by name.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn projects(&self) -> Result<Vec<ProjectView>> {
        self.read(|tx| {
            Box::pin(async move {
                let mut views = Vec::new();
                for row in tx.projects().await? {
                    views.push(view(tx, row).await?);
                }
                Ok(views)
            })
        })
        .await
    }

    /// A project.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn project(&self, name: &str) -> Result<ProjectView> {
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let row = project(tx, &name).await?;
                view(tx, row).await
            })
        })
        .await
    }

    /// The newest revision of a project's spec.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn spec(&self, name: &str) -> Result<SpecView> {
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let row = project(tx, &name).await?;
                let newest = tx.revision(row.id, row.revision).await?;
                let newest = newest.ok_or_else(|| Error::not_found("revision of project", &name))?;
                Ok(SpecView {
                    project: row.name,
                    revision: newest.revision,
                    created_at: newest.created_at.to_string(),
                    created_by: newest.created_by,
                    spec: serde_json::to_value(&*newest.spec)
                        .map_err(|error| Error::Internal(format!("a spec that is no JSON: {error}")))?,
                })
            })
        })
        .await
    }

    /// Sets a variable's value, for one environment or for all.
    ///
    /// # Errors
    /// When the project's spec does not declare it so.
    pub async fn set_variable(&self, name: &str, new: NewVariable, by: &str) -> Result<VariableView> {
        check_value(&new)?;
        let (name, by_name) = (name.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let revision = tx.revision(project.id, project.revision).await?;
                let spec = revision
                    .map(|revision| revision.spec)
                    .ok_or_else(|| Error::not_found("revision of project", &name))?;
                check(&spec, &new)?;
                let secret = new.secret;
                let row = sealed_row(cx, Owner::Project(project.id), new, by_name)?;
                tx.insert_variable(&row).await?;
                let detail =
                    json!({ "project": name, "name": row.name, "environment": row.scope.environment(), "for": row.scope.to_string(), "secret": secret });
                cx.audit(tx, "variable.set", format!("variable/{name}/{}", row.name), detail).await?;
                Ok(variable_view(&row))
            })
        })
        .await
    }

    /// What the spec declares and what was set on the server.
    ///
    /// # Errors
    /// When there is no such project.
    pub async fn variables(&self, name: &str) -> Result<Vec<VariableView>> {
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let revision = tx.revision(project.id, project.revision).await?;
                let Some(spec) = revision.map(|revision| revision.spec) else { return Ok(Vec::new()) };
                let set = newest_rows(tx, &project, &spec).await?;
                Ok(declared(&spec, set.iter().map(variable_view).collect()))
            })
        })
        .await
    }

    /// Records a package whose bytes are durable in `blobs`.
    ///
    /// # Errors
    /// When rows cannot be saved.
    pub async fn add_package(&self, sha256: &str, bytes: u64, by: &str) -> Result<()> {
        self.add_package_of(sha256, bytes, None, by).await
    }

    /// As [`Engine::add_package`], with the commit that it was made of.
    pub(super) async fn add_package_of(
        &self,
        sha256: &str,
        bytes: u64,
        source: Option<CommitRow>,
        by: &str,
    ) -> Result<()> {
        let (sha256, created_by) = (sha256.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if tx.package(&sha256).await?.is_none() {
                    let detail = match &source {
                        Some(source) => json!({ "bytes": bytes, "source": source }),
                        None => json!({ "bytes": bytes }),
                    };
                    let row = PackageRow { sha256: sha256.clone(), bytes, created_at: cx.now, created_by, source };
                    tx.save_package(&row).await?;
                    cx.audit(tx, "package.stored", format!("package/{sha256}"), detail).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The newest packages; without a limit 50, and never more than 500.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn packages(&self, limit: Option<u32>) -> Result<Vec<PackageRow>> {
        let limit = limit.unwrap_or(50).clamp(1, 500);
        self.read(move |tx| Box::pin(async move { Ok(tx.packages(limit).await?) })).await
    }

    /// Whether a package is recorded.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn has_package(&self, sha256: &str) -> Result<bool> {
        let sha256 = sha256.to_owned();
        self.read(move |tx| Box::pin(async move { Ok(tx.package(&sha256).await?.is_some()) })).await
    }
}

/// The refusal of a request that was made for another revision.
fn moved(name: &str, newest: Option<&RevisionRow>) -> Error {
    let now = match newest {
        Some(newest) => {
            format!("is at revision {}, made by `{}` at {}", newest.revision, newest.created_by, newest.created_at)
        }
        None => "does not exist".to_owned(),
    };
    let hint = "look at what changed (`longshore apply --dry-run` shows it), bring it into the file, and apply again with \
                the newest revision";
    Error::conflict("revision_moved", format!("project `{name}` {now}; nothing was changed"), hint.to_owned())
}

async fn view(tx: &mut dyn Tx, row: ProjectRow) -> Result<ProjectView> {
    let revision = tx.revision(row.id, row.revision).await?;
    let (environments, steps) = match revision.map(|revision| revision.spec) {
        Some(spec) => (
            spec.environments.iter().map(|environment| environment.name.clone()).collect(),
            spec.steps.iter().map(|step| step.name.clone()).collect(),
        ),
        None => (Vec::new(), Vec::new()),
    };
    Ok(ProjectView {
        name: row.name,
        revision: row.revision,
        environments,
        steps,
        updated_at: row.updated_at.to_string(),
    })
}

/// What was set on the server, and what the spec says where nothing was.
pub(super) fn declared(spec: &Project, set: Vec<VariableView>) -> Vec<VariableView> {
    let mut views = set;
    // What stands in no library of the project is a field of an account.
    for view in &mut views {
        if view.library.as_ref().is_some_and(|library| !spec.libraries.contains(library)) {
            view.account = view.library.take();
        }
    }
    let mut add = |name: &String, scope: &Scope, secret: bool, value: Option<&String>| {
        let own = |view: &&VariableView| view.library.is_none() && view.account.is_none() && view.name == *name;
        if views.iter().filter(own).any(|view| view.is_for(scope)) {
            return;
        }
        let place = VariableView::of_scope(name, scope);
        views.push(VariableView { secret, value: value.cloned(), set: value.is_some(), ..place });
    };
    for (name, variable) in &spec.variables {
        match variable {
            Variable::Plain(value) => add(name, &Scope::All, false, Some(value)),
            Variable::Secret => add(name, &Scope::All, true, None),
            Variable::Prompt(prompt) => add(name, &Scope::All, false, prompt.value.as_ref()),
            Variable::Scoped(scoped) => {
                add(name, &Scope::All, false, scoped.value.as_ref());
                let mut each = |values: &[(String, String)], scope: fn(String) -> Scope| {
                    values.iter().for_each(|(of, value)| add(name, &scope(of.clone()), false, Some(value)));
                };
                each(&scoped.environments, Scope::Environment);
                each(&scoped.channels, Scope::Channel);
                each(&scoped.steps, Scope::Step);
                each(&scoped.pools, Scope::Pool);
            }
            _ => {}
        }
    }
    let key = |view: &VariableView| {
        (
            view.account.clone(),
            view.name.clone(),
            view.environment.clone(),
            (view.channel.clone(), view.step.clone(), view.pool.clone()),
            view.library.clone(),
        )
    };
    views.sort_by_key(key);
    views
}

pub(super) fn variable_view(row: &VariableRow) -> VariableView {
    let (secret, value) = match &row.value {
        VariableValue::Plain(value) => (false, Some(value.clone())),
        VariableValue::Sealed(_) => (true, None),
    };
    let library = match &row.owner {
        Owner::Project(_) => None,
        Owner::Library(name) => Some(name.clone()),
    };
    VariableView {
        library,
        secret,
        value,
        set: true,
        updated_at: Some(row.created_at.to_string()),
        ..VariableView::of_scope(&row.name, &row.scope)
    }
}

/// Whether name and value of a variable can be kept at all.
pub(super) fn check_value(new: &NewVariable) -> Result<()> {
    if !names::is_variable(&new.name) {
        return Err(Error::invalid("name", format!("`{}` is no name: write {}", new.name, names::VARIABLE_RULE), None));
    }
    if new.value.expose().len() > MAX_VALUE {
        return Err(Error::invalid("value", format!("a value has at most {MAX_VALUE} bytes"), None));
    }
    if new.value.expose().contains('\0') {
        return Err(Error::invalid("value", "holds a NUL byte, which no environment variable can", None));
    }
    Ok(())
}

/// The row of a value, sealed if it is a secret.
pub(super) fn sealed_row(cx: &Cx, owner: Owner, new: NewVariable, by: String) -> Result<VariableRow> {
    let mut row = VariableRow {
        id: 0,
        owner,
        scope: new.scope,
        name: new.name,
        value: VariableValue::Sealed(Vec::new()),
        created_at: cx.now,
        created_by: by,
    };
    row.value = if new.secret {
        VariableValue::Sealed(cx.vault.seal(&variable_place(&row).aad(), new.value.expose().as_bytes())?)
    } else {
        VariableValue::Plain(new.value.expose().to_owned())
    };
    Ok(row)
}

/// Whether the spec declares the variable as what it is set as.
fn check(spec: &Project, new: &NewVariable) -> Result<()> {
    match &new.scope {
        Scope::Environment(name) if spec.environment(name).is_none() => {
            return Err(Error::not_found("environment", name));
        }
        Scope::Step(name) if spec.step(name).is_none() => return Err(Error::not_found("step", name)),
        Scope::Channel(name) => drop(spec.channel(name)?),
        Scope::Pool(name) if !names::is_name(name) => {
            return Err(Error::invalid("pool", format!("`{name}` is no name: write {}", names::NAME_RULE), None));
        }
        _ => {}
    }
    let name = &new.name;
    match (spec.variable(name), new.secret) {
        (Some(Variable::Plain(_) | Variable::Scoped(_)), false) | (Some(Variable::Secret), true) => Ok(()),
        (Some(Variable::Prompt(_)), _) => Err(Error::invalid(
            "name",
            format!("`{name}` is asked for with each deployment"),
            format!("give it there: `longshore deploy ... --var {name}=VALUE`"),
        )),
        (Some(Variable::Secret), false) => {
            Err(Error::invalid("secret", format!("`{name}` is declared as a secret"), "add `--secret`".to_owned()))
        }
        (Some(_), _) => Err(Error::invalid(
            "secret",
            format!("`{name}` is not declared as a secret"),
            format!("leave `--secret` out, or declare `{name}: {{secret: true}}` and apply the project"),
        )),
        (None, secret) => {
            let declare = if secret { format!("`{name}: {{secret: true}}`") } else { format!("`{name}: VALUE`") };
            let hint = format!("add {declare} under `variables` and apply the project");
            Err(Error::invalid("name", format!("project `{}` declares no variable `{name}`", spec.name), hint))
        }
    }
}
