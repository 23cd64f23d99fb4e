//! Renewing the certificate while the agent runs.

use std::path::Path;
use std::time::Duration;

use longshore_core::time::Timestamp;

use super::{Error, Identity, key};
use crate::retry::{Policy, Retry};

/// Where new certificates come from and where they go.
pub trait Renewal: Send + Sync + 'static {
    /// Trades a request (PEM) for a certificate chain and the authorities to trust (PEM both).
    fn renew(&self, csr_pem: &str) -> impl Future<Output = Result<(String, String), String>> + Send;
    /// What the machine gets by proving anew what it is, for a certificate that has ended; `None`: it is not set up for that.
    fn reattest(&self, _former: &Identity) -> impl Future<Output = Option<Result<Identity, String>>> + Send {
        std::future::ready(None)
    }
    /// Puts an identity in force for the next connections.
    fn install(&self, identity: &Identity) -> Result<(), String>;
}

/// A renewal that failed is tried again after this long at most.
const RETRY: Policy = Policy { first: Duration::from_secs(10), most: Duration::from_secs(600) };
/// Longest sleep, so that a clock that was set is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Renews the certificate each time a third of its life has passed, for ever.
pub async fn keep_fresh(state_dir: &Path, identity: Identity, renewal: impl Renewal) {
    keep_fresh_by(crate::clock::now, state_dir, identity, renewal).await;
}

/// The same by any clock.
async fn keep_fresh_by(
    now: impl Fn() -> Timestamp + Send,
    state_dir: &Path,
    mut identity: Identity,
    renewal: impl Renewal,
) {
    let mut retry = Retry::new(RETRY);
    loop {
        match identity.validity() {
            Ok(validity) => {
                let wait = validity.renew_in(now());
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
                if let Err(expired) = identity.check(now()) {
                    match anew(state_dir, &identity, &renewal).await {
                        Some(Ok(next)) => {
                            tracing::info!(agent = %next.agent, "the machine has proven anew what it is");
                            identity = next;
                            retry.reset();
                            continue;
                        }
                        Some(Err(error)) => tracing::error!(%error, "the machine could not prove anew what it is"),
                        None => tracing::error!(error = %expired, "this agent cannot reach its controller any more"),
                    }
                }
                retry.pause().await;
            }
        }
    }
}

/// Another certificate for the same agent, by what the machine is; what runs is the agent's and goes on.
async fn anew(state_dir: &Path, identity: &Identity, renewal: &impl Renewal) -> Option<Result<Identity, Error>> {
    let next = match renewal.reattest(identity).await? {
        Ok(next) => next,
        Err(error) => return Some(Err(Error::Answer(error))),
    };
    if next.agent != identity.agent {
        let why =
            format!("the controller takes this machine for `{}` now; start the agent anew to become that", next.agent);
        return Some(Err(Error::Answer(why)));
    }
    Some(put_in_force(state_dir, next, renewal).await)
}

/// One renewal: a new key, its certificate on disk, then in force.
async fn once(state_dir: &Path, identity: &Identity, renewal: &impl Renewal) -> Result<Identity, Error> {
    let new = key::csr()?;
    let (certificate_pem, ca_pem) = renewal.renew(&new.csr_pem).await.map_err(Error::Answer)?;
    key::check(&certificate_pem, identity.agent, &new.key_pem)?;
    let ca_pem = if ca_pem.is_empty() { identity.ca_pem.clone() } else { ca_pem };
    let next = Identity { key_pem: new.key_pem, certificate_pem, ca_pem, ..identity.clone() };
    put_in_force(state_dir, next, renewal).await
}

