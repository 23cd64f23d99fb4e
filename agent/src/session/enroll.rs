//! Trading a join token, or a proof of what the machine is, for a certificate.

use longshore_core::secret::Secret;
use longshore_proto::v1;

use super::call::Error;
use super::dial;
use super::tls::Dialer;
use crate::attest::Proof;

/// What lets an agent in.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The join token as it was shown once.
    Token(Secret),
    /// What the machine is.
    Machine {
        /// The proof.
        proof: Proof,
        /// The nonce that it is bound to.
        nonce: String,
        /// The certificate that the agent had, and a signature by its key.
        previous: Option<(String, Vec<u8>)>,
    },
}

/// What an agent that wants in says of itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// What lets it in.
    pub credential: Credential,
    /// PKCS #10 request in PEM.
    pub csr_pem: String,
    /// Host name or configured name, for people.
    pub name: String,
    /// Boot id of the host.
    pub boot_id: String,
}

/// What the controller answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Agent id as text, not checked yet.
    pub agent: String,
    /// Certificate chain in PEM.
    pub certificate_pem: String,
    /// Authorities to trust, in PEM.
    pub ca_pem: String,
    /// The controller's id.
    pub controller: String,
    /// Pool that the token or the rule named.
    pub pool: String,
}

/// What a proof has to be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Counts once, for a minute.
    pub nonce: String,
    /// The controller's id.
    pub controller: String,
}

/// Asks for a nonce.
///
/// # Errors
/// [`Error`].
pub async fn challenge(dialer: &Dialer) -> Result<Challenge, Error> {
    let mut plane = dial::now(dialer).await.map_err(|err| Error::unreached(&err))?;
    let answer = plane.challenge(v1::ChallengeRequest {}).await;
    let answer = answer.map_err(|status| match status.code() {
        tonic::Code::Unimplemented => {
            Error::Refused("it is too old to let machines in by proof; upgrade it, or use a join token".to_owned())
        }
        _ => Error::from_status(&status),
    })?;
    let v1::ChallengeResponse { nonce, controller_id, .. } = answer.into_inner();
    Ok(Challenge { nonce, controller: controller_id })
}

/// Asks once. A token is used up when the controller answers.
///
/// # Errors
/// [`Error`]; nothing was enrolled as far as this side knows.
pub async fn enroll(dialer: &Dialer, introduction: &Introduction) -> Result<Enrolled, Error> {
    let mut plane = dial::now(dialer).await.map_err(|err| Error::unreached(&err))?;
    let mut request = v1::EnrollRequest {
        csr_pem: introduction.csr_pem.clone(),
        hostname: introduction.name.clone(),
        boot_id: introduction.boot_id.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..v1::EnrollRequest::default()
    };
    match &introduction.credential {
        Credential::Token(token) => request.join_token = token.expose().to_owned(),
        Credential::Machine { proof, nonce, previous } => {
            request.proof = Some(v1::CloudProof { proof: Some(wire(proof)) });
            request.nonce = nonce.clone();
            if let Some((certificate, signature)) = previous {
                request.previous_certificate_pem = certificate.clone();
                request.previous_signature = signature.clone();
            }
        }
    }
    let answer = plane.enroll(request).await.map_err(|status| Error::from_status(&status))?.into_inner();
    Ok(Enrolled {
        agent: answer.agent_id,
        certificate_pem: answer.certificate_pem,
        ca_pem: answer.ca_pem,
        controller: answer.controller_id,
        pool: answer.pool,
    })
}

fn wire(proof: &Proof) -> v1::cloud_proof::Proof {
    match proof {
        Proof::Aws { document, request } => {
            let request = request.as_ref().map(|request| v1::SignedRequest {
                url: request.url.clone(),
                headers: request
                    .headers
                    .iter()
                    .map(|(name, value)| v1::Header { name: name.clone(), value: value.clone() })
                    .collect(),
                body: request.body.clone(),
            });
            v1::cloud_proof::Proof::Aws(v1::AwsProof { document: document.clone(), request })
        }
        Proof::Gcp(token) => v1::cloud_proof::Proof::Gcp(v1::GcpProof { token: token.expose().to_owned() }),
        Proof::Azure(document) => v1::cloud_proof::Proof::Azure(v1::AzureProof { document: document.clone() }),
    }
}
