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

use super::proxy;
use crate::config::{Address, Proxy};
use crate::identity::Identity;

/// Proxy, TCP and TLS together may take this long.
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

/// Why there is no connection to the controller: whose failure it is stands in the variant.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The controller's name has no address.
    #[error("the controller's name `{host}` cannot be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing takes the connection.
    #[error("no TCP connection to {address}")]
    Tcp {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The proxy on the way.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// TCP came about, TLS did not.
    #[error("no TLS with {address}")]
    Tls {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("no connection to {address} within {} s", CONNECT_TIMEOUT.as_secs())]
    Late {
        /// Where.
        address: Address,
    },
}

/// Dials the controller. Clones share the TLS settings.
#[derive(Debug, Clone)]
pub struct Dialer {
    address: Address,
    proxy: Option<Proxy>,
    tls: Arc<RwLock<Arc<ClientConfig>>>,
}

impl Dialer {
    /// Dials as an enrolled agent.
    ///
    /// # Errors
    /// [`Error`] when the identity's certificate, key or authorities cannot be used.
    pub fn new(address: Address, identity: &Identity) -> Result<Self, Error> {
        Ok(Self { address, proxy: None, tls: Arc::new(RwLock::new(settings(&identity.ca_pem, Some(identity))?)) })
    }

    /// Dials without a certificate of its own, to enroll.
    ///
    /// # Errors
    /// [`Error`] when there is no authority in `ca_pem`.
    pub fn anonymous(address: Address, ca_pem: &str) -> Result<Self, Error> {
        Ok(Self { address, proxy: None, tls: Arc::new(RwLock::new(settings(ca_pem, None)?)) })
    }

    /// The same by way of a proxy, or of none.
    #[must_use]
    pub fn by_way_of(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Where it dials.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The proxy on the way.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
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
        self.connect().await.map_err(io::Error::other)
    }

    /// Opens one connection and says what is in its way.
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let late = |_| DialError::Late { address: self.address.clone() };
        tokio::time::timeout(CONNECT_TIMEOUT, self.try_connect()).await.map_err(late)?
    }

    async fn try_connect(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let config = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let failed = |source| DialError::Tls { address: self.address.clone(), source };
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| failed(io::Error::other(error)))?;
        let tcp = match &self.proxy {
            Some(proxy) => proxy::through(proxy, &self.address).await?,
            None => self.direct().await?,
        };
        tcp.set_nodelay(true).map_err(|source| DialError::Tcp { address: self.address.clone(), source })?;
        TlsConnector::from(config).connect(name, tcp).await.map_err(failed)
    }

    async fn direct(&self) -> Result<TcpStream, DialError> {
        let Address { host, port } = &self.address;
        let unresolved = |source| DialError::Resolve { host: host.clone(), source };
        let found: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(unresolved)?.collect();
        let tcp = TcpStream::connect(found.as_slice()).await;
        tcp.map_err(|source| DialError::Tcp { address: self.address.clone(), source })
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
