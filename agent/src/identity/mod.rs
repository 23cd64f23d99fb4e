//! Who the agent is: its key, its certificate and the authorities it trusts, in one file.
//!
//! The key is made on this machine and never leaves it. Key and certificate are one file, so that they are replaced as one;
//! the file is 0600 and written durably.

mod key;
mod renew;

use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::id::AgentId;
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use key::{NewKey, csr, pending, settled};
pub use renew::{Renewal, keep_fresh};

/// Name of the file in the state directory.
pub const FILE: &str = "identity.json";
const VERSION: u32 = 1;

/// An enrolled agent's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The agent's id, as in the certificate.
    pub agent: AgentId,
    /// The controller's id, for labels.
    pub controller: String,
    /// Pool that the join token or rule named.
    pub pool: String,
    /// Private key in PEM.
    pub key_pem: Secret,
    /// Certificate chain in PEM, leaf first.
    pub certificate_pem: String,
    /// Authorities to trust, in PEM.
    pub ca_pem: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From here.
    pub from: Timestamp,
    /// To here.
    pub until: Timestamp,
}

impl Validity {
    /// When to ask for a new one: after a third of its life.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.from.after(self.until.since(self.from) / 3)
    }

    /// How long until `renew_at`; zero when that has passed.
    #[must_use]
    pub fn renew_in(&self, now: Timestamp) -> Duration {
        self.renew_at().since(now)
    }
}

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Never enrolled.
    #[error("this agent is not enrolled: there is no `{}`; make a join token on the controller and run `longshore-agent enroll --config FILE --token-file FILE`, or set `join` where the machine is in a cloud", path.display())]
    NotEnrolled {
        /// Where the identity would be.
        path: PathBuf,
    },
    /// Enrolled before.
    #[error(
        "this agent is enrolled already as `{agent}`; nothing was changed; to give it a new identity, run `enroll` with `--force`"
    )]
    Enrolled {
        /// Who it is.
        agent: AgentId,
    },
    /// The certificate's time is over.
    #[error(
        "the certificate of agent `{agent}` expired at {until}; running jobs go on in their containers, but their log and result cannot be reported; \
         make a join token on the controller and run `longshore-agent enroll --force --config FILE --token-file FILE`"
    )]
    Expired {
        /// Whose.
        agent: AgentId,
        /// When.
        until: Timestamp,
    },
    /// The file is there but cannot be used.
    #[error("the identity `{}` cannot be read; restore it, or remove it and enroll anew", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file cannot be written.
    #[error("the identity `{}` cannot be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the controller sent is no certificate for this agent.
    #[error("the controller's answer is no certificate for this agent: {0}")]
    Answer(String),
    /// No key or request can be made.
    #[error("cannot make a key and a certificate request")]
    Key(#[source] rcgen::Error),
}

/// When a certificate ends, if it is one.
pub(crate) fn until(der: &[u8]) -> Option<Timestamp> {
    key::validity_of(der).ok().map(|validity| validity.until)
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    agent: AgentId,
    controller: String,
    pool: String,
    key_pem: String,
    certificate_pem: String,
    ca_pem: String,
}

