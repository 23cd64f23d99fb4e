//! Packages that the controller makes itself: of a commit of the repository that a project's spec names.
//!
//! Invariants: the address and the names of the credentials come from the applied spec and from nowhere else, so whoever may not
//! change a project cannot point the controller elsewhere; a caller chooses no more than the ref. Fetching happens outside of every
//! transaction, in a temporary folder that a start of the controller sweeps; nothing is recorded before the package is durable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::secret::Secret;
use longshore_core::source::{self, Address, Protocol};
use longshore_core::spec::{Project, Source, SourceCredentials};
use longshore_core::variables::{Place, Scope};
use longshore_source::git::{self, Access, Credentials, Means, Wanted};
use longshore_source::pack;
use serde::Serialize;
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use futures_util::TryStreamExt as _;

use super::context::open_variable;
use super::create::{project, secret_rows};
use super::libraries::newest_rows;
use super::view::SourceView;
use super::{Engine, Error, Result};
use crate::blobs;
use crate::store::rows::{CommitRow, VariableRow};

/// What is set from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Protocols that are spoken.
    pub protocols: Vec<Protocol>,
    /// Most bytes of a repository at one commit, and of its checkout.
    pub bytes: u64,
    /// Longest time for one.
    pub time: Duration,
    /// Most at a time.
    pub at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { protocols: Protocol::SAFE.to_vec(), bytes: 2 << 30, time: Duration::from_secs(5 * 60), at_once: 2 }
    }
}

/// A package that was made of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MadeView {
    /// SHA-256 in lowercase hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// What it was made of.
    pub source: SourceView,
}

/// A package of a commit, for a release.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) source: CommitRow,
    /// Revision of the spec that named the repository.
    pub(super) revision: u64,
}

/// What the rows say.
struct Found {
    spec: Arc<Project>,
    revision: u64,
    rows: Vec<VariableRow>,
}

impl Engine {
    /// Makes a package of the project's repository.
    ///
    /// # Errors
    /// When the project names none, it cannot be fetched, or what it holds is no package; nothing was stored then.
    pub async fn make_package(&self, name: &str, reference: Option<&str>, by: &str) -> Result<MadeView> {
        let made = self.sourced(name, reference, by).await?.ok_or_else(|| no_source(name))?;
        Ok(MadeView { sha256: made.sha256, bytes: made.bytes, source: made.source.into() })
    }

    /// Makes a package of the project's repository, when it names one or a ref is asked for.
    pub(super) async fn sourced(&self, name: &str, reference: Option<&str>, by: &str) -> Result<Option<Made>> {
        let found = self.source_of(name).await?;
        let Some(source) = found.spec.source.clone() else {
            return if reference.is_some() { Err(no_source(name)) } else { Ok(None) };
        };
        let reference = reference.unwrap_or(&source.reference).to_owned();
        source::check_reference(&reference).map_err(|message| Error::invalid("ref", message, None))?;
        let address = self.allowed(&source)?;
        let credentials = self.credentials(name, &source, &found)?;
        let settings = &self.settings().sources;
        let means = Means {
            access: Access::Own(credentials),
            folder: self.blobs().temporary(),
            bytes: settings.bytes,
            time: settings.time,
        };
        let wanted = Wanted { address, reference: reference.clone(), dir: source.dir.clone() };
        let turn = tokio::time::timeout(settings.time, self.0.fetches.acquire()).await;
        let turn = turn.map_err(|_| refused(name, &git::Error::Late(settings.time)))?;
        let checkout = git::check_out(&wanted, &means).await.map_err(|error| refused(name, &error))?;
        let (folder, temporary) = (checkout.folder.clone(), means.folder.clone());
        let packed = self.0.parts.tasks.blocking(move || pack::pack_checkout(&folder, &temporary, &mut |_, _| {}));
        let packed = packed.await.map_err(|_| stopping())?.map_err(|error| bad(name, &error))?;
        let (commit, url) = (checkout.commit.clone(), source.git.clone());
        drop((checkout, turn));
        let (sha256, bytes) = (packed.sha256.clone(), packed.size);
        self.keep(name, packed).await?;
        let source = CommitRow { url, reference, commit };
        self.add_package_of(&sha256, bytes, Some(source.clone()), by).await?;
        Ok(Some(Made { sha256, bytes, source, revision: found.revision }))
    }

    async fn source_of(&self, name: &str) -> Result<Found> {
        let name = name.to_owned();
        self.read(move |tx| {
            Box::pin(async move {
                let row = project(tx, &name).await?;
                let missing = || Error::Internal(format!("the newest revision of `{name}` is missing"));
                let spec = tx.revision(row.id, row.revision).await?.ok_or_else(missing)?.spec;
                let rows = newest_rows(tx, &row, &spec).await?;
                Ok(Found { spec, revision: row.revision, rows })
            })
        })
        .await
    }

