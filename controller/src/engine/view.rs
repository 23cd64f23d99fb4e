//! What people and scripts are shown. The JSON of [`DeploymentView`] is fixed by CONTRACT.md.

mod people;

use std::collections::BTreeMap;

use longshore_core::engine_event::{Change, PropertyChange};
use longshore_core::resources::Resources;
use longshore_core::variables::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use super::artifacts::ArtifactCountView;
use super::operations::OperationView;
use crate::store::rows::{CommitRow, PlanRow};

pub use people::{AuditPage, AuditView, GrantView, RoleView, TeamView, TokenView, UserView};

/// One deployment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeploymentView {
    /// `dep_...`.
    pub id: String,
    /// Name of the project.
    pub project: String,
    /// Name of the environment.
    pub environment: String,
    /// Version of the release.
    pub release: String,
    /// `queued`, `waiting`, `running`, `canceling`, `unknown`, `succeeded`, `failed`, `canceled` or `lost`.
    pub state: String,
    /// Why it is in this state, where that needs words.
    pub reason: Option<String>,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Who asked for it.
    pub created_by: String,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Id of the trace that it is in, 32 hex digits, whether or not traces are sent.
    pub trace_id: String,
    /// RFC 3339 in UTC, milliseconds: it does not begin before.
    pub not_before: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub ended_at: Option<String>,
    /// People decide about a step that failed.
    pub guided: bool,
    /// `dep_...` of the deployment whose step began this one.
    pub parent: Option<String>,
    /// What is done to a stack, where it is no way of a release to the environment.
    pub operation: Option<OperationView>,
    /// The working tree that it is of, if so.
    pub local: Option<LocalView>,
    /// The commit that its package was made of, by the controller.
    pub source: Option<SourceView>,
    /// In order.
    pub steps: Vec<StepView>,
}

/// The working tree that a deployment is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LocalView {
    /// SHA-256 in hex over its spec.
    pub spec: String,
    /// SHA-256 in hex of its package.
    pub package: Option<String>,
    /// The project's applied revision at that time, which was not used.
    pub revision: u64,
    /// The commit that was checked out, as the client said.
    pub commit: Option<String>,
    /// Whether something differed from the commit, as the client said.
    pub dirty: Option<bool>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ApprovalView {
    /// `apr_...`.
    pub id: String,
    /// `dep_...`.
    pub deployment: String,
    /// Name of the project.
    pub project: String,
    /// Name of the environment.
    pub environment: String,
    /// Version of the release.
    pub release: String,
    /// Name of the step.
    pub step: String,
    /// `pending`, `granted`, `rejected`, `void` or `expired`.
    pub state: String,
    /// How many people have to agree.
    pub needs: u32,
    /// Teams whose members may decide; none: whoever may approve there.
    pub teams: Vec<String>,
    /// Who agreed.
    pub granted_by: Vec<String>,
    /// Who refused.
    pub rejected_by: Vec<String>,
    /// What people said, as `NAME: WORDS`.
    pub comments: Vec<String>,
    /// What would change, where it is bound to a plan.
    pub plan: Option<PlanView>,
    /// What moved.
    pub void_reason: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// RFC 3339 in UTC, milliseconds.
    pub expires_at: String,
}

/// What a preview said would change.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PlanView {
    /// SHA-256 in hex.
    pub digest: String,
    /// Resources per operation.
    pub resources: BTreeMap<String, u64>,
    /// Resources that are not left as they are; the first 500.
    pub changes: Vec<ChangeView>,
    /// SHA-256 in hex of the state that the plan started from.
    pub checkpoint: String,
    /// Digest of the image that made it.
    pub image: String,
}

/// What a preview would do to one resource. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeView {
    /// The resource.
    pub urn: String,
    /// `create`, `update`, `delete`, `replace` and the like.
    pub op: String,
    /// Names of the properties that differ; none where everything is new or goes.
    pub properties: Vec<String>,
    /// Properties with what they are and would be; none where an older agent made the plan, and for the technical steps of a replacement.
    pub values: Vec<PropertyView>,
    /// How many more differ whose values were left out: there are too many, or they are too long.
    pub values_left_out: u64,
}

