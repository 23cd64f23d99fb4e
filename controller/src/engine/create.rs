//! Accepts a deployment: everything that can be known to be wrong is refused here, before anything is queued.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::expression::Template;
use longshore_core::gate::{Denied, Wish};
use longshore_core::id::DeploymentId;
use longshore_core::process::Graph;
use longshore_core::spec::{self, Project, Pulumi, Step, Variable};
use longshore_core::time::Timestamp;
use longshore_core::variables::{self, Place, Resolved, Scope, SetValue};
use serde_json::json;

use super::cascade::stale;
use super::children::{begun_by, check_waits};
use super::context::Values;
use super::cx::Cx;
use super::flow::{begin, may_begin};
use super::found::Found;
use super::local::{self, Tree};
use super::operations;
use super::pins::check_permitted;
use super::program::{FILES, MAX_BYTES, Program};
use super::{Engine, Error, NewDeployment, Result, cloud as accounts, releases};
use crate::store::Tx;
use crate::store::rows::{CommitRow, DeploymentRow, LocalRow, Owner, ProjectRow, StepRow, VariableRow, VariableValue};

/// Longest operation id of a client.
const MAX_OPERATION: usize = 128;
/// Backend in a lock's key when nothing says which.
const DEFAULT_BACKEND: &str = "default";

impl Engine {
    /// Accepts a deployment. The same operation id again answers with the same deployment.
    ///
    /// # Errors
    /// What is unknown, missing or contradictory, or what the gate says, with what to do about it; nothing was queued then.
    pub async fn create_deployment(&self, new: NewDeployment, by: &str) -> Result<DeploymentId> {
        if new.operation_id.is_empty() || new.operation_id.len() > MAX_OPERATION {
            return Err(Error::invalid(
                "operation_id",
                format!("has to be 1 to {MAX_OPERATION} characters that the client makes up anew for each deployment"),
                None,
            ));
        }
        check_times(&new)?;
        let tree = match &new.local {
            Some(local) => Some(self.working_tree(&new.project, local).await?),
            None => None,
        };
        let mark = tree.as_ref().map(|tree| tree.row.clone());
        let wish = new.clone();
        let before = self
            .read(move |tx| Box::pin(async move { Ok(tx.deployment_by_operation(&wish.operation_id).await?) }))
            .await?;
        if let Some(before) = before {
            return same(&before, &new, mark.as_ref());
        }
        let (found, new) = self.find(new, tree).await?;
        let (new, source) = self.with_source(new, &found, by).await?;
        let id = self.clock().deployment_id();
        let mut row = self.row(id, &new, &found, by)?;
        row.stacks = self.check_steps(&row, &found).await?;
        operations::confirmed(&row, &found.spec, &new)?;
        // A preview reads what is there; it may as well look while something else goes on.
        let alone = row.operation.as_ref().is_none_or(|operation| operation.what.operation.holds());
        let own = alone.then(|| format!("project/{}/{}", row.project_name, row.environment));
        let locks: BTreeSet<String> = row.stacks.values().cloned().chain(own).collect();
        row.locks = locks.into_iter().collect();
        self.change(by, move |tx, cx| Box::pin(async move { accept(tx, cx, row, (found, source), &new).await })).await
    }

    /// The wish with the package of the project's source, when it comes with neither a release nor a package.
    async fn with_source(
        &self,
        new: NewDeployment,
        found: &Found,
        by: &str,
    ) -> Result<(NewDeployment, Option<CommitRow>)> {
        if found.release.is_some() || found.local.is_some() || new.package.is_some() {
            return if new.reference.is_some() { Err(releases::both()) } else { Ok((new, None)) };
        }
        check_given(&found.spec, &new.variables)?;
        left_out(&found.spec, &new.skip)?;
        let Some(made) = self.sourced(&new.project, new.reference.as_deref(), by).await? else {
            return Ok((new, None));
        };
        if made.revision != found.project.revision {
            return Err(stale(&new.project));
        }
        Ok((NewDeployment { package: Some(made.sha256), ..new }, Some(made.source)))
    }