    /// The address, when its protocol is spoken here.
    pub(super) fn allowed(&self, source: &Source) -> Result<Address> {
        Address::parse(&source.git, &self.settings().sources.protocols).map_err(|error| {
            let message = format!("`source`: {error}; nothing was changed");
            let hint = "take an address by https or ssh, or let the operator allow it in `sources.protocols`";
            Error::refused("source_protocol", message, hint.to_owned())
        })
    }

    fn credentials(&self, name: &str, source: &Source, found: &Found) -> Result<Option<Credentials>> {
        // A source belongs to no environment, and no environment has an empty name: what is left are the values for all.
        let given = std::collections::BTreeMap::new();
        let nowhere = Place { environment: "", channel: "", step: None, given: &given };
        let open = |secret: &str| -> Result<Secret> {
            let rows = secret_rows(&found.spec, &found.rows, secret, &nowhere);
            match rows.into_iter().find(|row| row.scope == Scope::All) {
                Some(row) => open_variable(&self.0.parts.vault, row),
                None => {
                    let message = format!(
                        "secret `{secret}`, which opens the source of `{name}`, has no value for all environments"
                    );
                    let hint = format!(
                        "set it: `longshore variable set {name} {secret} --secret`, with the value on standard input"
                    );
                    Err(Error::refused("secret_missing", message, Some(hint)))
                }
            }
        };
        Ok(match &source.credentials {
            None => None,
            Some(SourceCredentials::Password { user, password }) => {
                Some(Credentials::Password { user: user.clone(), password: open(password)? })
            }
            Some(SourceCredentials::Key { key, known_hosts }) => {
                Some(Credentials::Key { key: open(key)?, known_hosts: known_hosts.clone() })
            }
        })
    }

    /// Stores a package by the rules of every other one.
    async fn keep(&self, name: &str, packed: pack::Package) -> Result<()> {
        use std::io::Seek as _;
        let failed = |source| Error::File { what: "the package of a commit".to_owned(), source };
        if self.blobs().exists(&packed.sha256).await.map_err(|error| unkept(name, error))? {
            return Ok(());
        }
        let mut file = packed.file;
        file.rewind().map_err(failed)?;
        let body = ReaderStream::new(tokio::fs::File::from_std(file)).map_err(axum::Error::new);
        self.blobs().put(&packed.sha256, body).await.map(drop).map_err(|error| unkept(name, error))
    }
}

fn no_source(name: &str) -> Error {
    let message = format!(
        "project `{name}` names no repository, so that there is nothing to make a package of; nothing was made"
    );
    let hint = "write `source: {git: URL, ref: main}` into its spec and apply it, or push a package".to_owned();
    Error::conflict("no_source", message, hint)
}

fn stopping() -> Error {
    Error::Store(crate::store::Error::Closed)
}

/// Why there is no checkout, for whoever asked for it.
fn refused(name: &str, error: &git::Error) -> Error {
    let what = with_cause(error);
    let message = format!("the source of project `{name}` could not be fetched: {what}; nothing was made");
    match error {
        git::Error::Missing | git::Error::Start(_) => {
            let hint = "the operator has to install git where the controller runs".to_owned();
            Error::conflict("no_git", message, hint)
        }
        git::Error::Submodule(_) | git::Error::NoFolder { .. } => {
            let hint = "change the repository or `source.dir`, or push a package that was made elsewhere".to_owned();
            Error::invalid("source", message, hint)
        }
        git::Error::Folder { .. } => {
            let hint = "the operator has to make room in the controller's data directory".to_owned();
            Error::conflict("source_failed", message, hint)
        }
        _ => {
            let hint = "check `source` in the spec (address, ref, credentials), and whether the controller reaches the host; then ask again";
            Error::conflict("source_failed", message, hint.to_owned())
        }
    }
}

/// Why the commit is no package.
fn bad(name: &str, error: &pack::Error) -> Error {
    let message = format!("the source of project `{name}` is no package: {}; nothing was made", with_cause(error));
    let hint = "change the repository, or keep the entry out with `.longshoreignore`".to_owned();
    Error::invalid("source", message, hint)
}

fn unkept(name: &str, error: blobs::Error) -> Error {
    match error {
        blobs::Error::Stopping => stopping(),
        blobs::Error::Io { what, path, source } => Error::File { what: format!("{what} {}", shown(&path)), source },
        other => {
            let message = format!("the source of project `{name}` is no package that is taken here: {other}");
            Error::invalid("source", message, "make the repository, or the folder in `source.dir`, smaller".to_owned())
        }
    }
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
