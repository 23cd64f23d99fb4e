//! Who a verified client certificate names.

use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;
use longshore_proto::AGENT_URI_PREFIX;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::hex;

/// The agent that a certificate of our authority names.
///
/// Made only from the leaf of a chain that the TLS handshake verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The agent.
    pub agent: AgentId,
    /// Serial number of the certificate, lowercase hex.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

impl AgentIdentity {
    /// Reads the identity out of a leaf certificate; `None` unless it has exactly one name, and that is an agent's.
    pub(super) fn from_leaf(leaf: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
        let agent = uri.strip_prefix(AGENT_URI_PREFIX)?.parse().ok()?;
        let not_after = Timestamp::from_micros(parsed.validity().not_after.timestamp().checked_mul(1_000_000)?);
        Some(Self { agent, serial: hex::encode(parsed.raw_serial()), not_after })
    }
}