    /// What the rows say, and the wish with what it did not say.
    async fn find(&self, mut new: NewDeployment, tree: Option<Tree>) -> Result<(Found, NewDeployment)> {
        let wish = new.clone();
        let found = self.read(move |tx| Box::pin(async move { Found::by(tx, &wish, tree).await })).await?;
        for (name, value) in &found.before {
            new.variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok((found, new))
    }

    /// The row, as far as it is known before the release is.
    fn row(&self, id: DeploymentId, new: &NewDeployment, found: &Found, by: &str) -> Result<DeploymentRow> {
        check_given(&found.spec, &new.variables)?;
        let (resolved, secrets) = snapshot((&found.spec, &found.channel), &found.variables, new)?;
        let release = found.release.as_ref();
        Ok(DeploymentRow {
            deployment: Deployment {
                id,
                state: DeploymentState::Queued,
                reason: None,
                cancel_asked: None,
                ended_at: None,
            },
            project: found.project.id,
            project_name: found.project.name.clone(),
            revision: release.map_or(found.project.revision, |release| release.revision),
            environment: new.environment.clone(),
            package: release.map_or_else(|| new.package.clone(), |release| release.package.clone()),
            operation_id: new.operation_id.clone(),
            release: release.map_or_else(|| self.clock().release_id(), |release| release.id),
            version: release.map(|release| release.version.clone()).unwrap_or_default(),
            variables: resolved.variables,
            step_variables: resolved.steps,
            secrets,
            locks: Vec::new(),
            stacks: BTreeMap::new(),
            priority: new.priority,
            not_before: new.not_before,
            expires_at: new.expires_at,
            begun_at: None,
            created_at: self.clock().now(),
            created_by: by.to_owned(),
            parent: new.parent,
            guided: new.guided,
            skip: left_out(&found.spec, &new.skip)?,
            operation: found.operation.clone(),
            local: found.local.clone(),
            trace_parent: new.trace_parent.or_else(crate::trace::current),
        })
    }

    /// Checks what can be known of every step; answers the stacks that they write to.
    async fn check_steps(&self, row: &DeploymentRow, found: &Found) -> Result<BTreeMap<u32, String>> {
        let spec = &found.spec;
        let mut stacks: BTreeMap<u32, String> = BTreeMap::new();
        let graph = Graph::new(&spec.steps);
        for (index, step) in (0..).zip(&spec.steps) {
            if step.in_container() {
                super::offers::image(step, row)?;
            }
            let spec::Action::Pulumi(pulumi) = &step.action else { continue };
            let values = Values::plain(row, Some(&step.name));
            let of_account = accounts::backend(step, &found.variables, &row.environment);
            let Some(stack) = self.stack_lock(row, (step, of_account), pulumi, &values).await? else { continue };
            let place = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
            let other = stacks.iter().find(|(at, key)| **key == stack && graph.concurrent(place(**at), place(index)));
            if let Some(other) = other.and_then(|(at, _)| spec.steps.get(place(*at))) {
                let message = format!(
                    "steps `{}` and `{}` may run at the same time, and both write to stack `{stack}`",
                    other.name, step.name
                );
                let hint = "put one after the other, or write `needs`".to_owned();
                return Err(Error::refused("two_writers", message, hint));
            }
            stacks.insert(index, stack);
        }
        Ok(stacks)
    }

    /// Key of the lock on a step's Pulumi stack; `None` for a step that only reads. Checks on the way that there is a program.
    async fn stack_lock(
        &self,
        row: &DeploymentRow,
        (step, of_account): (&Step, Option<String>),
        pulumi: &Pulumi,
        values: &Values,
    ) -> Result<Option<String>> {
        let field = |name: &str| format!("steps.{}.pulumi.{name}", step.name);
        let Some(template) = step.pulumi_stack_template() else { return Ok(None) };
        let stack = rendered(step, "pulumi.stack", &template, values, spec::check_stack)?;
        let names_output = |template: &Template| {
            template.references().any(|to| matches!(to, longshore_core::expression::Reference::Output { .. }))
        };
        let dir = match &pulumi.dir {
            Some(dir) if names_output(dir) => {
                if step.holds_stack() {
                    return Err(Error::refused(
                        "unknown_stack",
                        format!(
                            "step `{}` writes to a stack that is not known yet: its `dir` comes out of an earlier step",
                            step.name
                        ),
                        Some(
                            "write the directory itself, so that the stack can be locked before anything runs"
                                .to_owned(),
                        ),
                    ));
                }
                return Ok(None);
            }
            Some(dir) => rendered(step, "pulumi.dir", dir, values, spec::check_dir)?,
            None => ".".to_owned(),
        };
        let program = self.program(row, step, &dir).await?;
        if !step.holds_stack() {
            return Ok(None);
        }
        let backend = backend(step, pulumi, values, of_account.or(program.backend))?;
        // `ORGANIZATION/PROJECT/STACK` and `STACK` can be the same stack: without the organization too much is locked, never too little.
        let parts: Vec<&str> = stack.split('/').collect();
        let (name, stack) = match parts.as_slice() {
            [_, project, stack] => (*project, *stack),
            [_, stack] | [stack] => (program.name.as_str(), *stack),
            _ => return Err(Error::invalid(&field("stack"), format!("`{stack}` is no name of a stack"), None)),
        };
        Ok(Some(format!("pulumi/{}/{name}/{stack}", backend.trim_end_matches('/'))))
    }

    async fn program(&self, row: &DeploymentRow, step: &Step, dir: &str) -> Result<Program> {
        let missing = |what: String| {
            let hint = format!("deploy with `--package DIR`, where DIR/{dir}/Pulumi.yaml is the program, or set `dir`");
            Error::refused("no_program", format!("step `{}` runs Pulumi, but {what}", step.name), Some(hint))
        };
        let Some(package) = &row.package else { return Err(missing("the deployment has no package".to_owned())) };
        let folder: Vec<&str> = dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        for file in FILES {
            let path = folder.iter().copied().chain([file]).collect::<Vec<_>>().join("/");
            let read = self.blobs().read_entry(package, &path, MAX_BYTES).await;
            let read = read.map_err(|error| missing(format!("`{path}` of the package cannot be read: {error}")))?;
            if let Some(bytes) = read {
                return Program::parse(&bytes)
                    .map_err(|why| missing(format!("`{path}` of the package is no program: {why}")));
            }
        }
        Err(missing(format!(
            "the package has no `{}`",
            folder.iter().copied().chain(["Pulumi.yaml"]).collect::<Vec<_>>().join("/")
        )))
    }
}

/// The backend a step writes to, which has to be known before anything runs: it is part of what is locked.
fn backend(step: &Step, pulumi: &Pulumi, values: &Values, of_program: Option<String>) -> Result<String> {
    if let Some(backend) = &pulumi.backend {
        return rendered(step, "pulumi.backend", backend, values, spec::check_backend);
    }
    let Some((_, template)) = step.env.iter().find(|(name, _)| name == "PULUMI_BACKEND_URL") else {
        return Ok(of_program.unwrap_or_else(|| DEFAULT_BACKEND.to_owned()));
    };
    // A secret or an output has no value here. Guessing would let two writers onto one stack.
    template.render(values).map(|rendered| rendered.text).map_err(|_| {
        let message = format!(
            "step `{}` writes to a stack that cannot be locked: its PULUMI_BACKEND_URL comes from a secret or an output",
            step.name
        );
        let hint = "write the URL without its password as `backend`, and give the password to the step by a variable of its own, \
                    as PGPASSWORD for PostgreSQL";
        Error::refused("unknown_stack", message, Some(hint.to_owned()))
    })
}

/// Puts a deployment into rows: its release, its steps, and, when nothing stands in its way, its begin.
async fn accept(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    mut row: DeploymentRow,
    (found, source): (Found, Option<CommitRow>),
    new: &NewDeployment,
) -> Result<DeploymentId> {
    let id = row.deployment.id;
    if let Some(before) = tx.deployment_by_operation(&row.operation_id).await? {
        // Two requests with one operation may have fetched at the same time, and the ref may have moved between them.
        let package = if source.is_some() { None } else { new.package.clone() };
        return same(&before, &NewDeployment { package, ..new.clone() }, row.local.as_ref());
    }
    if found.release.is_none() {
        let project = project(tx, &row.project_name).await?;
        if project.revision != row.revision {
            return Err(stale(&row.project_name));
        }
        let (package, by) = (row.package.clone(), row.created_by.as_str());
        let release = match &row.local {
            Some(local) => {
                let of = (&*found.spec, found.channel.as_str(), local.spec.as_str());
                releases::of_working_tree(tx, cx, &project, of, (package, by)).await?
            }
            None => {
                releases::on_the_spot(tx, cx, &project, (&found.spec, &found.channel), (package, source), by).await?
            }
        };
        // Whoever deploys it has decided where it goes first.
        cx.after.promote.remove(&release.id);
        (row.release, row.version) = (release.id, release.version);
    }
    let release = tx.release_by_id(row.release).await?.ok_or_else(|| Error::not_found("release", &row.release))?;
    if row.operation.is_none() {
        check_permitted(tx, &release.children, new.permitted.as_ref()).await?;
    }
    let denied = gate(tx, &row, &found.spec, cx.now).await?;
    if let Some(denied) = denied.as_ref().filter(|denied| !denied.passes_by_itself()) {
        return Err(Error::refused(denied.rule(), denied.to_string(), denied.hint()));
    }
    tx.insert_deployment(&row).await?;
    for (index, step) in (0..).zip(&found.spec.steps) {
        tx.insert_step(&StepRow::queued(id, index, &step.name)).await?;
    }
    (cx.after.dispatch, cx.after.timers) = (true, true);
    let mut detail = json!({ "project": row.project_name, "release": row.version, "revision": row.revision, "environment": row.environment, "package": row.package, "locks": row.locks, "operation": row.operation.as_ref().map(|operation| &operation.what) });
    let action = match &row.local {
        Some(local) => {
            detail["local"] = json!(local);
            "deployment.created_local"
        }
        None => "deployment.created",
    };
    cx.event(tx, action, Some(id), detail).await?;
    begun_by(tx, cx, &row).await?;
    if denied.is_none() && may_begin(tx, &row, cx.now).await? {
        begin(tx, cx, &row).await?;
    } else {
        check_waits(tx, &row).await?;
    }
    Ok(id)
}

/// What the gate says to a deployment now.
pub(super) async fn gate(
    tx: &mut dyn Tx,
    row: &DeploymentRow,
    spec: &Project,
    now: Timestamp,
) -> Result<Option<Denied>> {
    let release = tx.release_by_id(row.release).await?.ok_or_else(|| Error::not_found("release", &row.release))?;
    let lifecycle = spec.lifecycle_of(&release.channel);
    let succeeded = releases::reached(tx, row.release, lifecycle).await?;
    let wish = Wish {
        lifecycle,
        channel: (!spec.channels.is_empty()).then_some(release.channel.as_str()),
        environment: &row.environment,
        succeeded: &succeeded,
        version: &row.version,
        blocked: release.blocked.as_deref(),
        operation: row.operation.as_ref().map(|operation| operation.what.operation),
        local: false,
        protected: false,
        not_before: row.not_before,
        expires_at: row.expires_at,
    };
    if row.local.is_some() {
        let applied = local::applied(tx, &row.project_name).await?;
        return Ok(longshore_core::gate::check(&local::bound(wish, row, (&applied, &release.channel), spec), now).err());
    }
    Ok(longshore_core::gate::check(&wish, now).err())
}

/// Whether there is a time at which the deployment may begin.
fn check_times(new: &NewDeployment) -> Result<()> {
    match (new.not_before, new.expires_at) {
        (Some(from), Some(to)) if from >= to => {
            let message = format!("it could never begin: it is scheduled for {from}, and is not to begin after {to}");
            let hint = "choose a later end with `--expires-at`, or an earlier start with `--not-before`".to_owned();
            Err(Error::refused("never", message, hint))
        }
        _ => Ok(()),
    }
}

/// Whether the values that came with a deployment are those that are asked for.
fn check_given(spec: &Project, given: &BTreeMap<String, String>) -> Result<()> {
    for name in given.keys() {
        if !matches!(spec.variable(name), Some(Variable::Prompt(_))) {
            let message = format!("variable `{name}` is not one that is asked for");
            let hint = format!("declare it as `{name}: {{prompt: \"...\"}}`, or set it with `longshore variable set`");
            return Err(Error::invalid("variables", message, hint));
        }
    }
    for (name, variable) in &spec.variables {
        let Variable::Prompt(prompt) = variable else { continue };
        if let Some(Err(message)) = given.get(name).map(|value| prompt.check(value)) {
            let message = format!("`{name}` ({}): {message}", prompt.prompt);
            return Err(Error::invalid("variables", message, format!("give another value: `--var {name}=VALUE`")));
        }
        let empty = given.get(name).is_none_or(|value| value.is_empty());
        if prompt.required && empty && prompt.value.as_ref().is_none_or(String::is_empty) {
            let message = format!("variable `{name}` ({}) is required and was not given", prompt.prompt);
            return Err(Error::refused("variable_required", message, format!("add `--var {name}=VALUE`")));
        }
    }
    Ok(())
}

/// Indices of the steps that a deployment is asked for without.
fn left_out(spec: &Project, names: &[String]) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for name in names {
        let step = (0..).zip(&spec.steps).find(|(_, step)| step.name == *name);
        let (index, step) = step.ok_or_else(|| {
            let known: Vec<_> =
                spec.steps.iter().filter(|step| step.skippable).map(|step| format!("`{}`", step.name)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let hint = format!("steps that may be skipped: {known}");
            Error::NotFound { kind: "step", name: name.clone(), hint: Some(hint) }
        })?;
        if !step.skippable {
            let message = format!("step `{name}` may not be skipped; nothing was queued");
            let hint = "write `skippable: true` at the step, and apply the project or make a new release".to_owned();
            return Err(Error::refused("not_skippable", message, hint));
        }
        found.insert(index);
    }
    Ok(found)
}

/// A project by name, or what to do.
pub(super) async fn project(tx: &mut dyn Tx, name: &str) -> Result<ProjectRow> {
    tx.project(name).await?.ok_or_else(|| Error::NotFound {
        kind: "project",
        name: name.to_owned(),
        hint: Some("apply its spec first: `longshore apply -f longshore.yaml`".to_owned()),
    })
}

fn same(before: &DeploymentRow, new: &NewDeployment, local: Option<&LocalRow>) -> Result<DeploymentId> {
    let what = before.operation.as_ref().map(|operation| operation.what.operation);
    let same = before.project_name == new.project
        && what == new.operation.as_ref().map(|operation| operation.operation)
        && before.environment == new.environment
        && before.local.as_ref().map(|local| &local.spec) == local.map(|local| &local.spec)
        && new.package.as_ref().is_none_or(|package| before.package.as_ref() == Some(package))
        && new.release.as_ref().is_none_or(|version| *version == before.version);
    if same {
        return Ok(before.deployment.id);
    }
    let message =
        format!("operation `{}` has made another deployment already: `{}`", new.operation_id, before.deployment.id);
    Err(Error::conflict("operation_reused", message, Some("use a new operation id for each deployment".to_owned())))
}

pub(super) fn rendered(
    step: &Step,
    field: &str,
    template: &Template,
    values: &Values,
    check: fn(&str) -> Result<(), String>,
) -> Result<String> {
    let field = format!("steps.{}.{field}", step.name);
    let text = template.render(values).map_err(|error| Error::invalid(&field, error.to_string(), None))?.text;
    check(&text).map_err(|error| Error::invalid(&field, format!("came out as `{text}`: {error}"), None))?;
    Ok(text)
}

/// Values of a secret that count in a place, the best first: narrower ones before wider ones, then the project's own
/// before those of its libraries, of which the last one counts most. A secret that the project does not declare has those alone.
pub(super) fn secret_rows<'a>(
    spec: &Project,
    rows: &'a [VariableRow],
    name: &str,
    place: &Place<'_>,
) -> Vec<&'a VariableRow> {
    let declared = spec.variable(name);
    let fits = |row: &&VariableRow| {
        let in_scope = row.scope.holds(spec, place);
        let counts = match &row.owner {
            Owner::Project(_) => matches!(declared, Some(Variable::Secret)),
            Owner::Library(library) if !spec.libraries.contains(library) => false,
            Owner::Library(_) => matches!(declared, Some(Variable::Secret) | None),
        };
        in_scope && counts && row.name == name && matches!(row.value, VariableValue::Sealed(_))
    };
    let mut found: Vec<&VariableRow> = rows.iter().filter(fits).collect();
    found.sort_by_key(|row| std::cmp::Reverse((row.scope.clone(), place_of(spec, row))));
    found
}

