//! [`Grant`]: the only message that carries secrets down.

use std::time::Duration;

use longshore_core::artifacts::Limits;
use longshore_core::offer::{Action, Grant, Operation, OutputsKey, Plan, PulumiAction};
use longshore_core::secret::Secret;

use super::{Error, required, seconds};
use crate::v1;
use crate::v1::pulumi_action::Operation as WireOperation;

impl From<Grant> for v1::Grant {
    fn from(grant: Grant) -> Self {
        let env =
            |(name, value): &(String, Secret)| v1::EnvVar { name: name.clone(), value: value.expose().to_owned() };
        Self {
            env: grant.env.iter().map(env).collect(),
            secrets: grant.secrets.iter().map(|secret| secret.expose().to_owned()).collect(),
            timeout_seconds: grant.timeout.as_secs(),
            grace_seconds: seconds(grant.grace),
            outputs_key: grant.outputs_key.0.to_vec(),
            artifacts: grant
                .artifacts
                .map(|limits| v1::ArtifactLimits { file_bytes: limits.file_bytes, total_bytes: limits.total_bytes }),
            action: Some(match grant.action {
                Action::Run { argv } => v1::grant::Action::Run(v1::RunAction { argv }),
                Action::Pulumi(action) => v1::grant::Action::Pulumi(action.into()),
            }),
        }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = Error;

    fn try_from(wire: v1::Grant) -> Result<Self, Error> {
        let key = wire.outputs_key.as_slice().try_into().map_err(|_| Error::value("outputs_key", "not 32 bytes"))?;
        Ok(Self {
            env: wire.env.into_iter().map(|var| (var.name, Secret::new(var.value))).collect(),
            secrets: wire.secrets.into_iter().map(Secret::new).collect(),
            timeout: Duration::from_secs(wire.timeout_seconds),
            grace: Duration::from_secs(wire.grace_seconds.into()),
            outputs_key: OutputsKey(key),
            artifacts: wire
                .artifacts
                .map(|limits| Limits { file_bytes: limits.file_bytes, total_bytes: limits.total_bytes }),
            action: match required("action", wire.action)? {
                v1::grant::Action::Run(run) if run.argv.is_empty() => return Err(Error::Missing("run.argv")),
                v1::grant::Action::Run(run) => Action::Run { argv: run.argv },
                v1::grant::Action::Pulumi(action) => Action::Pulumi(action.try_into()?),
            },
        })
    }
}

impl From<PulumiAction> for v1::PulumiAction {
    fn from(action: PulumiAction) -> Self {
        let operation = match action.operation {
            Operation::Preview => WireOperation::Preview,
            Operation::Up => WireOperation::Up,
            Operation::Refresh => WireOperation::Refresh,
            Operation::Destroy => WireOperation::Destroy,
            Operation::Drift => WireOperation::Drift,
            Operation::Unlock => WireOperation::Unlock,
        };
        let (save_plan, plan, checkpoint) = match action.plan {
            Plan::None => (false, String::new(), String::new()),
            Plan::Save => (true, String::new(), String::new()),
            Plan::Run { plan, checkpoint } => (false, plan.expose().to_owned(), checkpoint),
        };
        Self {
            save_plan,
            plan,
            checkpoint,
            operation: operation.into(),
            stack: action.stack,
            dir: action.dir,
            backend: action.backend.unwrap_or_default(),
            install: action.install,
            over: action.over,
        }
    }
}

impl TryFrom<v1::PulumiAction> for PulumiAction {
    type Error = Error;

    fn try_from(wire: v1::PulumiAction) -> Result<Self, Error> {
        let operation = match wire.operation() {
            WireOperation::Unspecified => return Err(Error::value("pulumi.operation", &wire.operation.to_string())),
            WireOperation::Preview => Operation::Preview,
            WireOperation::Up => Operation::Up,
            WireOperation::Refresh => Operation::Refresh,
            WireOperation::Destroy => Operation::Destroy,
            WireOperation::Drift => Operation::Drift,
            WireOperation::Unlock => Operation::Unlock,
        };
        if wire.stack.is_empty() {
            return Err(Error::Missing("pulumi.stack"));
        }
        let plan = match (wire.save_plan, wire.plan.is_empty(), wire.checkpoint.is_empty()) {
            (false, true, true) => Plan::None,
            (true, true, true) => Plan::Save,
            (false, false, false) => Plan::Run { plan: Secret::new(wire.plan), checkpoint: wire.checkpoint },
            _ => return Err(Error::value("pulumi.plan", "neither one to make nor one to run")),
        };
        Ok(Self {
            plan,
            operation,
            stack: wire.stack,
            dir: wire.dir,
            backend: Some(wire.backend).filter(|backend| !backend.is_empty()),
            install: wire.install,
            over: wire.over,
        })
    }
}
