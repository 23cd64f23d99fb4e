//! Reads one step: what every kind may say, and what only containers may.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::env::env;
use super::flow::{MAX_BACKOFF, MAX_RETRIES, Retries};
use super::model::{Action, Network, Profile, Pulumi, Step};
use super::outside::accounts;
use super::scope::{Kind, Place, Scope};
use super::tree::{At, Errors, Fields, Value};
use super::{action, known, limits};
use crate::expression::Condition;
use crate::offer::Pull;
use crate::resources::Resources;

/// Every field of a step or of a group.
pub(super) const FIELDS: [&str; 20] = [
    "name",
    "image",
    "pull",
    "run",
    "pulumi",
    "approval",
    "http",
    "deploy-release",
    "mounts",
    "env",
    "accounts",
    "timeout",
    "network",
    "profile",
    "resources",
    "needs",
    "when",
    "retries",
    "skippable",
    "parallel",
];
pub(super) const RETRIES: [&str; 2] = ["max", "backoff"];
pub(super) const NETWORKS: [(&str, Network); 2] = [("longshore", Network::Longshore), ("none", Network::None)];
pub(super) const PULLS: [(&str, Pull); 2] = [("if-not-present", Pull::IfNotPresent), ("always", Pull::Always)];
pub(super) const PROFILES: [(&str, Profile); 2] = [("standard", Profile::Standard), ("locked", Profile::Locked)];
/// Shortest and longest time limit of a step.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// Wait before the first retry of a step that does not say.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);
/// Most mounts.
const MAX_MOUNTS: usize = 1000;

/// A step whose fields are known but whose values have not been read.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    at: At<'a>,
    fields: Fields<'a>,
    name: Option<String>,
}

/// What a step has from where it stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) group: Option<String>,
    pub(super) needs: Option<Vec<String>>,
    /// For a step that says nothing itself.
    pub(super) when: Option<Condition>,
}

impl<'a> Outline<'a> {
    /// Reads the name of the step, which later checks need of all steps.
    pub(super) fn read(at: At<'a>, fields: Fields<'a>, errors: &mut Errors) -> Self {
        let name = fields.require("name", "name: NAME", errors).and_then(|at| at.name(errors));
        Self { at, fields, name }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn field(&self, name: &str) -> Option<&At<'a>> {
        self.fields.get(name)
    }

    /// Where an error about its name belongs.
    pub(super) fn name_at(&self) -> &At<'a> {
        self.fields.get("name").unwrap_or(&self.at)
    }

    pub(super) fn kind(&self) -> Kind {
        let mut kinds = Kind::ALL.iter().filter(|(field, _)| self.fields.has(field));
        match (kinds.next(), kinds.next()) {
            (Some((_, kind)), None) => *kind,
            _ => Kind::Unclear,
        }
    }

    /// Reads the values.
    pub(super) fn step(self, scope: &Scope, standing: Standing, errors: &mut Errors) -> Option<Step> {
        let kind = self.kind();
        let Self { at, fields, name } = self;
        refuse(&fields, kind, errors);
        let image = match kind {
            Kind::Run | Kind::Pulumi => fields.require("image", "image: NAME:TAG", errors),
            // With more than one kind or none it is not known whether it needs one.
            Kind::Unclear => fields.get("image"),
            Kind::Approval | Kind::Http | Kind::DeployRelease => None,
        };
        let wants_image = image.is_some();
        let image = image.and_then(|at| scope.template(at, Place::Image, errors));
        let action = action::action(&at, &fields, scope, errors);
        let container = fields_of_container(&fields, kind, action.as_ref(), scope, errors);
        let timeout = fields.get("timeout").filter(|_| kind.refuses("timeout").is_none());
        let timeout = timeout.and_then(|at| at.duration(TIMEOUT, errors));
        let when = fields.get("when").map_or(standing.when, |at| scope.condition(at, errors));
        let retries = fields.get("retries").filter(|_| kind.refuses("retries").is_none());
        let retries = retries.and_then(|at| retries_of(at, errors));
        let skippable = fields.get("skippable").filter(|_| kind.refuses("skippable").is_none());
        let skippable = skippable.and_then(|at| at.boolean(errors)).unwrap_or_default();
        let (name, action) = (name?, action?);
        if wants_image && image.is_none() {
            return None;
        }
        Some(Step {
            name,
            image,
            action,
            mounts: container.mounts,
            env: container.env,
            accounts: container.accounts,
            timeout,
            network: container.network,
            profile: container.profile,
            resources: container.resources,
            pull: container.pull,
            needs: standing.needs,
            group: standing.group,
            when,
            retries,
            skippable,
            line: at.line,
        })
    }
}