/// What a preview would do to one property. Values are text: strings in quotes, and `[secret]`, `[unknown]` (only the update will
/// tell) and `[hidden]` (the program asked for that) without; a value that was cut says how long it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PropertyView {
    /// Its path, such as `tags.owner`.
    pub property: String,
    /// `add`, `update`, `delete`; `other` for a word that this version does not know.
    pub kind: String,
    /// Whether the resource is replaced for it.
    pub replaces: bool,
    /// What it is; `null`: nothing, or Pulumi does not say.
    pub old: Option<String>,
    /// What it would be; `null`: nothing, or Pulumi does not say.
    pub new: Option<String>,
}

impl PlanView {
    fn of_change(change: Change) -> ChangeView {
        let value = |value: PropertyChange| PropertyView {
            property: value.property,
            kind: value.kind.word().to_owned(),
            replaces: value.kind.replaces(),
            old: value.old,
            new: value.new,
        };
        ChangeView {
            urn: change.urn,
            op: change.op.as_str().to_owned(),
            properties: change.properties,
            values: change.values.into_iter().map(value).collect(),
            values_left_out: change.values_left_out,
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn of(row: PlanRow) -> Self {
        let PlanRow { digest, resources, checkpoint, image, changes, .. } = row;
        Self { digest, resources, changes: changes.into_iter().map(Self::of_change).collect(), checkpoint, image }
    }
}

/// A package that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldPackageView {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// The commit that it was made of, by the controller.
    pub source: Option<SourceView>,
}

/// A commit that a package was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceView {
    /// Address of the repository.
    pub url: String,
    /// The ref that was asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it was then, in full.
    pub commit: String,
}

impl From<CommitRow> for SourceView {
    fn from(row: CommitRow) -> Self {
        Self { url: row.url, reference: row.reference, commit: row.commit }
    }
}

/// A step as a release holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReleaseStepView {
    /// Its name.
    pub name: String,
    /// `run`, `pulumi`, `approval`, `http` or `deploy-release`.
    pub kind: String,
    /// Its image, as it was written.
    pub image: Option<String>,
    /// What it comes after, where that was written.
    pub needs: Option<Vec<String>>,
    /// The `parallel` group it stands in.
    pub group: Option<String>,
    /// Its condition, where that was written.
    pub when: Option<String>,
    /// The release that a `deploy-release` step deploys.
    pub child: Option<ChildReleaseView>,
}

/// The release of another project that a release holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChildReleaseView {
    /// `rel_...`.
    pub release: String,
    /// Name of the project.
    pub project: String,
    /// Its version.
    pub version: String,
}

/// One release, and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReleaseView {
    /// `rel_...`.
    pub id: String,
    /// Name of the project.
    pub project: String,
    /// Its version.
    pub version: String,
    /// Its channel; `default` in a project without channels.
    pub channel: String,
    /// Revision of the spec.
    pub revision: u64,
    /// The package, if there is one. Not in lists.
    pub package: Option<HeldPackageView>,
    /// Digests of images by the name in the spec, as far as they are pinned: by the first start of a container of the release. Not in lists.
    pub images: BTreeMap<String, String>,
    /// Steps in order. Not in lists.
    pub steps: Vec<ReleaseStepView>,
    /// Variables as they were frozen. Not in lists.
    pub variables: Vec<VariableView>,
    /// Made of a working tree for one deployment: nothing else deploys it.
    pub local: bool,
    /// Why it may not be deployed, if so.
    pub blocked: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
}