async fn put_in_force(state_dir: &Path, next: Identity, renewal: &impl Renewal) -> Result<Identity, Error> {
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

    use super::*;

    /// Signs what it is asked to, with a name of its choice.
    struct Authority {
        agent: AgentId,
        installed: Mutex<Vec<Identity>>,
    }

    fn sign(csr_pem: &str, agent: AgentId) -> String {
        sign_with(csr_pem, agent, |_| ())
    }

    fn sign_with(csr_pem: &str, agent: AgentId, change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(rcgen::CertificateParams::new(vec![]).unwrap(), key);
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let uri = format!("longshore://agent/{agent}");
        request.params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        change(&mut request.params);
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

    fn identity(agent: AgentId, sign: impl FnOnce(&str) -> String) -> Identity {
        let new = key::csr().unwrap();
        Identity {
            agent,
            controller: "c".to_owned(),
            pool: "p".to_owned(),
            certificate_pem: sign(&new.csr_pem),
            key_pem: new.key_pem,
            ca_pem: "ca".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_renewal_has_a_new_key_and_is_on_disk_before_it_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let agent = AgentId::new(Timestamp::from_micros(1), [1; 10]);
        let old = identity(agent, |csr| sign(csr, agent));
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
        let error =
            once(dir.path(), &identity(agent, |csr| sign(csr, agent)), &authority).await.unwrap_err().to_string();
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

    /// A controller that was away for longer than the certificate, and lets the machine in again.
    struct Back {
        agent: AgentId,
        began: tokio::time::Instant,
        proven: Mutex<u32>,
        installed: tokio::sync::watch::Sender<Option<Identity>>,
    }

    impl Renewal for std::sync::Arc<Back> {
        async fn renew(&self, _csr_pem: &str) -> Result<(String, String), String> {
            Err("the certificate has ended".to_owned())
        }
        async fn reattest(&self, former: &Identity) -> Option<Result<Identity, String>> {
            *self.proven.lock().unwrap() += 1;
            if *self.proven.lock().unwrap() < 3 {
                return Some(Err("the metadata service is not there yet".to_owned()));
            }
            let year = Year { agent: self.agent, began: self.began, seen: Mutex::default() };
            let new = key::csr().unwrap();
            let certificate_pem = year.sign(&new.csr_pem);
            Some(Ok(Identity { certificate_pem, key_pem: new.key_pem, ..former.clone() }))
        }
        fn install(&self, identity: &Identity) -> Result<(), String> {
            self.installed.send_replace(Some(identity.clone()));
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_has_ended_is_replaced_by_what_the_machine_is() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, began) = (AgentId::new(Timestamp::from_micros(1), [1; 10]), tokio::time::Instant::now());
        let year = Year { agent, began, seen: Mutex::default() };
        let first = identity(agent, |csr| year.sign(csr));
        let (installed, mut seen) = tokio::sync::watch::channel(None);
        let back = std::sync::Arc::new(Back { agent, began, proven: Mutex::default(), installed });
        let kept = keep_fresh_by(move || clock(began), dir.path(), first.clone(), std::sync::Arc::clone(&back));
        let next = tokio::select! {
            () = kept => panic!("it ended by itself"),
            changed = seen.wait_for(Option::is_some) => changed.unwrap().clone().unwrap(),
        };
        assert_eq!(*back.proven.lock().unwrap(), 3, "tried until it works, and not before the end");
        assert!(first.check(clock(began)).is_err() && next.check(clock(began)).is_ok());
        assert_eq!((next.agent, Identity::load(dir.path()).unwrap()), (agent, next));
    }

    /// Signs for a day, by a clock that follows tokio's, and is away for some hours of each month.
    struct Year {
        agent: AgentId,
        began: tokio::time::Instant,
        seen: Mutex<Seen>,
    }

    #[derive(Default)]
    struct Seen {
        in_force: Option<Identity>,
        renewed: u32,
        refused: u32,
        keys: std::collections::HashSet<String>,
        least_left: Option<Duration>,
    }

    /// 2026-01-01, in seconds.
    const NEW_YEAR: u64 = 1_767_225_600;
    const HOUR: u64 = 3_600;

    fn clock(began: tokio::time::Instant) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(NEW_YEAR) + began.elapsed())
    }

    impl Year {
        fn sign(&self, csr_pem: &str) -> String {
            let from = rcgen::date_time_ymd(2026, 1, 1) + self.began.elapsed();
            sign_with(csr_pem, self.agent, |params| {
                (params.not_before, params.not_after) = (from, from + Duration::from_secs(24 * HOUR));
            })
        }

        /// Fifteen hours of each month: nearly what is left when a renewal is due.
        fn is_away(&self) -> bool {
            let hours = self.began.elapsed().as_secs() / HOUR;
            (hours % (30 * 24)) >= 30 * 24 - 15
        }
    }

    impl Renewal for std::sync::Arc<Year> {
        async fn renew(&self, csr_pem: &str) -> Result<(String, String), String> {
            let mut seen = self.seen.lock().unwrap();
            let left = seen.in_force.as_ref().unwrap().validity().unwrap().until.since(clock(self.began));
            seen.least_left = Some(seen.least_left.map_or(left, |least| least.min(left)));
            if self.is_away() {
                seen.refused += 1;
                return Err("away".to_owned());
            }
            drop(seen);
            Ok((self.sign(csr_pem), String::new()))
        }
        fn install(&self, identity: &Identity) -> Result<(), String> {
            let mut seen = self.seen.lock().unwrap();
            seen.renewed += 1;
            assert!(seen.keys.insert(identity.key_pem.expose().to_owned()), "a key was used again");
            seen.in_force = Some(identity.clone());
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_year_passes_without_an_expired_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, began) = (AgentId::new(Timestamp::from_micros(1), [1; 10]), tokio::time::Instant::now());
        let year = std::sync::Arc::new(Year { agent, began, seen: Mutex::default() });
        let first = identity(agent, |csr| year.sign(csr));
        year.seen.lock().unwrap().in_force = Some(first.clone());
        let now = move || clock(began);
        let kept = keep_fresh_by(now, dir.path(), first, std::sync::Arc::clone(&year));
        let kept = tokio::time::timeout(Duration::from_secs(365 * 24 * HOUR), kept).await;
        assert!(kept.is_err(), "it ended by itself");

        let seen = year.seen.lock().unwrap();
        let left = seen.least_left.unwrap();
        assert!(left > Duration::ZERO, "a certificate expired before it was renewed");
        // Every eight hours, less often in the months' last days; and the outages were felt.
        assert!((1_000..=365 * 3).contains(&seen.renewed), "{}", seen.renewed);
        assert!(seen.refused >= 12 && left < Duration::from_secs(10 * HOUR), "{} {left:?}", seen.refused);
        let on_disk = Identity::load(dir.path()).unwrap();
        assert_eq!(Some(&on_disk), seen.in_force.as_ref());
        assert!(on_disk.check(now()).is_ok());
    }
}
