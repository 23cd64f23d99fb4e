//! Values for expressions: variables, secrets and outputs of earlier steps, as the deployment's snapshot has them.

use std::collections::BTreeMap;

use longshore_core::expression::{Context, Output, output_text};
use longshore_core::id::DeploymentId;
use longshore_core::secret::Secret;
use longshore_core::variables::Resolved;
use zeroize::Zeroizing;

use super::create::of_step;
use super::{Error, Result, cloud};
use crate::hex;
use crate::secrets::{Place, Vault};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, OutputRow, StepRow, VariableRow, VariableValue};

pub(super) fn output_aad(deployment: DeploymentId, step: u32, name: &str) -> String {
    Place::Output { deployment, step, name: name.to_owned() }.aad()
}

/// Where the value of a variable stands.
pub(super) fn variable_place(row: &VariableRow) -> Place {
    Place::Variable { owner: row.owner.clone(), environment: row.scope.column(), name: row.name.clone() }
}

pub(super) fn text(what: &str, bytes: &Zeroizing<Vec<u8>>) -> Result<Secret> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Internal(format!("`{what}` is sealed, but no text")))?;
    Ok(Secret::new(text.to_owned()))
}

struct Value {
    text: Secret,
    secret: bool,
}

/// The values of one deployment.
pub(super) struct Values {
    variables: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    /// Secrets of other steps, and those that a step's own ones replace: masked all the same.
    hidden: Vec<Secret>,
    /// Fields of accounts that are secrets, and those that are not, by the keys of [`cloud`](super::cloud).
    accounts: BTreeMap<String, Value>,
    outputs: BTreeMap<(String, String), Value>,
    environment: String,
    project: String,
    deployment: String,
}

impl Values {
    /// Without secrets and outputs: what is known before anything runs. A step may have values of its own.
    pub(super) fn plain(row: &DeploymentRow, step: Option<&str>) -> Self {
        let mut variables = row.variables.clone();
        let own = step.and_then(|step| row.step_variables.get(step));
        variables.extend(own.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Self {
            variables,
            secrets: BTreeMap::new(),
            hidden: Vec::new(),
            accounts: BTreeMap::new(),
            outputs: BTreeMap::new(),
            environment: row.environment.clone(),
            project: row.project_name.clone(),
            deployment: row.deployment.id.to_string(),
        }
    }

    /// What is known of an environment before there is a deployment, for one step.
    pub(super) fn before_release(project: &str, environment: &str, resolved: Resolved, step: &str) -> Self {
        let mut variables = resolved.variables;
        variables.extend(resolved.steps.into_iter().filter(|(name, _)| name == step).flat_map(|(_, own)| own));
        Self {
            variables,
            secrets: BTreeMap::new(),
            hidden: Vec::new(),
            accounts: BTreeMap::new(),
            outputs: BTreeMap::new(),
            environment: environment.to_owned(),
            project: project.to_owned(),
            deployment: String::new(),
        }
    }

    /// Everything that a step may use.
    pub(super) async fn load(
        tx: &mut dyn Tx,
        vault: &Vault,
        row: &DeploymentRow,
        step: Option<&str>,
        steps: &[StepRow],
    ) -> Result<Self> {
        let (mut values, mut own) = (Self::plain(row, step), Vec::new());
        for (name, version) in &row.secrets {
            let variable =
                tx.variable(*version).await?.ok_or_else(|| Error::not_found("version of the secret", &name))?;
            let text = open_variable(vault, &variable)?;
            if let Some((owner, name)) = of_step(name) {
                // Another step's value is not this one's, but may stand in what it printed.
                if Some(owner) == step {
                    own.push((name.to_owned(), text));
                } else {
                    values.hidden.push(text);
                }
                continue;
            }
            if cloud::is_field(name) {
                let secret = matches!(variable.value, VariableValue::Sealed(_));
                values.accounts.insert(name.clone(), Value { text, secret });
            } else {
                values.secrets.insert(name.clone(), text);
            }
        }
        for (name, text) in own {
            values.hidden.extend(values.secrets.insert(name, text));
        }
        // Steps that an operation leaves out have the outputs that they had in the deployment that is there.
        if let Some(basis) = row.operation.as_ref().and_then(|operation| operation.basis) {
            for step in tx.steps(basis).await? {
                values.take_outputs(vault, &step)?;
            }
        }
        for step in steps {
            values.take_outputs(vault, step)?;
        }
        Ok(values)
    }

    fn take_outputs(&mut self, vault: &Vault, step: &StepRow) -> Result<()> {
        for (name, output) in &step.outputs {
            let value = open_output(vault, step.deployment, step.index, name, output)?;
            self.outputs.insert((step.name.clone(), name.clone()), value);
        }
        Ok(())
    }

    /// The environment that an account gives to a step.
    pub(super) fn account(&self, name: &str) -> Vec<(String, Secret)> {
        let fields = self.accounts.iter().filter_map(|(key, value)| Some((cloud::env_of(key, name)?, value)));
        let set = fields.filter(|(_, value)| !value.text.expose().is_empty());
        set.map(|(env, value)| (env.to_owned(), value.text.clone())).collect()
    }

    /// Every value that may not stand in a log.
    pub(super) fn masked(&self) -> Vec<Secret> {
        let outputs = self.outputs.values().chain(self.accounts.values());
        let outputs = outputs.filter(|value| value.secret).map(|value| &value.text);
        self.secrets.values().chain(&self.hidden).chain(outputs).cloned().collect()
    }
}

pub(super) fn open_variable(vault: &Vault, row: &VariableRow) -> Result<Secret> {
    match &row.value {
        VariableValue::Plain(plain) => Ok(Secret::new(plain.clone())),
        VariableValue::Sealed(sealed) => text(&row.name, &vault.open(&variable_place(row).aad(), sealed)?),
    }
}

fn open_output(vault: &Vault, deployment: DeploymentId, step: u32, name: &str, output: &OutputRow) -> Result<Value> {
    match output {
        OutputRow::Plain(value) => Ok(Value { text: Secret::new(output_text(value).into_owned()), secret: false }),
        OutputRow::Sealed(sealed) => {
            let damaged = || Error::Internal(format!("output `{name}` is sealed, but not as it should be"));
            let sealed = hex::decode(sealed).ok_or_else(damaged)?;
            let json = vault.open(&output_aad(deployment, step, name), &sealed)?;
            let value: serde_json::Value = serde_json::from_slice(&json).map_err(|_| damaged())?;
            Ok(Value { text: Secret::new(output_text(&value).into_owned()), secret: true })
        }
    }
}

impl Context for Values {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    fn output(&self, step: &str, name: &str) -> Option<Output<'_>> {
        let value = self.outputs.get(&(step.to_owned(), name.to_owned()))?;
        Some(Output { text: value.text.expose().into(), secret: value.secret })
    }

    fn environment(&self) -> &str {
        &self.environment
    }

    fn project(&self) -> &str {
        &self.project
    }

    fn deployment(&self) -> &str {
        &self.deployment
    }
}