/// What only a container has.
#[derive(Default)]
struct Container {
    mounts: Vec<String>,
    env: Vec<(String, crate::expression::Template)>,
    accounts: Vec<String>,
    network: Network,
    profile: Profile,
    resources: Resources,
    pull: Pull,
}

fn fields_of_container(
    fields: &Fields<'_>,
    kind: Kind,
    action: Option<&Action>,
    scope: &Scope,
    errors: &mut Errors,
) -> Container {
    if matches!(kind, Kind::Approval | Kind::Http | Kind::DeployRelease) {
        return Container::default();
    }
    let backend = matches!(action, Some(Action::Pulumi(Pulumi { backend: Some(_), .. })));
    let env = fields.get("env").map(|at| env(at, backend, scope, errors)).unwrap_or_default();
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    let accounts = fields.get("accounts").map(|at| accounts(at, scope.accounts.as_ref(), (&names, backend), errors));
    let accounts = accounts.unwrap_or_default();
    Container {
        accounts,
        mounts: fields.get("mounts").and_then(|at| known::names(at, MAX_MOUNTS, errors)).unwrap_or_default(),
        env,
        network: fields.get("network").and_then(|at| at.choice(&NETWORKS, errors)).unwrap_or_default(),
        profile: fields.get("profile").and_then(|at| at.choice(&PROFILES, errors)).unwrap_or_default(),
        resources: fields.get("resources").and_then(|at| limits::resources(at, errors)).unwrap_or_default(),
        pull: fields.get("pull").and_then(|at| at.choice(&PULLS, errors)).unwrap_or_default(),
    }
}

/// Fields that this kind of step cannot have.
fn refuse(fields: &Fields<'_>, kind: Kind, errors: &mut Errors) {
    for name in FIELDS {
        if let (Some(at), Some(why)) = (fields.get(name), kind.refuses(name)) {
            errors.add(at.name_line, &at.field, format!("{why}: leave `{name}` out"));
        }
    }
}

fn retries_of(at: &At<'_>, errors: &mut Errors) -> Option<Retries> {
    if matches!(at.node.value, Value::Scalar(_)) {
        at.error("a mapping is needed here: write `retries: {max: 3, backoff: 1s}`", errors);
        return None;
    }
    let fields = at.fields(&RETRIES, errors)?;
    let max = fields.require("max", "max: 3", errors).and_then(|at| at.number(1..=MAX_RETRIES, errors));
    let backoff = match fields.get("backoff") {
        Some(at) => at.duration(Duration::ZERO..=MAX_BACKOFF, errors),
        None => Some(DEFAULT_BACKOFF),
    };
    Some(Retries { max: max?, backoff: backoff? })
}

impl Kind {
    /// Kinds by the field that makes a step one of them.
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("run", Self::Run),
        ("pulumi", Self::Pulumi),
        ("approval", Self::Approval),
        ("http", Self::Http),
        ("deploy-release", Self::DeployRelease),
    ];

    /// Why a step of this kind cannot have a field.
    pub(super) fn refuses(self, field: &str) -> Option<&'static str> {
        let container =
            ["image", "pull", "mounts", "env", "accounts", "network", "profile", "resources"].contains(&field);
        match (self, field) {
            (Self::Approval, _) if container => Some("an approval runs no container"),
            (Self::Http, _) if container => Some("an http check runs no container, the controller asks the address"),
            (Self::DeployRelease, _) if container => Some("this step runs no container, the other project's steps do"),
            (Self::Approval, "timeout") => Some("an approval waits as long as its `expires` says"),
            (Self::Approval, "skippable") => Some("an approval that can be left out guards nothing"),
            (Self::Approval, "retries") => Some("an approval is asked for once"),
            (Self::DeployRelease, "retries") => {
                Some("the other project's steps are tried again by their own `retries`")
            }
            (Self::DeployRelease, "timeout") => Some("the other project's steps have time limits of their own"),
            _ => None,
        }
    }
}
