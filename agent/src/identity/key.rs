//! Keys, certificate requests and what stands in a certificate.

use std::path::Path;

use longshore_core::id::AgentId;
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Error, Validity};

/// A key that has no certificate yet.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Private key in PEM.
    pub key_pem: Secret,
    /// PKCS #10 request in PEM.
    pub csr_pem: String,
}

/// Makes an ECDSA P-256 key and a certificate request for it. Names are the controller's business, so the request has none.
///
/// # Errors
/// [`Error::Key`].
pub fn csr() -> Result<NewKey, Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(Error::Key)?;
    let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(Error::Key)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(Error::Key)?;
    Ok(NewKey { key_pem: Secret::new(key.serialize_pem()), csr_pem })
}

/// Name of the file with the key that has no certificate yet.
const PENDING: &str = "enrolling.json";

#[derive(serde::Serialize, serde::Deserialize)]
struct Pending {
    key_pem: String,
    csr_pem: String,
}

/// The key to join with: the same until there is a certificate for it, so that an answer that was lost can be asked for again and the machine
/// is not taken for another one.
///
/// # Errors
/// [`Error::Key`] and [`Error::Unwritable`].
pub fn pending(state_dir: &Path) -> Result<NewKey, Error> {
    let path = state_dir.join(PENDING);
    let read = std::fs::read(&path).ok().map(zeroize::Zeroizing::new);
    if let Some(Pending { key_pem, csr_pem }) = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(NewKey { key_pem: Secret::new(key_pem), csr_pem });
    }
    let new = csr()?;
    let pending = Pending { key_pem: new.key_pem.expose().to_owned(), csr_pem: new.csr_pem.clone() };
    serde_json::to_vec(&pending)
        .map_err(std::io::Error::from)
        .map(zeroize::Zeroizing::new)
        .and_then(|bytes| crate::durable::write(&path, &bytes))
        .map_err(|source| Error::Unwritable { path, source })?;
    Ok(new)
}

/// The key has its certificate, and that is on disk.
pub fn settled(state_dir: &Path) {
    match std::fs::remove_file(state_dir.join(PENDING)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the key that was joined with stays on disk for the next time");
        }
        _ => {}
    }
}

fn leaf(certificate_pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|err| Error::Answer(format!("no PEM certificate in it ({err})")))
}

pub(super) fn validity(certificate_pem: &str) -> Result<Validity, Error> {
    validity_of(&leaf(certificate_pem)?)
}

pub(super) fn validity_of(der: &[u8]) -> Result<Validity, Error> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|err| Error::Answer(err.to_string()))?;
    let at = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    let validity = certificate.validity();
    Ok(Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) })
}

/// Says whether a certificate is one of this agent and of this key.
pub(super) fn check(certificate_pem: &str, agent: AgentId, key_pem: &Secret) -> Result<(), Error> {
    use x509_parser::extensions::GeneralName;
    let der = leaf(certificate_pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|err| Error::Answer(err.to_string()))?;
    let key = rcgen::KeyPair::from_pem(key_pem.expose()).map_err(Error::Key)?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(Error::Answer("it is of another key".to_owned()));
    }
    let wanted = format!("{}{agent}", longshore_proto::AGENT_URI_PREFIX);
    let names = certificate.subject_alternative_name().ok().flatten();
    let named = names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(uri) if **uri == wanted))
    });
    if named { Ok(()) } else { Err(Error::Answer(format!("it does not name `{wanted}`"))) }
}
