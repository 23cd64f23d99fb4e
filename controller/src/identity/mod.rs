//! Who is who: the controller's own certificate authority, agents' certificates, join tokens and API tokens.
//!
//! Invariants: an agent's identity is the URI name of a certificate that the TLS handshake verified, never a field or a
//! header; names in a signing request are ignored; of a token only its SHA-256 is stored, so the database cannot be used
//! to log in; keys are files with mode 0600 or live in memory only.

mod ca;
pub mod cloud;
mod door;
mod peer;
mod tls;
mod token;

pub use ca::{AgentCertificate, Ca};
pub use door::{Door, Limits};
pub use peer::AgentIdentity;
pub use tls::{Connection, Incoming, Tls, agent_plane, api_from_files};
pub use token::{TokenHash, TokenKind};

use std::path::PathBuf;

use crate::data_dir;

/// Why something of identity did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate could not be made.
    #[error("cannot make {what}")]
    Make {
        /// For example "the server certificate".
        what: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// A signing request that cannot be granted.
    #[error("the certificate signing request is refused: {0}")]
    Csr(String),
    /// The authority's files do not fit together.
    #[error(
        "`{file}` cannot be used ({why}): restore `ca.key` and `ca.pem` from the backup of the data directory; without them every agent has to be enrolled again"
    )]
    Authority {
        /// `ca.key` or `ca.pem`.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate or key file of the configuration cannot be used.
    #[error("`{}` cannot be used as {what}: {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// "a certificate chain" or "a private key".
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library refused the certificate or key.
    #[error("cannot set up TLS for {what}")]
    Tls {
        /// "the agents' plane" or "the API".
        what: &'static str,
        /// What the library said.
        #[source]
        source: rustls::Error,
    },
    /// A file of the data directory cannot be read or written.
    #[error(transparent)]
    File(#[from] data_dir::Error),
}
