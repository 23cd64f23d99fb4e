//! Accepts a deployment: everything that can be known to be wrong is refused here, before anything is queued.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::expression::Template;
use longshore_core::id::DeploymentId;
use longshore_core::job::{self, Job};
use longshore_core::offer::{Network, OfferStep, Profile};
use longshore_core::spec::{self, Project, Pulumi, Step, Variable};
use serde_json::json;

use super::context::Values;
use super::program::{FILES, MAX_BYTES, Program};
use super::{Engine, Error, NewDeployment, Result};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, JobRow, ProjectRow, StepRow, VariableRow, VariableValue};

/// Longest operation id of a client.
const MAX_OPERATION: usize = 128;
/// Backend in a lock's key when nothing says which.
const DEFAULT_BACKEND: &str = "default";

/// What the rows say about the wish.
struct Found {
    project: ProjectRow,
    spec: Project,
    variables: Vec<VariableRow>,
}

impl Engine {
    /// Accepts a deployment. The same operation id again answers with the same deployment.
    ///
    /// # Errors
    /// What is unknown, missing or contradictory, with what to do about it; nothing was queued then.
    pub async fn create_deployment(&self, new: NewDeployment, by: &str) -> Result<DeploymentId> {
        if new.operation_id.is_empty() || new.operation_id.len() > MAX_OPERATION {
            return Err(Error::invalid(
                "operation_id",
                format!("has to be 1 to {MAX_OPERATION} characters that the client makes up anew for each deployment"),
                None,
            ));
        }
        let wish = new.clone();
        let before = self
            .read(move |tx| Box::pin(async move { Ok(tx.deployment_by_operation(&wish.operation_id).await?) }))
            .await?;
        if let Some(before) = before {
            return same(&before, &new);
        }
        let found = self.find(&new).await?;
        let id = self.clock().deployment_id();
        let row = self.row(id, &new, &found, by)?;
        let job = self.job(&row, &found.spec).await?;
        let names: Vec<String> = found.spec.steps.iter().map(|step| step.name.clone()).collect();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if let Some(before) = tx.deployment_by_operation(&row.operation_id).await? {
                    return same(&before, &new);
                }
                tx.insert_deployment(&row).await?;
                for (index, name) in (0..).zip(&names) {
                    tx.insert_step(&StepRow::queued(id, index, name)).await?;
                }
                tx.insert_job(&job).await?;
                cx.after.dispatch = true;
                cx.after.timers = true;
                let detail = json!({ "project": row.project_name, "revision": row.revision, "environment": row.environment, "package": row.package, "locks": job.locks });
                cx.event(tx, "deployment.created", Some(id), detail).await?;
                Ok(id)
            })
        })
        .await
    }

    async fn find(&self, new: &NewDeployment) -> Result<Found> {
        let (name, package) = (new.project.clone(), new.package.clone());
        let found = self
            .read(move |tx| {
                Box::pin(async move {
                    let project = project(tx, &name).await?;
                    let revision = tx.revision(project.id, project.revision).await?;
                    let spec = revision.map(|revision| revision.spec);
                    let spec =
                        spec.ok_or_else(|| Error::Internal(format!("the newest revision of `{name}` is missing")))?;
                    if let Some(sha256) = package
                        && tx.package(&sha256).await?.is_none()
                    {
                        let hint = Some("upload it first with PUT /api/v1/packages/SHA256".to_owned());
                        return Err(Error::NotFound { kind: "package", name: sha256, hint });
                    }
                    Ok(Found { variables: tx.variables(project.id).await?, project, spec })
                })
            })
            .await?;
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

    fn row(&self, id: DeploymentId, new: &NewDeployment, found: &Found, by: &str) -> Result<DeploymentRow> {
        let (variables, secrets) = snapshot(&found.spec, &found.variables, &new.environment)?;
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
            revision: found.project.revision,
            environment: new.environment.clone(),
            package: new.package.clone(),
            operation_id: new.operation_id.clone(),
            variables,
            secrets,
            created_at: self.clock().now(),
            created_by: by.to_owned(),
        })
    }

    async fn job(&self, row: &DeploymentRow, spec: &Project) -> Result<JobRow> {
        let id = row.deployment.id;
        let values = Values::plain(&row.project_name, &row.environment, id, row.variables.clone());
        let mut locks = BTreeSet::from([format!("project/{}/{}", row.project_name, row.environment)]);
        let mut steps = Vec::new();
        for (index, step) in (0..).zip(&spec.steps) {
            let Some(image) = &step.image else { continue };
            let image = rendered(step, "image", image, &values, spec::check_image)?;
            let pulumi = match &step.action {
                spec::Action::Pulumi(pulumi) => Some(pulumi),
                _ => None,
            };
            if let Some(pulumi) = pulumi {
                locks.extend(self.stack_lock(row, step, pulumi, &values).await?);
            }
            steps.push(OfferStep {
                index,
                name: step.name.clone(),
                image,
                profile: match step.profile {
                    spec::Profile::Standard => Profile::Standard,
                    spec::Profile::Locked => Profile::Locked,
                },
                network: match step.network {
                    spec::Network::Longshore => Network::Longshore,
                    spec::Network::None => Network::None,
                },
                mounts: step.mounts.clone(),
                pulumi: pulumi.is_some(),
            });
        }
        let job = Job {
            id: self.clock().job_id(),
            deployment: id,
            state: job::State::Queued,
            since: row.created_at,
            epoch: 0,
            abandoned: 0,
        };
        Ok(JobRow { job, seq: 0, pool: spec.pool.clone(), steps, locks: locks.into_iter().collect() })
    }

    /// Key of the lock on a step's Pulumi stack; `None` for a step that only reads. Checks on the way that there is a program.
    async fn stack_lock(
        &self,
        row: &DeploymentRow,
        step: &Step,
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
                if step.writes_stack() {
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
        if !step.writes_stack() {
            return Ok(None);
        }
        let backend = backend(step, pulumi, values, program.backend)?;
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

/// A project by name, or what to do.
pub(super) async fn project(tx: &mut dyn Tx, name: &str) -> Result<ProjectRow> {
    tx.project(name).await?.ok_or_else(|| Error::NotFound {
        kind: "project",
        name: name.to_owned(),
        hint: Some("apply its spec first: `longshore apply -f longshore.yaml`".to_owned()),
    })
}

fn same(before: &DeploymentRow, new: &NewDeployment) -> Result<DeploymentId> {
    let same =
        before.project_name == new.project && before.environment == new.environment && before.package == new.package;
    if same {
        return Ok(before.deployment.id);
    }
    let message =
        format!("operation `{}` has made another deployment already: `{}`", new.operation_id, before.deployment.id);
    Err(Error::conflict("operation_reused", message, Some("use a new operation id for each deployment".to_owned())))
}

fn rendered(
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

/// The newest value for an environment: one of its own counts before one for all.
pub(super) fn newest<'a>(
    rows: &'a [VariableRow],
    name: &str,
    environment: &str,
    secret: bool,
) -> Option<&'a VariableRow> {
    let fits = |row: &&VariableRow| row.name == name && matches!(row.value, VariableValue::Sealed(_)) == secret;
    let of = |wanted: Option<&str>| rows.iter().filter(fits).find(|row| row.environment.as_deref() == wanted);
    of(Some(environment)).or_else(|| of(None))
}

type Snapshot = (BTreeMap<String, String>, BTreeMap<String, i64>);

/// Plain values and versions of secrets for one environment.
fn snapshot(spec: &Project, rows: &[VariableRow], environment: &str) -> Result<Snapshot> {
    let (mut variables, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (name, variable) in &spec.variables {
        match variable {
            Variable::Plain(value) => {
                let set = newest(rows, name, environment, false).map(|row| &row.value);
                let value = if let Some(VariableValue::Plain(set)) = set { set } else { value };
                variables.insert(name.clone(), value.clone());
            }
            Variable::Secret => {
                if let Some(row) = newest(rows, name, environment, true) {
                    secrets.insert(name.clone(), row.id);
                }
            }
            _ => {
                return Err(Error::Internal(format!(
                    "variable `{name}` is of a kind that this controller does not know"
                )));
            }
        }
    }
    let used = spec.steps.iter().flat_map(|step| step.templates().flat_map(|template| template.references()));
    for to in used {
        if let longshore_core::expression::Reference::Secrets(name) = to
            && !secrets.contains_key(name)
        {
            let message = format!("secret `{name}` has no value for environment `{environment}`");
            let hint = format!(
                "set it: `longshore variable set {} {name} --secret`, with the value on standard input",
                spec.name
            );
            return Err(Error::refused("secret_missing", message, Some(hint)));
        }
    }
    Ok((variables, secrets))
}
