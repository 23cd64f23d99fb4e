//! The certificate authority of one controller installation.
//!
//! Its key and certificate are made at the first start (`ca.key`, `ca.pem`). It signs short-lived client certificates
//! for agents and, at each start, a server certificate for the agents' plane whose key never touches a disk.

use std::time::Duration;

use aws_lc_rs::digest;
use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;
use longshore_proto::{AGENT_URI_PREFIX, SERVER_NAME};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use super::Error;
use crate::data_dir::DataDir;
use crate::hex;

/// Validity of the authority itself, and of what only lives in memory.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How far a certificate's start lies in the past, for agents whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Longest signing request that is looked at.
const MAX_CSR: usize = 16 << 10;
const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";

/// The authority with its key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    agent_validity: Duration,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("agent_validity", &self.agent_validity).finish_non_exhaustive()
    }
}

/// A client certificate that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCertificate {
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// Its serial number, 32 hex digits.
    pub serial: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A server certificate with its key, in memory only.
pub(super) struct ServerCertificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Ca {
    /// Reads the authority from the data directory, or makes it at the first start. Agents' certificates will be
    /// valid for `agent_validity`.
    ///
    /// # Errors
    /// When one of its files is missing, damaged, or does not belong to the other.
    pub fn load_or_create(dir: &DataDir, agent_validity: Duration, now: Timestamp) -> Result<Self, Error> {
        let key = dir.read(KEY_FILE)?.map(Zeroizing::new);
        let certificate = dir.read(CERTIFICATE_FILE)?;
        match (key, certificate) {
            (Some(key), Some(certificate)) => Self::load(&key, &certificate, agent_validity),
            (Some(_), None) => Err(Error::Authority { file: CERTIFICATE_FILE, why: "it is missing".to_owned() }),
            (None, Some(_)) => Err(Error::Authority { file: KEY_FILE, why: "it is missing".to_owned() }),
            (None, None) => {
                let (key, pem) = create(now)?;
                // The key goes first: a crash between the two is told apart and nothing was signed yet.
                dir.write(KEY_FILE, key.as_bytes())?;
                dir.write(CERTIFICATE_FILE, pem.as_bytes())?;
                Self::load(key.as_bytes(), pem.as_bytes(), agent_validity)
            }
        }
    }

