//! A Pulumi operation as commands, environment and directories.
//!
//! What stands here was tried on the real CLI (3.259.0): `--event-log` exists only with `PULUMI_DEBUG_COMMANDS`; the
//! file backend's lock needs `USER` where the user has no passwd entry; a plugin is found when its directory is a
//! real one, whatever its files are; the CLI writes into `PULUMI_HOME`, which therefore lies on the job's volume. Plans need no
//! switch; two exports of a state that nobody wrote are the same bytes, and an `up` without a change writes another time and
//! other ciphertexts; the secrets in a plan are encrypted with a key from the salt in `Pulumi.STACK.yaml`, which the CLI makes
//! anew in every workspace that has none.

use longshore_core::init::{Command, EVENT_FD, PLUGINS, PlanFile, Prepare, Stdout};
use longshore_core::offer::{Network, Offer, Operation, Plan, PulumiAction};
use longshore_core::stack_lock::NOBODY;

use super::handover::Orders;
use super::settings::{CREDENTIALS, PLAN, WORKSPACE};
use super::{Error, Image, Step};

/// `PULUMI_HOME` of every step.
const PULUMI_HOME: &str = "/longshore/home/.pulumi";
/// Where images keep plugins, beside what their own environment says.
const BAKED_PLUGINS: [&str; 3] = ["/root/.pulumi/plugins", "/home/pulumi/.pulumi/plugins", "/opt/pulumi/plugins"];

/// What init has to do for the action. `keep_state`: the stack's state is kept before it is written.
pub(super) fn orders(
    action: &PulumiAction,
    step: &Step,
    offer: &Offer,
    image: &Image,
    keep_state: bool,
) -> Result<Orders, Error> {
    let cwd = inside_workspace(&action.dir).map_err(|cause| Error::Step { step: step.offer.name.clone(), cause })?;
    Ok(Orders {
        prepare: vec![Prepare::LinkFarm {
            sources: plugin_sources(image),
            target: format!("{PULUMI_HOME}/plugins"),
            shared: Some(PLUGINS.to_owned()),
        }],
        commands: commands(action, keep_state),
        plan: plan(action, &cwd),
        over: action.over.clone(),
        cwd,
        defaults: defaults(action, step, offer, image),
        fixed: fixed(action),
    })
}

fn commands(action: &PulumiAction, keep_state: bool) -> Vec<Command> {
    let stack = action.stack.as_str();
    let mut commands = Vec::new();
    if action.install {
        commands.push(command(&["install"]));
    }
    if action.operation == Operation::Unlock {
        commands.extend(unlock(stack));
        return commands;
    }
    // A missing stack has nothing to destroy: the CLI says so, which is clearer than an empty stack left behind.
    if !matches!(action.operation, Operation::Destroy | Operation::Drift) {
        commands.push(command(&["stack", "select", "--create", stack]));
    }
    // Before the preview: when somebody writes the state in between, the plan is void later instead of unsafe.
    // The same export is what the stack can be brought back to: when it fails, nothing is written.
    let keeps_state = keep_state && action.operation.writes();
    if action.plan != Plan::None || keeps_state {
        let export = command(&["stack", "export", "--stack", stack]);
        commands.push(Command { stdout: Stdout::Checkpoint, keeps_state, ..export });
    }
    let event_log = format!("/dev/fd/{EVENT_FD}");
    let mut words = vec![word(action.operation), "--stack", stack, "--event-log", &event_log];
    if action.operation == Operation::Drift {
        // No `--expect-no-changes`: its exit code is that of any failure, and the summary event tells the two apart.
        words.push("--preview-only");
    }
    if action.operation.writes() {
        words.extend(["--yes", "--skip-preview"]);
    }
    match action.plan {
        Plan::None => {}
        Plan::Save => words.extend(["--save-plan", PLAN]),
        Plan::Run { .. } => words.extend(["--plan", PLAN]),
    }
    let has_outputs = matches!(action.operation, Operation::Up | Operation::Refresh);
    commands.push(Command { events: true, decides: true, event_outputs: has_outputs, ..command(&words) });
    if has_outputs {
        commands.push(Command {
            stdout: Stdout::RevealedOutputs,
            only_with_secret_outputs: true,
            ..command(&["stack", "output", "--json", "--show-secrets", "--stack", stack])
        });
    }
    commands
}

/// Says who holds the lock, and removes it if that is somebody who is over. `up`, `refresh` and `destroy` take the lock and a preview
/// does not, so there is no way to ask without one of them: a refresh of a resource that is not there changes nothing.
fn unlock(stack: &str) -> [Command; 2] {
    let probe = ["refresh", "--stack", stack, "--yes", "--skip-preview", "--target", NOBODY];
    [
        Command { finds_lock: true, ..command(&probe) },
        Command { decides: true, ..command(&["cancel", "--stack", stack, "--yes"]) },
    ]
}

