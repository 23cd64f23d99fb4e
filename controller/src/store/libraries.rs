//! Libraries: sets of variables that projects share, and accounts, which are libraries of a kind. Their variables are rows as those
//! of projects are.

use async_trait::async_trait;
use longshore_core::account::Kind;
use longshore_core::time::Timestamp;

use super::Error;
use super::rows::VariableRow;

type Result<T> = std::result::Result<T, Error>;

/// A library or an account. The name is the key and never given to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryRow {
    /// The name.
    pub name: String,
    /// It is an account of this kind; `None`: a library.
    pub kind: Option<Kind>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// The part of a transaction that is about libraries.
#[async_trait]
pub trait Libraries: Send {
    /// Adds a library or an account; `false` when there is one of that name.
    async fn insert_library(&mut self, row: &LibraryRow) -> Result<bool>;
    /// All libraries and accounts by name.
    async fn libraries(&mut self) -> Result<Vec<LibraryRow>>;
    /// The newest version of each variable of a library or an account for each environment.
    async fn library_variables(&mut self, library: &str) -> Result<Vec<VariableRow>>;
}
