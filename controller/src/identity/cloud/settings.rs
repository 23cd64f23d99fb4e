//! What proofs are verified against.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Google's public keys.
const JWKS: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// Who issues identity tokens of instances.
const ISSUER: &str = "https://accounts.google.com";
/// In whose name Azure signs.
const AZURE: &str = "metadata.azure.com";
/// How long a document that stands alone counts.
const DOCUMENT_AGE: Duration = Duration::from_secs(15 * 60);

/// All clouds.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// AWS.
    pub aws: Aws,
    /// Google.
    pub gcp: Gcp,
    /// Azure.
    pub azure: Azure,
}

/// AWS.
#[derive(Debug, Clone)]
pub struct Aws {
    /// For each region the RSA keys (DER) that sign its documents.
    pub keys: BTreeMap<String, Vec<Vec<u8>>>,
    /// Where STS is asked, instead of its own address.
    pub sts_endpoint: Option<String>,
    /// Where EC2 is asked about instances, instead of its own address.
    pub ec2_endpoint: Option<longshore_cloud::Endpoint>,
    /// Where the controller's own credentials come from when the environment has none, instead of its instance's metadata service.
    pub metadata_endpoint: Option<longshore_cloud::Endpoint>,
    /// How long a document that stands alone counts after the start of its instance.
    pub document_age: Duration,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            sts_endpoint: None,
            ec2_endpoint: None,
            metadata_endpoint: None,
            document_age: DOCUMENT_AGE,
        }
    }
}

/// Google.
#[derive(Debug, Clone)]
pub struct Gcp {
    /// Where its keys are.
    pub jwks_url: String,
    /// Who issues its tokens.
    pub issuer: String,
}

impl Default for Gcp {
    fn default() -> Self {
        Self { jwks_url: JWKS.to_owned(), issuer: ISSUER.to_owned() }
    }
}

/// Azure.
#[derive(Debug, Clone)]
pub struct Azure {
    /// Certificates that are trusted.
    pub roots: Vec<CertificateDer<'static>>,
    /// Certificates between them and those that sign.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The name that has to stand in a certificate that signs, or one below it.
    pub name: String,
}

impl Default for Azure {
    fn default() -> Self {
        Self { roots: Vec::new(), intermediates: Vec::new(), name: AZURE.to_owned() }
    }
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be used: {why}", path.display())]
pub struct Error {
    path: PathBuf,
    why: String,
}

fn unusable(path: &Path, why: impl Into<String>) -> Error {
    Error { path: path.to_owned(), why: why.into() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| unusable(path, error.to_string()))?;
    if read.is_empty() { Err(unusable(path, "it holds no certificate")) } else { Ok(read) }
}

impl Aws {
    /// Takes the certificates of a region from a PEM file.
    ///
    /// # Errors
    /// When it holds none, or one of another kind than RSA of 2048 bits or more.
    pub fn add_region(&mut self, region: &str, path: &Path) -> Result<(), Error> {
        for certificate in certificates(path)? {
            let (_, parsed) =
                x509_parser::parse_x509_certificate(&certificate).map_err(|error| unusable(path, error.to_string()))?;
            let key = parsed.public_key();
            let bits = match key.parsed() {
                Ok(x509_parser::public_key::PublicKey::RSA(rsa)) => rsa.key_size(),
                _ => 0,
            };
            if bits < 2_048 {
                return Err(unusable(
                    path,
                    "its key is not RSA with 2048 bits: take the RSA-2048 certificate of the region",
                ));
            }
            self.keys.entry(region.to_owned()).or_default().push(key.subject_public_key.data.to_vec());
        }
        Ok(())
    }
}

impl Azure {
    /// Takes roots (those that signed themselves) and intermediate certificates from a PEM file.
    ///
    /// # Errors
    /// When it holds none.
    pub fn add(&mut self, path: &Path) -> Result<(), Error> {
        for certificate in certificates(path)? {
            let (_, parsed) =
                x509_parser::parse_x509_certificate(&certificate).map_err(|error| unusable(path, error.to_string()))?;
            let itself = parsed.issuer().as_raw() == parsed.subject().as_raw();
            if itself { self.roots.push(certificate) } else { self.intermediates.push(certificate) }
        }
        Ok(())
    }
}
