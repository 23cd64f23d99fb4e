//! Fetches the package of an attempt and verifies it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use longshore_core::fence::Fence;
use longshore_core::offer::PackageRef;
use sha2::{Digest as _, Sha256};

use crate::retry::{Policy, Retry};
use crate::session::{Client, Error as CallError};

/// Why a package is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The attempt is not this agent's any more.
    #[error("fenced by the controller: {0}")]
    Fenced(String),
    /// The controller will not give it.
    #[error("package `{sha256}` cannot be fetched; nothing was started")]
    Refused {
        /// Which.
        sha256: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The bytes that came are others, again and again.
    #[error("package `{sha256}` came damaged: its digest is `{found}`; nothing was started")]
    Damaged {
        /// Which.
        sha256: String,
        /// What came.
        found: String,
    },
    /// It cannot be written.
    #[error("package `{sha256}` cannot be written to `{}`; nothing was started; is the disk full?", path.display())]
    Write {
        /// Which.
        sha256: String,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Downloads that may come damaged before it is given up.
const DAMAGED: u32 = 3;

/// Fetches the package into a file; a controller that does not answer is tried for ever.
///
/// # Errors
/// [`Error`].
pub(super) async fn fetch(
    client: &Client,
    fence: Fence,
    package: &PackageRef,
    to: &Path,
    policy: Policy,
    progress: impl Fn(u64) + Send + Sync,
) -> Result<(), Error> {
    let sha256 = || package.sha256.clone();
    let mut retry = Retry::new(policy);
    let mut damaged = 0;
    loop {
        match once(client, fence, package, to, &progress).await {
            Ok(found) if found == package.sha256 => return Ok(()),
            Ok(found) => {
                damaged += 1;
                tracing::warn!(package = package.sha256, found, "the package came damaged");
                if damaged == DAMAGED {
                    return Err(Error::Damaged { sha256: sha256(), found });
                }
            }
            Err(Once::Call(CallError::Fenced(reason))) => return Err(Error::Fenced(reason)),
            Err(Once::Call(CallError::Unreached(reason))) => {
                tracing::debug!(reason, "the package did not come to its end, trying again");
            }
            Err(Once::Call(source)) => return Err(Error::Refused { sha256: sha256(), source }),
            Err(Once::Write(source)) => return Err(Error::Write { sha256: sha256(), path: to.to_owned(), source }),
        }
        retry.pause().await;
    }
}

enum Once {
    Call(CallError),
    Write(io::Error),
}

async fn once(
    client: &Client,
    fence: Fence,
    package: &PackageRef,
    to: &Path,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<String, Once> {
    let mut stream = client.fetch_package(fence, &package.sha256).await.map_err(Once::Call)?;
    let mut file = File::create(to).map_err(Once::Write)?;
    let (mut digest, mut bytes) = (Sha256::new(), 0_u64);
    while let Some(data) = stream.next().await.map_err(Once::Call)? {
        digest.update(&data);
        bytes += data.len() as u64;
        // More than was promised cannot be it, and may fill the disk.
        if bytes > package.bytes {
            return Ok(format!("unknown: it is longer than {} bytes", package.bytes));
        }
        file = crate::tasks::blocking(move || file.write_all(&data).map(|()| file)).await.map_err(Once::Write)?;
        progress(bytes);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
