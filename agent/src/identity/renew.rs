//! Renewing the certificate while the agent runs.

use std::path::Path;
use std::time::Duration;

use super::{Error, Identity, key};
use crate::retry::{Policy, Retry};

/// Where new certificates come from and where they go.
pub trait Renewal: Send + Sync + 'static {
    /// Trades a request (PEM) for a certificate chain and the authorities to trust (PEM both).
    fn renew(&self, csr_pem: &str) -> impl Future<Output = Result<(String, String), String>> + Send;
    /// Puts an identity in force for the next connections.
    fn install(&self, identity: &Identity) -> Result<(), String>;
}

/// A renewal that failed is tried again after this long at most.
const RETRY: Policy = Policy { first: Duration::from_secs(10), most: Duration::from_secs(600) };
/// Longest sleep, so that a clock that was set is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Renews the certificate each time a third of its life has passed, for ever.
pub async fn keep_fresh(state_dir: &Path, mut identity: Identity, renewal: impl Renewal) {
    let mut retry = Retry::new(RETRY);
    loop {
        match identity.validity() {
            Ok(validity) => {
                let wait = validity.renew_in(crate::clock::now());
                if !wait.is_zero() {
                    tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
                    continue;
                }
            }
            Err(error) => tracing::error!(%error, "the certificate in use cannot be read"),
        }
        match once(state_dir, &identity, &renewal).await {
            Ok(next) => {
                tracing::info!(agent = %next.agent, "certificate renewed");
                identity = next;
                retry.reset();
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate could not be renewed, trying again");
                if let Err(expired) = identity.check(crate::clock::now()) {
                    tracing::error!(error = %expired, "this agent cannot reach its controller any more");
                }
                retry.pause().await;
            }
        }
    }
}

/// One renewal: a new key, its certificate on disk, then in force.
async fn once(state_dir: &Path, identity: &Identity, renewal: &impl Renewal) -> Result<Identity, Error> {
    let new = key::csr()?;
    let (certificate_pem, ca_pem) = renewal.renew(&new.csr_pem).await.map_err(Error::Answer)?;
    key::check(&certificate_pem, identity.agent, &new.key_pem)?;
    let ca_pem = if ca_pem.is_empty() { identity.ca_pem.clone() } else { ca_pem };
    let next = Identity { key_pem: new.key_pem, certificate_pem, ca_pem, ..identity.clone() };
    let (saved, dir) = (next.clone(), state_dir.to_owned());
    crate::tasks::blocking(move || saved.save(&dir).map_err(std::io::Error::other))
        .await
        .map_err(|source| Error::Unwritable { path: state_dir.join(super::FILE), source })?;
    renewal.install(&next).map_err(Error::Answer)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use longshore_core::id::AgentId;
    use longshore_core::secret::Secret;
    use longshore_core::time::Timestamp;

    use super::*;

    /// Signs what it is asked to, with a name of its choice.
    struct Authority {
        agent: AgentId,
        installed: Mutex<Vec<Identity>>,
    }

    fn sign(csr_pem: &str, agent: AgentId) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(rcgen::CertificateParams::new(vec![]).unwrap(), key);
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let uri = format!("longshore://agent/{agent}");
        request.params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        request.signed_by(&issuer).unwrap().pem()
    }

    impl Renewal for Authority {
        async fn renew(&self, csr_pem: &str) -> Result<(String, String), String> {
            Ok((sign(csr_pem, self.agent), String::new()))
        }
        fn install(&self, identity: &Identity) -> Result<(), String> {
            self.installed.lock().unwrap().push(identity.clone());
            Ok(())
        }
    }

    fn identity(agent: AgentId) -> Identity {
        let new = key::csr().unwrap();
        Identity {
            agent,
            controller: "c".to_owned(),
            pool: "p".to_owned(),
            certificate_pem: sign(&new.csr_pem, agent),
            key_pem: new.key_pem,
            ca_pem: "ca".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_renewal_has_a_new_key_and_is_on_disk_before_it_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let agent = AgentId::new(Timestamp::from_micros(1), [1; 10]);
        let old = identity(agent);
        let authority = Authority { agent, installed: Mutex::default() };
        let new = once(dir.path(), &old, &authority).await.unwrap();
        assert_ne!(new.key_pem, old.key_pem);
        assert_eq!(new.ca_pem, "ca");
        assert_eq!(Identity::load(dir.path()).unwrap(), new);
        assert_eq!(*authority.installed.lock().unwrap(), [new]);
    }

    #[tokio::test]
    async fn a_certificate_of_another_agent_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, other) =
            (AgentId::new(Timestamp::from_micros(1), [1; 10]), AgentId::new(Timestamp::from_micros(2), [2; 10]));
        let authority = Authority { agent: other, installed: Mutex::default() };
        let error = once(dir.path(), &identity(agent), &authority).await.unwrap_err().to_string();
        assert!(error.contains("does not name"), "{error}");
        assert!(authority.installed.lock().unwrap().is_empty() && !dir.path().join(super::super::FILE).exists());
        assert!(
            key::check(
                &sign(&key::csr().unwrap().csr_pem, agent),
                agent,
                &Secret::new(rcgen::KeyPair::generate().unwrap().serialize_pem())
            )
            .is_err()
        );
    }
}
