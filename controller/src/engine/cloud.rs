//! Accounts: typed bundles of fields that give a step its environment variables.
//!
//! An account is a library of a kind, and its fields are variables of it: sealed, versioned and frozen into releases as those are. All
//! fields are written at once, those that are not given as empty ones, so that a bundle is never a mix of two. For an environment
//! its own bundle counts if there is one, else that for all. In a deployment's secrets a field stands as `account/NAME/FIELD`, which
//! no variable can be called.

use std::collections::BTreeMap;

use longshore_core::account::{BACKEND, Kind};
use longshore_core::secret::Secret;
use longshore_core::spec::{Project, Step, names};
use longshore_core::variables::Scope;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::projects::{check_value, sealed_row};
use super::{Engine, Error, NewVariable, Result};
use crate::store::LibraryRow;
use crate::store::rows::{Owner, VariableRow, VariableValue};

/// What a field's key in a deployment begins with.
const PREFIX: &str = "account/";

/// An account to make, or new values for one.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its type; never changes.
    pub kind: Kind,
    /// The environment that these values are for; `None`: all.
    pub environment: Option<String>,
    /// Values by field.
    pub fields: BTreeMap<String, Secret>,
}

/// An account, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountView {
    /// Its name.
    pub name: String,
    /// Its type: `aws`, `azure`, `gcp` or `pulumi`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Environments that have values of their own; `null` stands for those of all.
    pub environments: Vec<Option<String>>,
    /// Environment variables that a step finds.
    pub sets: Vec<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
}

impl Engine {
    /// Makes an account, or gives it new values, for one environment or for all.
    ///
    /// # Errors
    /// A name that is none or is taken, another type, a field that is missing or is none; nothing was changed then.
    pub async fn set_account(&self, name: &str, new: NewAccount, by: &str) -> Result<AccountView> {
        for what in [Some(name), new.environment.as_deref()].into_iter().flatten() {
            if !names::is_name(what) {
                return Err(Error::invalid("name", format!("`{what}` is no name: write {}", names::NAME_RULE), None));
            }
        }
        let values = checked(&new)?;
        let (name, by_name) = (name.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let found = tx.libraries().await?.into_iter().find(|row| row.name == name);
                let row = match found {
                    Some(row) if row.kind == Some(new.kind) => row,
                    Some(row) => {
                        let is = row
                            .kind
                            .map_or_else(|| "a library".to_owned(), |kind| format!("an account of type {kind}"));
                        let message = format!("`{name}` is {is} already; nothing was changed");
                        return Err(Error::conflict("account_exists", message, "take another name".to_owned()));
                    }
                    None => {
                        let (name, created_by) = (name.clone(), by_name.clone());
                        let row = LibraryRow { name, kind: Some(new.kind), created_at: cx.now, created_by };
                        tx.insert_library(&row).await?;
                        row
                    }
                };
                for value in values {
                    let row = sealed_row(cx, Owner::Library(name.clone()), value, by_name.clone())?;
                    tx.insert_variable(&row).await?;
                }
                let detail = json!({ "account": name, "type": new.kind.as_str(), "environment": new.environment });
                cx.audit(tx, "account.set", format!("account/{name}"), detail).await?;
                let fields = tx.library_variables(&name).await?;
                Ok(view(row, new.kind, &fields))
            })
        })
        .await
    }

    /// All accounts by name; their values are never shown.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn accounts(&self) -> Result<Vec<AccountView>> {
        self.read(|tx| {
            Box::pin(async move {
                let mut views = Vec::new();
                for row in tx.libraries().await? {
                    if let Some(kind) = row.kind {
                        let fields = tx.library_variables(&row.name).await?;
                        views.push(view(row, kind, &fields));
                    }
                }
                Ok(views)
            })
        })
        .await
    }
}

