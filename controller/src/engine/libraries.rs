//! Libraries: made once, filled with versions of variables, included by projects.
//!
//! A library's variable is plain or a secret for all environments: a project that names it must know which. Versions are frozen into
//! releases by their ids, as those of projects are.

use std::collections::BTreeSet;

use longshore_core::expression::Reference;
use longshore_core::spec::{Outside, Project, names};
use longshore_core::variables::Scope;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::projects::{check_value, sealed_row, variable_view};
use super::view::VariableView;
use super::{Engine, Error, NewVariable, Result};
use crate::store::rows::{Owner, ProjectRow, VariableRow, VariableValue};
use crate::store::{LibraryRow, Tx};

/// A library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LibraryView {
    /// Its name.
    pub name: String,
    /// Its variables; values of secrets are never shown. Not in lists.
    pub variables: Vec<VariableView>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
}

impl Engine {
    /// Makes a library.
    ///
    /// # Errors
    /// A name that is none or is taken.
    pub async fn create_library(&self, name: &str, by: &str) -> Result<LibraryView> {
        if !names::is_name(name) {
            return Err(Error::invalid("name", format!("`{name}` is no name: write {}", names::NAME_RULE), None));
        }
        let (name, created_by) = (name.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let row = LibraryRow { name, kind: None, created_at: cx.now, created_by };
                if !tx.insert_library(&row).await? {
                    let message =
                        format!("there is already a library or an account `{}`; nothing was changed", row.name);
                    return Err(Error::conflict("library_exists", message, None));
                }
                cx.audit(tx, "library.created", format!("library/{}", row.name), json!({})).await?;
                Ok(view(row, Vec::new()))
            })
        })
        .await
    }

    /// All libraries by name, without their variables.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn libraries(&self) -> Result<Vec<LibraryView>> {
        self.read(|tx| {
            Box::pin(async move {
                let libraries = tx.libraries().await?.into_iter().filter(|row| row.kind.is_none());
                Ok(libraries.map(|row| view(row, Vec::new())).collect())
            })
        })
        .await
    }

    /// A library with its variables.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn library(&self, name: &str) -> Result<LibraryView> {
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let row = library(tx, &name).await?;
                let variables = tx.library_variables(&name).await?;
                Ok(view(row, variables.iter().map(variable_view).collect()))
            })
        })
        .await
    }

    /// Sets a variable of a library, for one environment or for all.
    ///
    /// # Errors
    /// When there is no such library, or the variable is of the other kind there.
    pub async fn set_library_variable(&self, name: &str, new: NewVariable, by: &str) -> Result<VariableView> {
        check_value(&new)?;
        if !matches!(new.scope, Scope::All | Scope::Environment(_)) {
            let message = "a value of a library is for everything or for one environment: channels, steps and pools are a project's";
            return Err(Error::invalid("value", message, None));
        }
        if let Some(environment) = new.scope.environment().filter(|name| !names::is_name(name)) {
            let message = format!("`{environment}` is no name: write {}", names::NAME_RULE);
            return Err(Error::invalid("environment", message, None));
        }
        let (name, by_name) = (name.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                library(tx, &name).await?;
                let before = tx.library_variables(&name).await?;
                if let Some(other) = before.iter().find(|row| row.name == new.name && is_secret(row) != new.secret) {
                    let (is, hint) = if is_secret(other) {
                        ("a secret", "add `--secret`, or take another name")
                    } else {
                        ("plain", "leave `--secret` out, or take another name")
                    };
                    let message = format!("`{}` of library `{name}` is {is}; nothing was changed", new.name);
                    return Err(Error::invalid("secret", message, hint.to_owned()));
                }
                let secret = new.secret;
                let row = sealed_row(cx, Owner::Library(name.clone()), new, by_name)?;
                tx.insert_variable(&row).await?;
                let detail =
                    json!({ "library": name, "name": row.name, "environment": row.scope.environment(), "secret": secret });
                cx.audit(tx, "library.set", format!("library/{name}/{}", row.name), detail).await?;
                Ok(variable_view(&row))
            })
        })
        .await
    }

    /// What a spec may name that stands on the server.
    pub(super) async fn outside(&self) -> Result<Outside> {
        self.read(|tx| Box::pin(async move { outside(tx).await })).await
    }
}

fn is_secret(row: &VariableRow) -> bool {
    matches!(row.value, VariableValue::Sealed(_))
}

fn view(row: LibraryRow, variables: Vec<VariableView>) -> LibraryView {
    let LibraryRow { name, created_at, created_by, .. } = row;
    LibraryView { name, variables, created_at: created_at.to_string(), created_by }
}

async fn library(tx: &mut dyn Tx, name: &str) -> Result<LibraryRow> {
    let found = tx.libraries().await?.into_iter().find(|row| row.kind.is_none() && row.name == name);
    found.ok_or_else(|| Error::NotFound {
        kind: "library",
        name: name.to_owned(),
        hint: Some(format!("make it: `longshore library create {name}`")),
    })
}

async fn outside(tx: &mut dyn Tx) -> Result<Outside> {
    let mut outside = Outside::default();
    for row in tx.libraries().await? {
        if let Some(kind) = row.kind {
            outside.accounts.insert(row.name, kind);
            continue;
        }
        let variables = tx.library_variables(&row.name).await?;
        let names = variables.into_iter().map(|row| (row.name.clone(), is_secret(&row))).collect();
        outside.libraries.insert(row.name, names);
    }
    Ok(outside)
}

/// The newest values that count for a project: its own, those of its libraries, and fields of the accounts of its steps.
pub(super) async fn newest_rows(tx: &mut dyn Tx, project: &ProjectRow, spec: &Project) -> Result<Vec<VariableRow>> {
    let mut rows = tx.variables(project.id).await?;
    let accounts: BTreeSet<&String> = spec.steps.iter().flat_map(|step| &step.accounts).collect();
    for library in spec.libraries.iter().chain(accounts) {
        rows.extend(tx.library_variables(library).await?);
    }
    Ok(rows)
}

/// Refuses a snapshot in which a name that a step uses is nowhere.
pub(super) fn check_names(spec: &Project, rows: &[VariableRow]) -> Result<()> {
    for step in &spec.steps {
        for to in step.templates().flat_map(|template| template.references()) {
            let (name, secret) = match to {
                Reference::Vars(name) => (name, false),
                Reference::Secrets(name) => (name, true),
                _ => continue,
            };
            let in_library = |row: &&VariableRow| {
                matches!(&row.owner, Owner::Library(library) if spec.libraries.contains(library))
                    && row.name == *name
                    && is_secret(row) == secret
            };
            if spec.variable(name).is_none() && !rows.iter().any(|row| in_library(&row)) {
                let message = format!(
                    "line {}: step `{}` uses `{name}`, which neither the project nor one of its libraries has",
                    step.line, step.name
                );
                let hint = "declare it under `variables`, or set it with `longshore library set`".to_owned();
                return Err(Error::refused("unknown_variable", message, hint));
            }
        }
    }
    Ok(())
}