    fn load(key: &[u8], certificate: &[u8], agent_validity: Duration) -> Result<Self, Error> {
        let unusable = |file, why: String| Error::Authority { file, why };
        let text = |file, bytes| std::str::from_utf8(bytes).map_err(|_| unusable(file, "it is not text".to_owned()));
        let key = KeyPair::from_pem(text(KEY_FILE, key)?).map_err(|e| unusable(KEY_FILE, e.to_string()))?;
        let pem = text(CERTIFICATE_FILE, certificate)?.to_owned();
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(CERTIFICATE_FILE, e.to_string()))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|e| unusable(CERTIFICATE_FILE, e.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(unusable(KEY_FILE, format!("it is not the key of `{CERTIFICATE_FILE}`")));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| unusable(CERTIFICATE_FILE, e.to_string()))?;
        Ok(Self { issuer, certificate: certificate.clone(), pem, agent_validity })
    }

    /// The authority's certificate in PEM: what agents have to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// How long agents' certificates are valid.
    #[must_use]
    pub fn agent_validity(&self) -> Duration {
        self.agent_validity
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a client certificate for an agent. From the request only the public key is taken; that its sender has the
    /// private key is checked by the request's signature.
    ///
    /// # Errors
    /// [`Error::Csr`] when it is no valid request or its key is of a kind that is not accepted (ECDSA P-256, P-384,
    /// Ed25519 are).
    pub fn sign_agent(&self, csr_pem: &str, agent: AgentId, now: Timestamp) -> Result<AgentCertificate, Error> {
        if csr_pem.len() > MAX_CSR {
            return Err(Error::Csr(format!("it is longer than {MAX_CSR} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| Error::Csr(e.to_string()))?;
        let key = request.public_key;
        check_key(&key)?;
        let mut params = validity(now, self.agent_validity);
        let not_after = now.after(self.agent_validity);
        let serial = serial(&key.subject_public_key_info(), agent, now);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name.push(DnType::CommonName, agent.to_string());
        let uri = format!("{AGENT_URI_PREFIX}{agent}");
        let make = |source| Error::Make { what: "the agent's certificate", source };
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(make)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(AgentCertificate { certificate_pem: signed.pem(), serial: hex::encode(&serial), not_after })
    }

    /// The agent that a certificate of ours names, if the owner of its key has signed `text`. The certificate may have ended.
    #[must_use]
    pub fn agent_of_key(&self, certificate_pem: &str, text: &str, signature: &[u8]) -> Option<AgentId> {
        use webpki::aws_lc_rs::{ECDSA_P256_SHA256, ECDSA_P384_SHA384, ED25519};
        let der = CertificateDer::from_pem_slice(certificate_pem.get(..MAX_CSR).unwrap_or(certificate_pem).as_bytes())
            .ok()?;
        let identity = super::AgentIdentity::from_leaf(&der)?;
        let leaf = webpki::EndEntityCert::try_from(&der).ok()?;
        let anchor = webpki::anchor_from_trusted_cert(&self.certificate).ok()?;
        // As it was in its last second.
        let seconds = u64::try_from(identity.not_after.as_micros() / 1_000_000).ok()?.checked_sub(1)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = webpki::KeyUsage::client_auth();
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], at, usage, None, None).ok()?;
        let by = |algorithm| leaf.verify_signature(algorithm, text.as_bytes(), signature).is_ok();
        let signed = by(ECDSA_P256_SHA256) || by(ECDSA_P384_SHA384) || by(ED25519);
        signed.then_some(identity.agent)
    }

    /// Makes the server certificate of the agents' plane: the fixed name, `localhost`, and `names` (host names or addresses).
    pub(super) fn server_certificate(&self, names: &[String], now: Timestamp) -> Result<ServerCertificate, Error> {
        let make = |source| Error::Make { what: "the server certificate", source };
        let key = KeyPair::generate().map_err(make)?;
        let mut all = vec![SERVER_NAME.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        all.extend(names.iter().filter(|name| !name.is_empty()).cloned());
        let mut params = validity(now, CA_VALIDITY);
        params.subject_alt_names = CertificateParams::new(all).map_err(make)?.subject_alt_names;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(make)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(ServerCertificate { chain: vec![signed.der().clone()], key: key.into() })
    }
}

fn create(now: Timestamp) -> Result<(Zeroizing<String>, String), Error> {
    let make = |source| Error::Make { what: "the certificate authority", source };
    let key = KeyPair::generate().map_err(make)?;
    let mut params = validity(now, CA_VALIDITY);
    params.distinguished_name.push(DnType::CommonName, "Longshore controller CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok((Zeroizing::new(key.serialize_pem()), certificate.pem()))
}

/// Parameters without names, valid from a little before `now`.
fn validity(now: Timestamp, length: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // X.509 counts whole seconds.
    let since_epoch = Duration::from_secs(now.since(Timestamp::from_micros(0)).as_secs());
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATE);
    params.not_after = epoch + since_epoch + length;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

/// The key's kind, and that its length is the one of that kind: the request's signature algorithm does not say the curve.
fn check_key(key: &rcgen::PublicKey) -> Result<(), Error> {
    let length = key.der_bytes().len();
    let good = [(&rcgen::PKCS_ECDSA_P256_SHA256, 65), (&rcgen::PKCS_ECDSA_P384_SHA384, 97), (&rcgen::PKCS_ED25519, 32)];
    if good.iter().any(|(algorithm, want)| key.algorithm() == *algorithm && length == *want) {
        return Ok(());
    }
    Err(Error::Csr("its key is not ECDSA P-256, ECDSA P-384 or Ed25519".to_owned()))
}

/// A serial number that no other certificate has: from the key, the agent and the time.
fn serial(key: &[u8], agent: AgentId, now: Timestamp) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(key);
    context.update(agent.to_string().as_bytes());
    context.update(&now.as_micros().to_be_bytes());
    let digest = context.finish();
    let mut serial = [0; 16];
    serial.copy_from_slice(&digest.as_ref()[..16]);
    // Positive and of full length in DER (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::AgentIdentity;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000)
    }

    fn agent() -> AgentId {
        AgentId::new(now(), [5; 10])
    }

    fn ca() -> (tempfile::TempDir, DataDir, Ca) {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let ca = Ca::load_or_create(&dir, DAY, now()).unwrap();
        (root, dir, ca)
    }

    fn other() -> (tempfile::TempDir, DataDir, Ca) {
        ca()
    }

    fn csr(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        CertificateParams::new(names).unwrap().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn is_the_same_after_a_restart() {
        let (_root, dir, ca) = ca();
        assert_eq!(Ca::load_or_create(&dir, DAY, now()).unwrap().ca_pem(), ca.ca_pem());
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let (root, dir, _) = ca();
        let (_other, other_dir, _other_ca) = other();
        dir.write(KEY_FILE, &other_dir.read(KEY_FILE).unwrap().unwrap()).unwrap();
        let error = Ca::load_or_create(&dir, DAY, now()).unwrap_err().to_string();
        assert!(error.contains("not the key of `ca.pem`"), "{error}");
        std::fs::remove_file(root.path().join(KEY_FILE)).unwrap();
        let error = Ca::load_or_create(&dir, DAY, now()).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("restore"), "{error}");
    }

    #[test]
    fn an_agent_gets_its_own_name_and_nothing_it_asked_for() {
        let (_root, _dir, ca) = ca();
        let signed = ca.sign_agent(&csr(&["longshore-controller", "admin"]), agent(), now()).unwrap();
        assert_eq!(signed.not_after, now().after(DAY));
        let der = CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap();
        let identity = AgentIdentity::from_leaf(&der).unwrap();
        assert_eq!(
            (identity.agent, identity.serial.as_str(), identity.not_after),
            (agent(), signed.serial.as_str(), signed.not_after)
        );
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        let again = ca.sign_agent(&csr(&[]), agent(), now()).unwrap();
        assert_ne!(again.serial, signed.serial);
    }

    #[test]
    fn a_former_key_is_known_after_its_certificate_has_ended() {
        use rcgen::SigningKey as _;
        let (_root, _dir, ca) = ca();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let signed = ca.sign_agent(&request, agent(), now()).unwrap();
        let signature = key.sign(b"text").unwrap();
        let pem = &signed.certificate_pem;
        assert_eq!(ca.agent_of_key(pem, "text", &signature), Some(agent()));
        assert_eq!(ca.agent_of_key(pem, "other text", &signature), None);
        assert_eq!(ca.agent_of_key(pem, "text", &KeyPair::generate().unwrap().sign(b"text").unwrap()), None);
        assert_eq!(ca.agent_of_key("", "text", &signature), None);
        assert_eq!(ca.agent_of_key(ca.ca_pem(), "text", &signature), None);
        // The same name, of another authority.
        let (_other, _other_dir, other) = other();
        let foreign = other.sign_agent(&request, agent(), now()).unwrap();
        assert_eq!(ca.agent_of_key(&foreign.certificate_pem, "text", &signature), None);
    }

    #[test]
    fn bad_requests_are_refused() {
        let (_root, _dir, ca) = ca();
        let good = csr(&[]);
        // A changed byte in the middle of the body: the proof of possession no longer holds.
        let mut changed: Vec<String> = good.lines().map(str::to_owned).collect();
        let flipped = if changed[2].starts_with('A') { "B" } else { "A" };
        changed[2].replace_range(0..1, flipped);
        for bad in [String::new(), "rubbish".to_owned(), changed.join("\n"), "x".repeat(MAX_CSR + 1)] {
            assert!(matches!(ca.sign_agent(&bad, agent(), now()), Err(Error::Csr(_))), "{bad}");
        }
        let wide = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let wide = CertificateParams::default().serialize_request(&wide).unwrap().pem().unwrap();
        assert!(
            matches!(ca.sign_agent(&wide, agent(), now()), Err(Error::Csr(_))),
            "a kind of key that is not accepted"
        );
    }
}