/// One step of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// As of a deployment, and `skipped`.
    pub state: String,
    /// Why it is in this state, where that needs words.
    pub reason: Option<String>,
    /// Exit code of the tool.
    pub exit_code: Option<i32>,
    /// Signal that ended the tool.
    pub signal: Option<i32>,
    /// Outputs by name; secret ones read `[secret]`.
    pub outputs: BTreeMap<String, serde_json::Value>,
    /// Resources per operation; empty for a step that is no Pulumi step.
    pub resources: BTreeMap<String, u64>,
    /// Plugins that came over the network.
    pub plugin_downloads: u64,
    /// Providers that were used and had not to be fetched.
    pub plugin_hits: u64,
    /// `dep_...` of the deployment that a `deploy-release` step began.
    pub child: Option<String>,
    /// What its tries left as files.
    pub artifacts: ArtifactCountView,
    /// Its log.
    pub log: LogView,
    /// Starts of it, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// The log of a step: standard output and standard error in the order they arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogView {
    /// Length of what is stored.
    pub bytes: u64,
    /// SHA-256 in hex once the step has ended.
    pub sha256: Option<String>,
    /// Bytes are missing because the agent's disk was full.
    pub truncated: bool,
}

/// One start of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttemptView {
    /// `att_...`.
    pub id: String,
    /// `agt_...`.
    pub agent: String,
    /// Engine id of the container.
    pub container: Option<String>,
    /// As of a step.
    pub state: String,
    /// RFC 3339 in UTC, milliseconds.
    pub started_at: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub ended_at: Option<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AgentView {
    /// `agt_...`.
    pub id: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Labels by its join token or rule.
    pub labels: BTreeMap<String, String>,
    /// `connected`, `draining`, `quarantined`, `disconnected`, `revoked`, or `gone` (ephemeral ones).
    pub state: String,
    /// Why it gets no jobs after failures of its own, and when it is probed.
    pub quarantined: Option<String>,
    /// What its host has too little of, so that it takes no jobs.
    pub low: Vec<String>,
    /// How far it is with its pool's plugins; absent when the pool lists none, or while it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<PluginsView>,
    /// What it has for all jobs together: `cpus`, `memory`, `disk`; `null` while it is not connected.
    #[schema(value_type = Option<Object>)]
    pub room: Option<Resources>,
    /// What the jobs that it has have asked for, in the same form.
    #[schema(value_type = Object)]
    pub reserved: Resources,
    /// It leaves the list when it is gone.
    pub ephemeral: bool,
    /// The join rule that let it in (`jru_...`).
    pub rule: Option<String>,
    /// The machine that it is, as it was proven: `aws/ACCOUNT/INSTANCE`, `gcp/PROJECT/NUMBER`, `azure/SUBSCRIPTION/VM`.
    pub machine: Option<String>,
    /// How it is known that it is gone: `left`, `replaced`, `silent` or `terminated`.
    pub gone: Option<String>,
    /// Two processes have lately been seen with its identity; the second one is refused.
    pub cloned: bool,
    /// Host name.
    pub hostname: String,
    /// Version of the program.
    pub version: String,
    /// Jobs it runs at once; 0 when it never connected.
    pub slots: u32,
    /// Jobs that are offered to it or run there.
    pub busy: u32,
    /// What it said of its host.
    #[schema(value_type = Object)]
    pub host: serde_json::Value,
    /// RFC 3339 in UTC, milliseconds.
    pub enrolled_at: String,
    /// RFC 3339 in UTC, milliseconds: when it last said hello, or now when it is connected.
    pub seen_at: Option<String>,
    /// Attempts that are not over.
    pub attempts: Vec<String>,
    /// Why it takes no more jobs; null: it takes them.
    pub draining: Option<DrainingView>,
}

/// How far an agent is with its pool's plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PluginsView {
    /// Every plugin that the pool lists is there and verified; before, it is given no job.
    pub ready: bool,
    /// Digest of the set that the pool lists.
    pub digest: String,
    /// How far it is or why it is not ready, for people.
    pub message: String,
}