/// Place of a value's library in the spec, behind all of them for the project's own.
pub(super) fn place_of(spec: &Project, row: &VariableRow) -> usize {
    match &row.owner {
        Owner::Project(_) => usize::MAX,
        Owner::Library(name) => spec.libraries.iter().position(|library| library == name).unwrap_or_default(),
    }
}

type Snapshot = (Resolved, BTreeMap<String, i64>);

/// Plain values and versions of secrets for one environment.
fn snapshot((spec, channel): (&Project, &str), rows: &[VariableRow], new: &NewDeployment) -> Result<Snapshot> {
    let environment = new.environment.as_str();
    let set: Vec<SetValue> = rows.iter().filter_map(|row| set_value(spec, row)).collect();
    let place = Place { environment, channel, step: None, given: &new.variables };
    let resolved = variables::resolve(spec, &set, &place);
    let mut secrets = BTreeMap::new();
    for (name, _) in spec.variables.iter().filter(|(_, variable)| matches!(variable, Variable::Secret)) {
        if let Some(row) = secret_rows(spec, rows, name, &place).first() {
            secrets.insert(name.clone(), row.id);
        }
    }
    for step in &spec.steps {
        secrets_of_step(spec, rows, step, &place, &mut secrets)?;
    }
    secrets.extend(accounts::versions(spec, rows, environment)?);
    Ok((resolved, secrets))
}

