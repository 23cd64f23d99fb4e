//! Operations on a stack outside the lifecycle.
//!
//! Each is a deployment of one step of the release that is there, with another Pulumi operation. So it waits for the same locks, passes
//! the same gate, has a log and a timeline, and is canceled, lost or resolved like any other. It moves no release anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::attempt::hostname;
use longshore_core::operation::{self, Rejected, StackOperation};
use longshore_core::spec::{self, Operation, Project, Variable};
use longshore_core::step::StepState;
use serde::Serialize;
use utoipa::ToSchema;

use super::context::Values;
use super::create::rendered;
use super::releases::{self, held_spec, held_variables};
use super::{Error, NewDeployment, Result};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, OperationRow, ProjectRow, ReleaseRow, StepRow, VariableRow};

/// Attempts that an unlock is told of. The lock is that of one of the last.
const OVER: u32 = 500;

/// What is to be done to a stack.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// What.
    pub operation: Operation,
    /// By which `pulumi` step; `None`: the only one.
    pub step: Option<String>,
    /// The name of the stack, as a person typed it who means to destroy it.
    pub confirm: Option<String>,
}

/// An operation on a stack, as a deployment shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperationView {
    /// `preview`, `up`, `refresh`, `destroy`, `drift` or `unlock`.
    pub kind: String,
    /// The step whose program, stack and settings count.
    pub step: String,
    /// The stack that it has to itself; `null` for a preview, which only reads.
    pub stack: Option<String>,
    /// Of a drift check that has come to an end: whether something differs.
    pub drift: Option<bool>,
}

/// What an operation is on.
pub(super) struct On {
    pub(super) release: ReleaseRow,
    /// With nothing but what is run.
    pub(super) spec: Arc<Project>,
    pub(super) variables: Vec<VariableRow>,
    pub(super) operation: OperationRow,
    /// What was asked for by name when the release was deployed there.
    pub(super) before: BTreeMap<String, String>,
}

/// The release that is in an environment, or the one that is named, and what is run of it.
pub(super) async fn find(
    tx: &mut dyn Tx,
    project: &ProjectRow,
    (environment, version): (&str, Option<&str>),
    new: &NewOperation,
) -> Result<On> {
    let there = tx.standing(project.id, environment).await?;
    let Some(wanted) = version.map(str::to_owned).or_else(|| there.as_ref().map(|row| row.version.clone())) else {
        let message = format!(
            "no release of `{}` was ever deployed to `{environment}`, so it is not known what is there",
            project.name
        );
        let hint = "deploy one, or preview one by its version with `--release V`".to_owned();
        return Err(Error::conflict("nothing_there", message, hint));
    };
    let release = releases::find(tx, project, &wanted).await?;
    let there = there.filter(|row| row.release == release.id);
    if there.is_none() && !may_be_elsewhere(tx, &release, environment, new.operation).await? {
        let message = format!(
            "release `{wanted}` is not what is in `{environment}`, and `{}` works on what is there; nothing was queued",
            new.operation.as_str()
        );
        let hint = format!(
            "leave `--release` out, or deploy it: `longshore deploy {} --release {wanted} --env {environment}`",
            project.name
        );
        return Err(Error::refused("other_release", message, hint));
    }
    let (held, variables) = (held_spec(tx, &release).await?, held_variables(tx, &release).await?);
    let what = StackOperation::new(&held, new.operation, new.step.as_deref()).map_err(|error| rejected(&error))?;
    let spec = what.process(&held, environment);
    let asked = |name: &str| matches!(spec.variable(name), Some(Variable::Prompt(_)));
    let given = there.as_ref().map(|row| row.variables.clone()).unwrap_or_default();
    let before = given.into_iter().filter(|(name, value)| asked(name) && !value.is_empty()).collect();
    let basis = there.map(|row| row.deployment.id);
    Ok(On { release, spec: Arc::new(spec), variables, operation: OperationRow { what, basis }, before })
}

/// Whether a release may be meant that is not the one that counts as being there.
async fn may_be_elsewhere(
    tx: &mut dyn Tx,
    release: &ReleaseRow,
    environment: &str,
    operation: Operation,
) -> Result<bool> {
    match operation {
        Operation::Preview => Ok(true),
        // That is what a deployment is for, with its lifecycle.
        Operation::Up => Ok(false),
        // It left something there, or may have.
        _ => Ok(tx.asked_for_in(release.id, environment).await?),
    }
}

fn rejected(rejected: &Rejected) -> Error {
    let hint = match rejected {
        Rejected::Several(_) | Rejected::NoStep { .. } => Some("say which one with `--step NAME`".to_owned()),
        _ => None,
    };
    Error::refused("no_stack", rejected.to_string(), hint)
}

/// Whether who destroys a stack has typed its name.
pub(super) fn confirmed(row: &DeploymentRow, spec: &Project, new: &NewDeployment) -> Result<()> {
    let (Some(kept), Some(asked)) = (&row.operation, &new.operation) else { return Ok(()) };
    if asked.operation != Operation::Destroy {
        return Ok(());
    }
    let missing = || Error::Internal(format!("step `{}` is missing", kept.what.step));
    let step = spec.step(&kept.what.step).ok_or_else(missing)?;
    let template = operation::stack_of(spec, &step.name).ok_or_else(missing)?;
    let stack = rendered(step, "pulumi.stack", &template, &Values::plain(row, Some(&step.name)), spec::check_stack)?;
    if asked.confirm.as_deref() == Some(stack.as_str()) {
        return Ok(());
    }
    let message = match &asked.confirm {
        Some(typed) => format!(
            "`{typed}` is not the stack's name: `destroy` removes every resource of `{stack}` in `{}`; nothing was queued",
            row.environment
        ),
        None => {
            format!("`destroy` removes every resource of stack `{stack}` in `{}`; nothing was queued", row.environment)
        }
    };
    Err(Error::refused("confirm_needed", message, format!("type the stack's name: `--confirm {stack}`")))
}

/// For an unlock: the host names of what held the stack and is over. Whoever holds our lock is alone, so nobody comes to life meanwhile.
pub(super) async fn over(tx: &mut dyn Tx, row: &DeploymentRow, step: u32) -> Result<Vec<String>> {
    let unlocks = row.operation.as_ref().is_some_and(|operation| operation.what.operation == Operation::Unlock);
    match row.stacks.get(&step).filter(|_| unlocks) {
        Some(stack) => Ok(tx.over_at(stack, OVER).await?.into_iter().map(hostname).collect()),
        None => Ok(Vec::new()),
    }
}

/// As it is shown.
pub(super) fn view(row: &DeploymentRow, steps: &[StepRow]) -> Option<OperationView> {
    let what = &row.operation.as_ref()?.what;
    let own = steps.iter().find(|step| step.name == what.step);
    let differs = |step: &StepRow| step.resources.iter().any(|(op, count)| op != "same" && *count > 0);
    let drift = own.filter(|_| what.operation == Operation::Drift).and_then(|step| match step.state {
        StepState::Succeeded => Some(false),
        StepState::Failed if step.exit_code == Some(0) && differs(step) => Some(true),
        _ => None,
    });
    let stack = own.and_then(|step| row.stacks.get(&step.index)).and_then(|key| key.rsplit('/').next());
    Some(OperationView {
        kind: what.operation.as_str().to_owned(),
        step: what.step.clone(),
        stack: stack.map(str::to_owned),
        drift,
    })
}