/// That an agent takes no more jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DrainingView {
    /// For people.
    pub reason: String,
    /// Who wanted it, when it was a person.
    pub by: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub since: Option<String>,
    /// RFC 3339 in UTC, milliseconds: when its host will be gone; null: that is not known.
    pub deadline: Option<String>,
    /// Jobs that it still has.
    pub jobs: u32,
}

/// One held lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LockView {
    /// What is locked.
    pub key: String,
    /// `dep_...` of the holder.
    pub deployment: String,
    /// `att_...` of the holder.
    pub attempt: Option<String>,
    /// State of the holder.
    pub state: String,
    /// Why it is held although nothing is heard, if so.
    pub reason: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub since: String,
}

/// What an attempt is doing. Not kept over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProgressView {
    /// Name of the step.
    pub step: String,
    /// `pulling`, `unpacking`, `creating`, `running` or `shipping`.
    pub phase: String,
    /// For people.
    pub message: String,
    /// Bytes done, 0 when not known.
    pub current: u64,
    /// Bytes to do, 0 when not known.
    pub total: u64,
}

/// Answer to `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AppliedView {
    /// Name of the project.
    pub project: String,
    /// The revision that counts now.
    pub revision: u64,
    /// Whether it was made by this.
    pub changed: bool,
}

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProjectView {
    /// Its name.
    pub name: String,
    /// Its newest revision.
    pub revision: u64,
    /// Names of its environments.
    pub environments: Vec<String>,
    /// Names of its steps.
    pub steps: Vec<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub updated_at: String,
}

/// The newest revision of a project's spec.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SpecView {
    /// Name of the project.
    pub project: String,
    /// Counter of the project's revisions, from 1.
    pub revision: u64,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Who applied it.
    pub created_by: String,
    /// The spec after every check, without secrets: it holds no value of one. Fields are only ever added.
    #[schema(value_type = Object)]
    pub spec: serde_json::Value,
}

/// One variable's value for one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VariableView {
    /// Its name.
    pub name: String,
    /// The environment that it is for; with `channel`, `step` and `pool` `null` as well: everything.
    pub environment: Option<String>,
    /// The channel that it is for.
    pub channel: Option<String>,
    /// The step that it is for.
    pub step: Option<String>,
    /// The pool that it is for.
    pub pool: Option<String>,
    /// The library that it stands in; `null`: the project's own.
    pub library: Option<String>,
    /// The account whose field it is; `null`: it is none.
    pub account: Option<String>,
    /// Whether it is a secret.
    pub secret: bool,
    /// The value; always `null` for a secret.
    pub value: Option<String>,
    /// Whether there is a value at all.
    pub set: bool,
    /// RFC 3339 in UTC, milliseconds; `null` for one from the spec.
    pub updated_at: Option<String>,
}

impl VariableView {
    /// A variable for a scope, of which nothing else is known.
    pub(super) fn of_scope(name: &str, scope: &Scope) -> Self {
        let mut view = Self {
            name: name.to_owned(),
            environment: None,
            channel: None,
            step: None,
            pool: None,
            library: None,
            account: None,
            secret: false,
            value: None,
            set: false,
            updated_at: None,
        };
        match scope {
            Scope::Environment(name) => view.environment = Some(name.clone()),
            Scope::Channel(name) => view.channel = Some(name.clone()),
            Scope::Step(name) => view.step = Some(name.clone()),
            Scope::Pool(name) => view.pool = Some(name.clone()),
            Scope::All | Scope::Deployment => {}
        }
        view
    }

    /// Whether it is for a scope.
    pub(super) fn is_for(&self, scope: &Scope) -> bool {
        let other = Self::of_scope(&self.name, scope);
        (&self.environment, &self.channel, &self.step, &self.pool)
            == (&other.environment, &other.channel, &other.step, &other.pool)
    }
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventView {
    /// RFC 3339 in UTC, milliseconds.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// More.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}