/// Begins the key of a secret that one step alone has. Another beginning than that of an account's fields, whatever the step is called.
const OF_STEP: &str = "step/";

/// Key of a secret that one step alone has, among those of a deployment: no name of a variable has a slash in it.
fn key_of_step(step: &str, name: &str) -> String {
    format!("{OF_STEP}{step}/{name}")
}

/// Step and name of a key that [`key_of_step`] made.
pub(super) fn of_step(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(OF_STEP)?.split_once('/')
}

/// Adds the secrets that a step names, and those of its own.
fn secrets_of_step(
    spec: &Project,
    rows: &[VariableRow],
    step: &Step,
    place: &Place<'_>,
    secrets: &mut BTreeMap<String, i64>,
) -> Result<()> {
    for to in step.templates().flat_map(|template| template.references()) {
        let longshore_core::expression::Reference::Secrets(name) = to else { continue };
        let here = Place { step: Some(&step.name), ..*place };
        let found = secret_rows(spec, rows, name, &here);
        match found.first() {
            Some(row) if matches!(row.scope, Scope::Step(_)) => {
                secrets.insert(key_of_step(&step.name, name), row.id);
            }
            // Of a library comes only what a step names.
            Some(row) => {
                secrets.entry(name.clone()).or_insert(row.id);
            }
            None => {
                let message = format!("secret `{name}` has no value for environment `{}`", place.environment);
                let hint = format!(
                    "set it: `longshore variable set {} {name} --secret`, with the value on standard input",
                    spec.name
                );
                return Err(Error::refused("secret_missing", message, Some(hint)));
            }
        }
    }
    Ok(())
}

/// A plain value as core sees it.
pub(super) fn set_value(spec: &Project, row: &VariableRow) -> Option<SetValue> {
    let library = match &row.owner {
        Owner::Project(_) => None,
        // Fields of accounts are no variables.
        Owner::Library(library) if !spec.libraries.contains(library) => return None,
        Owner::Library(_) => Some(place_of(spec, row)),
    };
    match &row.value {
        VariableValue::Plain(value) => {
            let (name, scope, value) = (row.name.clone(), row.scope.clone(), value.clone());
            Some(SetValue { name, scope, value, library })
        }
        VariableValue::Sealed(_) => None,
    }
}
