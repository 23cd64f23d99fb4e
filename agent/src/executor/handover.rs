//! What init is told to do for a step. Pure: no engine, no files.
//!
//! Order of the environment: the image's own (which init has already), then Longshore's defaults, then the step's, then what
//! no step may change, because the step's outcome is read from it.

use longshore_core::artifacts::{self, Collect, FILES};
use longshore_core::init::{Command, Handover, PlanFile, Prepare, Stdout};
use longshore_core::offer::{Action, Grant, Offer};
use longshore_core::outputs::VARIABLE;
use longshore_core::secret::Secret;

use super::settings::{HOME, OUTPUT, WORKSPACE};
use super::{Error, Image, Step, pulumi};

/// Puts together what init is told: commands, environment, directory, secrets.
///
/// # Errors
/// [`Error::Step`] when the step's folder leaves the workspace or there is nothing to run.
pub fn handover(step: &Step, offer: &Offer, grant: &Grant, image: &Image) -> Result<Handover, Error> {
    let mut orders = match &grant.action {
        Action::Run { argv } => Orders::run(argv.clone()),
        Action::Pulumi(action) => pulumi::orders(action, step, offer, image, grant.artifacts.is_some())?,
    };
    if orders.commands.iter().any(|command| command.argv.is_empty()) {
        return Err(Error::Step { step: step.offer.name.clone(), cause: "has an empty command".to_owned() });
    }
    orders.fixed.extend(facts(step, offer));
    let folder = super::settings::artifacts(step.offer.index);
    if grant.artifacts.is_some() {
        orders.fixed.push((artifacts::VARIABLE.to_owned(), format!("{folder}/{FILES}")));
    }
    // The upload of a package makes both; without one root makes them itself, see `workspace`.
    let mut prepare: Vec<Prepare> = [WORKSPACE, HOME].map(|path| Prepare::Directory { path: path.to_owned() }).into();
    prepare.append(&mut orders.prepare);
    let own = grant.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    Ok(Handover {
        prepare,
        commands: orders.commands,
        env: layered(orders.defaults, own, orders.fixed),
        cwd: orders.cwd,
        secrets: grant.secrets.iter().map(|secret: &Secret| secret.expose().to_owned()).collect(),
        output_file: Some(OUTPUT.to_owned()),
        over: orders.over,
        plan: orders.plan,
        artifacts: grant.artifacts.map(|limits| Collect { folder, limits }),
        outputs_key: Some(grant.outputs_key.0.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

/// What an action adds to a hand-over.
pub(super) struct Orders {
    pub(super) prepare: Vec<Prepare>,
    pub(super) commands: Vec<Command>,
    pub(super) cwd: String,
    /// The plan that the commands make or run.
    pub(super) plan: Option<PlanFile>,
    /// Hosts whose lock may be removed.
    pub(super) over: Vec<String>,
    /// Environment that the step may replace.
    pub(super) defaults: Vec<(String, String)>,
    /// Environment that it may not.
    pub(super) fixed: Vec<(String, String)>,
}

impl Orders {
    fn run(argv: Vec<String>) -> Self {
        let command = Command {
            argv,
            stdout: Stdout::Log,
            events: false,
            decides: true,
            event_outputs: false,
            only_with_secret_outputs: false,
            finds_lock: false,
            keeps_state: false,
        };
        let cwd = WORKSPACE.to_owned();
        let commands = vec![command];
        Self { prepare: vec![], commands, cwd, plan: None, over: vec![], defaults: vec![], fixed: vec![] }
    }
}

/// Facts about the run. `LONGSHORE_` names are ours alone, so that programs can rely on them.
fn facts(step: &Step, offer: &Offer) -> Vec<(String, String)> {
    [
        ("HOME", HOME.to_owned()),
        ("LONGSHORE_WORKSPACE", WORKSPACE.to_owned()),
        ("LONGSHORE_PROJECT", offer.project.clone()),
        ("LONGSHORE_ENVIRONMENT", offer.environment.clone()),
        ("LONGSHORE_DEPLOYMENT", offer.deployment.to_string()),
        ("LONGSHORE_DEPLOYMENT_URL", offer.url.clone()),
        ("LONGSHORE_JOB", offer.job.to_string()),
        ("LONGSHORE_ATTEMPT", step.fence.attempt.to_string()),
        ("LONGSHORE_EPOCH", step.fence.epoch.to_string()),
        ("LONGSHORE_STEP", step.offer.name.clone()),
        (VARIABLE, OUTPUT.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// One value a name: later layers win; a step's own `LONGSHORE_` names are passed over.
fn layered(
    defaults: Vec<(String, String)>,
    own: impl Iterator<Item = (String, String)>,
    fixed: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let own = own.filter(|(name, _)| !name.starts_with("LONGSHORE_"));
    let mut out: Vec<(String, String)> = Vec::new();
    for (name, value) in defaults.into_iter().chain(own).chain(fixed) {
        match out.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => out.push((name, value)),
        }
    }
    out
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
