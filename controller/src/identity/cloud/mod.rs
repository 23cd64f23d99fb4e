//! Verifies what a machine of a cloud brings to prove what it is: the controller's side of joining without a token.
//!
//! Invariants: nothing is believed that a signature or the cloud itself does not vouch for; the keys that count are those of
//! the configuration; a proof is bound to a nonce of ours that counts once and for a minute, and to one signing request,
//! as far as the cloud has a place for them (an instance identity document of AWS has none: see [`Attested::alone_since`]).
//! What is called over the network is one of two fixed services, never an address that an agent named.

mod aws;
mod azure;
mod cms;
mod ec2;
mod gcp;
mod jwks;
mod nonce;
mod settings;
mod sts;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_core::id::ControllerId;
use longshore_core::join::{Machine, binding};
use longshore_core::time::Timestamp;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use jwks::Jwks;
use nonce::Nonces;

pub use nonce::LIFETIME as NONCE_LIFETIME;
pub use settings::{Aws, Azure, Error as SettingsError, Gcp, Settings};

/// How long a service of a cloud may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Calls to a cloud at the same time.
const CALLS: usize = 8;
/// Refusals that are written down in a minute.
const REFUSALS: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const MAX_ANSWER: usize = 256 << 10;
/// Longest document, signature or token that is looked at.
const MAX_PROOF: usize = 64 << 10;

/// What a machine brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Of AWS: one of the two, or both.
    Aws {
        /// The instance identity document with its RSA-2048 signature, base64 of PKCS #7 as the metadata service gives it.
        document: Option<String>,
        /// A request for the caller's identity that the instance profile's role signed.
        request: Option<SignedRequest>,
    },
    /// Of Google: an identity token.
    Gcp {
        /// The token.
        token: String,
    },
    /// Of Azure: the attested document, base64 of PKCS #7.
    Azure {
        /// The document.
        document: String,
    },
}

impl Proof {
    /// The cloud, as it is typed.
    #[must_use]
    pub const fn cloud(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure { .. } => "azure",
        }
    }
}

/// A signed HTTP request as it would go to AWS STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The whole address.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The form.
    pub body: String,
}

/// What is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The machine.
    pub machine: Machine,
    /// Set where nothing ties the proof to this very try: when the instance was started. Anyone who ever read the document could bring it, so
    /// it counts for a short time only.
    pub alone_since: Option<Timestamp>,
}

/// What a cloud says of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is no more, and cannot be started again.
    Terminated,
    /// It is there in whatever state, maybe about to go.
    There,
    /// It does not know it, which proves nothing.
    NotKnown,
}

/// Why a proof is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The nonce.
    #[error("the nonce {0}; ask for a new one and try again")]
    Nonce(&'static str),
    /// A signed document.
    #[error("the document is refused: {0}")]
    Document(String),
    /// A signed request.
    #[error("the signed request is refused: {0}")]
    Request(String),
    /// A token.
    #[error("the identity token is refused: {0}")]
    Token(String),
    /// What is needed to look at it is not configured.
    #[error("this controller cannot verify it: {0}")]
    NotConfigured(String),
    /// The cloud's service does not answer. Nothing is known about the proof.
    #[error("it could not be verified, nothing was changed, try again: {0}")]
    Unreachable(String),
}

impl Refused {
    /// What is wrong in one word, for the audit.
    #[must_use]
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::Nonce(_) => "nonce",
            Self::Document(_) => "document",
            Self::Request(_) => "request",
            Self::Token(_) => "token",
            Self::NotConfigured(_) => "configuration",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

type Result<T> = std::result::Result<T, Refused>;

/// Verifies proofs.
#[derive(Debug)]
pub struct Verifier {
    settings: Settings,
    clock: Clock,
    nonces: Nonces,
    client: reqwest::Client,
    jwks: Jwks,
    calls: Semaphore,
    /// When the minute began, and how many refusals were written in it.
    refusals: Mutex<(Duration, u32)>,
}

impl Verifier {
    /// Makes one.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(settings: Settings, clock: Clock) -> std::result::Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER)
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (nonces, jwks) = (Nonces::new(clock.clone()), Jwks::default());
        Ok(Self { settings, clock, nonces, client, jwks, calls: Semaphore::new(CALLS), refusals: Mutex::default() })
    }

