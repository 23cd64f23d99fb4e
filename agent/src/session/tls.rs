//! Mutual TLS to the controller: verified against the enrolled authorities and one fixed server name.
//!
//! The settings are looked at anew by each connection, so a renewed certificate is in use from the next one on without
//! a restart, and the address that is dialled need not stand in the controller's certificate.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use longshore_proto::SERVER_NAME;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Address;
use crate::identity::Identity;

/// TCP and TLS together may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no TLS settings can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PEM, or none of what it should hold.
    #[error("no usable {what} in the PEM text")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Option<rustls_pki_types::pem::Error>,
    },
    /// The library refuses certificate or key.
    #[error("certificate and key cannot be used")]
    Tls(#[from] rustls::Error),
}

/// Dials the controller. Clones share the TLS settings.
#[derive(Debug, Clone)]
pub struct Dialer {
    address: Address,
    tls: Arc<RwLock<Arc<ClientConfig>>>,
}

impl Dialer {
    /// Dials as an enrolled agent.
    ///
    /// # Errors
    /// [`Error`] when the identity's certificate, key or authorities cannot be used.
    pub fn new(address: Address, identity: &Identity) -> Result<Self, Error> {
        Ok(Self { address, tls: Arc::new(RwLock::new(settings(&identity.ca_pem, Some(identity))?)) })
    }

    /// Dials without a certificate of its own, to enroll.
    ///
    /// # Errors
    /// [`Error`] when there is no authority in `ca_pem`.
    pub fn anonymous(address: Address, ca_pem: &str) -> Result<Self, Error> {
        Ok(Self { address, tls: Arc::new(RwLock::new(settings(ca_pem, None)?)) })
    }

    /// Uses another identity from the next connection on.
    ///
    /// # Errors
    /// As [`Dialer::new`]; the identity before stays in use then.
    pub fn install(&self, identity: &Identity) -> Result<(), Error> {
        let next = settings(&identity.ca_pem, Some(identity))?;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Opens one connection.
    pub(super) async fn dial(self) -> io::Result<TlsStream<TcpStream>> {
        let config = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let connect = async {
            let tcp = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, tcp).await
        };
        let late = |_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection to {} within {} s", self.address, CONNECT_TIMEOUT.as_secs()),
            )
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late)?
    }
}

fn settings(ca_pem: &str, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, Error> {
    let pem = |what: &'static str| move |source| Error::Pem { what, source: Some(source) };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(authority.map_err(pem("authority"))?)?;
    }
    if roots.is_empty() {
        return Err(Error::Pem { what: "authority", source: None });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(pem("certificate"))?;
            let key =
                PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes()).map_err(pem("private key"))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