/// The subcommand of an operation.
const fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Drift => "refresh",
        other => other.as_str(),
    }
}

fn plan(action: &PulumiAction, cwd: &str) -> Option<PlanFile> {
    let (content, checkpoint) = match &action.plan {
        Plan::None => return None,
        Plan::Save => (None, None),
        Plan::Run { plan, checkpoint } => (Some(plan.expose().to_owned()), Some(checkpoint.clone())),
    };
    // A stack may be named with its organization and project, the file is not.
    let name = action.stack.rsplit('/').next().unwrap_or_default();
    let settings = format!("{cwd}/Pulumi.{name}.yaml");
    Some(PlanFile { path: PLAN.to_owned(), settings, content, checkpoint })
}

fn command(words: &[&str]) -> Command {
    let argv = ["pulumi"].iter().chain(words).chain(&["--non-interactive", "--color", "never"]);
    Command {
        argv: argv.map(|&word| word.to_owned()).collect(),
        stdout: Stdout::Log,
        events: false,
        decides: false,
        event_outputs: false,
        only_with_secret_outputs: false,
        finds_lock: false,
        keeps_state: false,
    }
}

fn plugin_sources(image: &Image) -> Vec<String> {
    let of_image =
        |name: &str| image.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim_end_matches('/'));
    let mut sources = Vec::new();
    sources.extend(of_image("PULUMI_HOME").map(|home| format!("{home}/plugins")));
    sources.extend(of_image("HOME").map(|home| format!("{home}/.pulumi/plugins")));
    sources.extend(BAKED_PLUGINS.map(str::to_owned));
    sources.retain(|source| source.starts_with('/') && !source.starts_with(PULUMI_HOME));
    let mut seen = std::collections::BTreeSet::new();
    sources.retain(|source| seen.insert(source.clone()));
    sources
}

/// Environment that a step may replace with its own.
fn defaults(action: &PulumiAction, step: &Step, offer: &Offer, image: &Image) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("PULUMI_SKIP_UPDATE_CHECK", "true".to_owned()),
        ("PULUMI_SUPPRESS_NEO_LINK", "true".to_owned()),
        // The nine variables that the CLI reads when no CI system that it knows is detected (`ciutil` of its SDK).
        ("PULUMI_CI_SYSTEM", "Longshore".to_owned()),
        ("PULUMI_CI_BUILD_ID", offer.deployment.to_string()),
        ("PULUMI_CI_BUILD_NUMBER", step.fence.epoch.to_string()),
        ("PULUMI_CI_BUILD_TYPE", action.operation.as_str().to_owned()),
        ("PULUMI_CI_BUILD_URL", offer.url.clone()),
        ("PULUMI_CI_PULL_REQUEST_SHA", String::new()),
        ("PULUMI_CI_BRANCH_NAME", String::new()),
        ("PULUMI_COMMIT_MESSAGE", String::new()),
        ("PULUMI_PR_NUMBER", String::new()),
        // Beside those, as Pulumi Deployments gives them to every run.
        ("PULUMI_CI_PROJECT", offer.project.clone()),
        ("PULUMI_CI_STACK", action.stack.clone()),
        ("PULUMI_CI_OPERATION", action.operation.as_str().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if !image.env.iter().any(|(name, _)| name == "USER") {
        env.push(("USER".to_owned(), "longshore".to_owned()));
    }
    if step.offer.network == Network::None {
        // Without a network a missing plugin should be said at once instead of after timeouts.
        env.push(("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION".to_owned(), "true".to_owned()));
    }
    env
}

/// Environment that a step may not replace.
fn fixed(action: &PulumiAction) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> =
        [("PULUMI_HOME", PULUMI_HOME), ("PULUMI_CREDENTIALS_PATH", CREDENTIALS), ("PULUMI_DEBUG_COMMANDS", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    if let Some(backend) = &action.backend {
        env.push(("PULUMI_BACKEND_URL".to_owned(), backend.clone()));
    }
    env
}

/// The folder in the workspace, refused when it leaves it.
fn inside_workspace(dir: &str) -> Result<String, String> {
    let mut path = WORKSPACE.to_owned();
    for part in dir.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." || part.contains('\0') {
            return Err(format!("has the folder `{dir}`, which leaves the package; name a folder in it"));
        }
        path.push('/');
        path.push_str(part);
    }
    if dir.starts_with('/') {
        return Err(format!("has the folder `{dir}`, which is absolute; name it relative to the package's root"));
    }
    Ok(path)
}