impl Identity {
    /// Reads the identity of a state directory.
    ///
    /// # Errors
    /// [`Error::NotEnrolled`] or [`Error::Unreadable`].
    pub fn load(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => zeroize::Zeroizing::new(bytes),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Err(Error::NotEnrolled { path }),
            Err(err) => return Err(Error::Unreadable { path, source: err.into() }),
        };
        let stored: Stored = serde_json::from_slice(&bytes)
            .map_err(|err| Error::Unreadable { path: path.clone(), source: err.into() })?;
        if stored.version != VERSION {
            return Err(Error::Unreadable { path, source: format!("version {} is not known", stored.version).into() });
        }
        Ok(Self {
            agent: stored.agent,
            controller: stored.controller,
            pool: stored.pool,
            key_pem: Secret::new(stored.key_pem),
            certificate_pem: stored.certificate_pem,
            ca_pem: stored.ca_pem,
        })
    }

    /// Writes the identity, replacing the one before as a whole.
    ///
    /// # Errors
    /// [`Error::Unwritable`]; the one before is in force then.
    pub fn save(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join(FILE);
        let stored = Stored {
            version: VERSION,
            agent: self.agent,
            controller: self.controller.clone(),
            pool: self.pool.clone(),
            key_pem: self.key_pem.expose().to_owned(),
            certificate_pem: self.certificate_pem.clone(),
            ca_pem: self.ca_pem.clone(),
        };
        let result = serde_json::to_vec_pretty(&stored)
            .map_err(std::io::Error::from)
            .map(zeroize::Zeroizing::new)
            .and_then(|bytes| crate::durable::write(&path, &bytes));
        result.map_err(|source| Error::Unwritable { path, source })
    }

    /// When the certificate is valid.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is no certificate.
    pub fn validity(&self) -> Result<Validity, Error> {
        key::validity(&self.certificate_pem)
    }

    /// Says whether the certificate is one of this agent and this key.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is not.
    pub fn verify(&self) -> Result<(), Error> {
        key::check(&self.certificate_pem, self.agent, &self.key_pem)
    }

    /// A signature by the key, for whoever asks whether this is the agent it was.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn sign(&self, text: &str) -> Result<Vec<u8>, Error> {
        use rcgen::SigningKey as _;
        let key = rcgen::KeyPair::from_pem(self.key_pem.expose()).map_err(Error::Key)?;
        key.sign(text.as_bytes()).map_err(Error::Key)
    }

    /// Says whether the certificate can be used now.
    ///
    /// # Errors
    /// [`Error::Expired`] with what to do, or [`Error::Answer`].
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        let until = self.validity()?.until;
        if now > until { Err(Error::Expired { agent: self.agent, until }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(until_us: i64) -> Identity {
        let (key, until) = (rcgen::KeyPair::generate().unwrap(), until_us / 1_000_000);
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = params.not_before + Duration::from_secs(until.unsigned_abs());
        Identity {
            agent: AgentId::new(Timestamp::from_micros(1), [1; 10]),
            controller: "ctl".to_owned(),
            pool: "default".to_owned(),
            certificate_pem: params.self_signed(&key).unwrap().pem(),
            key_pem: Secret::new(key.serialize_pem()),
            ca_pem: String::new(),
        }
    }

    #[test]
    fn survives_the_disk_and_shows_no_key() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(Error::NotEnrolled { .. })));
        let identity = identity(3_600_000_000);
        identity.save(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), identity);
        assert!(!format!("{identity:?}").contains("PRIVATE"));
        std::fs::write(dir.path().join(FILE), b"{\"version\":1").unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(Error::Unreadable { .. })));
    }

    #[test]
    fn a_key_that_is_pending_is_the_same_until_it_has_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let first = pending(dir.path()).unwrap();
        let again = pending(dir.path()).unwrap();
        assert_eq!((first.csr_pem.clone(), first.key_pem.clone()), (again.csr_pem, again.key_pem));
        settled(dir.path());
        settled(dir.path());
        assert_ne!(pending(dir.path()).unwrap().csr_pem, first.csr_pem);
        std::fs::write(dir.path().join("enrolling.json"), "{").unwrap();
        assert_ne!(pending(dir.path()).unwrap().csr_pem, first.csr_pem);
    }

    #[test]
    fn a_third_of_its_life_is_when_to_renew_and_the_end_is_said() {
        let identity = identity(3_600_000_000);
        let validity = identity.validity().unwrap();
        assert_eq!(validity.until.since(validity.from), Duration::from_secs(3_600));
        assert_eq!(validity.renew_at().since(validity.from), Duration::from_secs(1_200));
        assert_eq!(validity.renew_in(validity.until), Duration::ZERO);
        assert!(identity.check(validity.from).is_ok());
        let error = identity.check(validity.until.after(Duration::from_secs(1))).unwrap_err().to_string();
        assert!(error.contains("expired") && error.contains("enroll --force"), "{error}");
    }
}
