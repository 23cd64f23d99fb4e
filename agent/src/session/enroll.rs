//! Trading a join token for a certificate.

use longshore_core::secret::Secret;
use longshore_proto::v1;

use super::call::Error;
use super::dial;
use super::tls::Dialer;

/// What an agent that wants in says of itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The join token as it was shown once.
    pub token: Secret,
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
    /// Pool that the token named.
    pub pool: String,
}

/// Asks once. The token is used up when the controller answers.
///
/// # Errors
/// [`Error`]; nothing was enrolled as far as this side knows.
pub async fn enroll(dialer: &Dialer, introduction: &Introduction) -> Result<Enrolled, Error> {
    let mut plane = dial::now(dialer).await.map_err(|err| Error::unreached(&err))?;
    let request = v1::EnrollRequest {
        join_token: introduction.token.expose().to_owned(),
        csr_pem: introduction.csr_pem.clone(),
        hostname: introduction.name.clone(),
        boot_id: introduction.boot_id.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer = plane.enroll(request).await.map_err(|status| Error::from_status(&status))?.into_inner();
    Ok(Enrolled {
        agent: answer.agent_id,
        certificate_pem: answer.certificate_pem,
        ca_pem: answer.ca_pem,
        controller: answer.controller_id,
        pool: answer.pool,
    })
}