    /// A nonce for one proof.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.nonces.make()
    }

    /// How long a document that stands alone counts after the start of its instance.
    #[must_use]
    pub fn document_age(&self) -> Duration {
        self.settings.aws.document_age
    }

    /// Whether one more refusal may be written down: anyone can be refused, and nobody may fill the disk by it.
    #[must_use]
    pub fn may_be_written(&self) -> bool {
        let now = self.clock.elapsed();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(refusals.0) >= MINUTE {
            *refusals = (now, 0);
        }
        refusals.1 = refusals.1.saturating_add(1);
        refusals.1 <= REFUSALS
    }

    /// Looks at a proof. The nonce is used up as soon as the rest of it could be right.
    ///
    /// # Errors
    /// [`Refused`]: the first thing that is wrong.
    pub async fn verify(
        &self,
        proof: &Proof,
        nonce: &str,
        csr_pem: &str,
        controller: ControllerId,
    ) -> Result<Attested> {
        let nonce = self.nonces.read(nonce)?;
        let bound = binding(nonce.text(), csr_pem);
        match proof {
            Proof::Aws { document, request } => self.aws(document.as_deref(), request.as_ref(), nonce, &bound).await,
            Proof::Gcp { token } => self.gcp(token, nonce, &bound, controller).await,
            Proof::Azure { document } => {
                let machine = azure::read(document, &self.settings.azure, &bound, self.clock.now())?;
                self.nonces.take(nonce)?;
                Ok(Attested { machine, alone_since: None })
            }
        }
    }

    async fn aws(
        &self,
        document: Option<&str>,
        request: Option<&SignedRequest>,
        nonce: nonce::Nonce<'_>,
        bound: &str,
    ) -> Result<Attested> {
        let document = document.map(|document| aws::read(document, &self.settings.aws)).transpose()?;
        let now = self.clock.now();
        let call = request.map(|request| sts::check(request, bound, now)).transpose()?;
        self.nonces.take(nonce)?;
        let Some(call) = call else {
            let document = document.ok_or_else(|| {
                Refused::Document("there is neither an instance identity document nor a signed request".to_owned())
            })?;
            return Ok(Attested { alone_since: Some(document.pending), machine: document.machine(None) });
        };
        let turn = self.calls.acquire().await;
        let caller = sts::ask(&self.client, &call, self.settings.aws.sts_endpoint.as_deref()).await?;
        drop(turn);
        match document {
            Some(document) => {
                caller.is_of(&document)?;
                Ok(Attested { machine: document.machine(Some(caller.role)), alone_since: None })
            }
            None => {
                let sts::Caller { partition, account, role, instance } = caller;
                if partition != sts::USUAL {
                    let why = format!("in partition `{partition}` the instance identity document is needed too");
                    return Err(Refused::Request(why));
                }
                let machine = Machine::Aws { account, region: None, role: Some(role), vpc: None, instance };
                Ok(Attested { machine, alone_since: None })
            }
        }
    }

    /// Asks EC2 which network an instance of AWS is in, and writes it down.
    ///
    /// # Errors
    /// [`Refused::Unreachable`]: nothing is known then.
    pub async fn find_network(&self, machine: &mut Machine) -> Result<()> {
        let Machine::Aws { region: Some(region), instance, vpc, .. } = machine else { return Ok(()) };
        let _turn = self.calls.acquire().await;
        *vpc = ec2::vpc_of(&self.settings.aws, region, instance, self.clock.now()).await?;
        Ok(())
    }

    /// Whether the configuration says that the controller may ask EC2, whatever join rules say.
    #[must_use]
    pub fn may_ask_ec2(&self) -> bool {
        self.settings.aws.metadata_endpoint.is_some() || crate::scaler::aws_environment().is_some()
    }

    /// Regions whose documents can be verified.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        self.settings.aws.keys.keys().cloned().collect()
    }

    /// Asks EC2 of a region what became of an instance of an account.
    ///
    /// # Errors
    /// Why it did not say.
    pub async fn fate(
        &self,
        region: &str,
        account: &str,
        instance: &str,
    ) -> std::result::Result<Fate, longshore_cloud::Error> {
        let _turn = self.calls.acquire().await;
        ec2::fate_of(&self.settings.aws, (region, account, instance), self.clock.now()).await
    }

    async fn gcp(
        &self,
        token: &str,
        nonce: nonce::Nonce<'_>,
        bound: &str,
        controller: ControllerId,
    ) -> Result<Attested> {
        let settings = &self.settings.gcp;
        let key = gcp::key_of(token)?;
        let key = self.jwks.key(&self.client, &settings.jwks_url, &key, self.clock.elapsed()).await?;
        let audience = longshore_core::join::audience(&controller.to_string(), bound);
        let machine = gcp::read(token, &key, &settings.issuer, &audience, self.clock.now())?;
        self.nonces.take(nonce)?;
        Ok(Attested { machine, alone_since: None })
    }
}

/// The bytes of an answer, as far as there are not too many.
async fn body(mut response: reqwest::Response) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MAX_ANSWER {
            return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
        }
    }
    Ok(bytes)
}

/// Base64 with line breaks, as metadata services give it.
fn base64(text: &str) -> Result<Vec<u8>> {
    use ::base64::Engine as _;
    let wrong = |why: &str| Refused::Document(why.to_owned());
    if text.len() > MAX_PROOF {
        return Err(wrong("it is too long for one"));
    }
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    ::base64::engine::general_purpose::STANDARD.decode(packed).map_err(|_| wrong("it is not base64"))
}