/// A value for every field of the type.
fn checked(new: &NewAccount) -> Result<Vec<NewVariable>> {
    let known = || new.kind.fields().iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ");
    if let Some(name) = new.fields.keys().find(|name| new.kind.field(name).is_none()) {
        let message = format!("an account of type {} has no field `{name}`", new.kind);
        return Err(Error::invalid("fields", message, format!("it has {}", known())));
    }
    let mut values = Vec::new();
    for field in new.kind.fields() {
        let value = new.fields.get(field.name).cloned().unwrap_or_else(|| Secret::new(String::new()));
        if field.required && value.expose().is_empty() {
            let message = format!("an account of type {} needs `{}`", new.kind, field.name);
            return Err(Error::invalid("fields", message, format!("its fields are {}", known())));
        }
        if field.name == "credentials" && serde_json::from_str::<serde::de::IgnoredAny>(value.expose()).is_err() {
            let message = "`credentials` is no JSON: give the key file of the service account as it is".to_owned();
            return Err(Error::invalid("fields", message, None));
        }
        let name = field.name.to_owned();
        let scope = new.environment.clone().map_or(Scope::All, Scope::Environment);
        // An empty one says that there is none, which is no secret.
        let secret = field.secret && !value.expose().is_empty();
        let value = NewVariable { name, value, secret, scope };
        check_value(&value)?;
        values.push(value);
    }
    Ok(values)
}

fn view(row: LibraryRow, kind: Kind, fields: &[VariableRow]) -> AccountView {
    let mut environments: Vec<_> = fields.iter().map(|field| field.scope.environment().map(str::to_owned)).collect();
    environments.sort();
    environments.dedup();
    AccountView {
        name: row.name,
        kind: kind.as_str().to_owned(),
        environments,
        sets: kind.fields().iter().map(|field| field.env.to_owned()).collect(),
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
    }
}

/// The fields of an account that count in an environment.
fn fields<'a>(rows: &'a [VariableRow], account: &str, environment: &str) -> Vec<&'a VariableRow> {
    let of = |wanted: Option<&str>| -> Vec<&'a VariableRow> {
        let fits = |row: &&VariableRow| {
            matches!(&row.owner, Owner::Library(name) if name == account) && row.scope.environment() == wanted
        };
        rows.iter().filter(fits).collect()
    };
    let own = of(Some(environment));
    if own.is_empty() { of(None) } else { own }
}

/// Versions of the fields of every account that a step names, by the keys they have in a deployment.
pub(super) fn versions(spec: &Project, rows: &[VariableRow], environment: &str) -> Result<BTreeMap<String, i64>> {
    let mut versions = BTreeMap::new();
    for step in &spec.steps {
        for account in &step.accounts {
            let fields = fields(rows, account, environment);
            if fields.is_empty() {
                let message = format!(
                    "account `{account}` of step `{}` has no values for environment `{environment}`",
                    step.name
                );
                let hint =
                    format!("give it some: `longshore account create {account} --type TYPE --env {environment}`");
                return Err(Error::refused("account_missing", message, hint));
            }
            versions.extend(fields.iter().map(|row| (format!("{PREFIX}{account}/{}", row.name), row.id)));
        }
    }
    Ok(versions)
}

/// The Pulumi backend that an account of a step names: part of what is locked.
pub(super) fn backend(step: &Step, rows: &[VariableRow], environment: &str) -> Option<String> {
    let fields = step.accounts.iter().flat_map(|account| fields(rows, account, environment));
    fields.filter(|row| env(&row.name) == Some(BACKEND)).find_map(|row| match &row.value {
        VariableValue::Plain(url) if !url.is_empty() => Some(url.clone()),
        _ => None,
    })
}

/// Whether a key of a deployment's secrets is a field of an account.
pub(super) fn is_field(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The environment variable of a key, if it is a field of this account.
pub(super) fn env_of(key: &str, account: &str) -> Option<&'static str> {
    let field = key.strip_prefix(PREFIX)?.strip_prefix(account)?.strip_prefix('/')?;
    env(field)
}

/// The environment variable of a field. No two types have a field of one name.
fn env(field: &str) -> Option<&'static str> {
    Kind::ALL.into_iter().find_map(|kind| kind.field(field)).map(|field| field.env)
}
