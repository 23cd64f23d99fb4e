//! TLS of both planes: what is offered, who is let in, and connections as streams.
//!
//! Agents' plane: TLS 1.3 only, client certificates of our authority; a caller without one gets through the handshake
//! (it can enroll and nothing else), one with an expired or foreign one does not. Sessions are not resumed, because a
//! resumed handshake would not look at the certificate again.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use longshore_core::time::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::TcpListenerStream;

use super::{AgentIdentity, Ca, Error};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at the same time; more wait in the listener's backlog.
const MAX_HANDSHAKES: usize = 256;
/// Pause after an accept that failed, so that a full table of descriptors does not make a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// TLS of the agents' plane. `names` are further names and addresses that agents may verify.
///
/// # Errors
/// When a certificate cannot be made, for example because a name is none.
pub fn agent_plane(ca: &Ca, names: &[String], now: Timestamp) -> Result<Arc<ServerConfig>, Error> {
    let tls = |source| Error::Tls { what: "the agents' plane", source };
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).map_err(tls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| tls(rustls::Error::General(e.to_string())))?;
    let own = ca.server_certificate(names, now)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// TLS of the API, from a certificate chain and a private key in PEM.
///
/// # Errors
/// When a file cannot be read or used, or the key is not the certificate's.
pub fn api_from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |path: &Path, what, why: String| Error::Pem { path: path.to_owned(), what, why };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unusable(certificate, "a certificate chain", e.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "a certificate chain", "it holds no certificate".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, "a private key", e.to_string()))?;
    let tls = |source| Error::Tls { what: "the API", source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    agent: Option<AgentIdentity>,
}

impl TlsConnection {
    /// The agent whose certificate was verified; `None` for a caller without one.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentIdentity> {
        self.agent.as_ref()
    }

    /// Where it comes from. For people; nothing is decided by it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepted connections whose handshake went well. It never ends; bad handshakes are logged and passed over.
pub struct Incoming {
    connections: Pin<Box<dyn Stream<Item = TlsConnection> + Send>>,
    address: SocketAddr,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Incoming {
    /// Shakes hands on every connection of a listener. `plane` is named in log lines.
    ///
    /// # Errors
    /// When the listener's own address cannot be read.
    pub fn new(listener: TcpListener, tls: Arc<ServerConfig>, plane: &'static str) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(tls);
        let connections = TcpListenerStream::new(listener)
            .map(move |accepted| shake(accepted, acceptor.clone(), plane))
            .buffer_unordered(MAX_HANDSHAKES)
            .filter_map(ready);
        Ok(Self { connections: Box::pin(connections), address })
    }
}

/// For tonic.
impl Stream for Incoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.as_mut().poll_next(cx).map(|next| next.map(Ok))
    }
}

/// For axum.
impl axum::serve::Listener for Incoming {
    type Io = TlsConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Some(connection) = self.connections.next().await {
                let address = connection.address;
                return (connection, address);
            }
            // The listener's stream has no end; if it had one, there would be nothing more to accept.
            std::future::pending::<()>().await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn shake(accepted: io::Result<TcpStream>, acceptor: TlsAcceptor, plane: &'static str) -> Option<TlsConnection> {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(plane, %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    let address = stream.peer_addr().ok()?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(plane, %address, %error, "no TCP_NODELAY");
    }
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => identify(stream, address, plane),
        Ok(Err(error)) => {
            tracing::warn!(plane, %address, reason = %explain(&error), "connection refused in the TLS handshake");
            None
        }
        Err(_) => {
            tracing::warn!(plane, %address, "connection closed: no TLS handshake within {} s", HANDSHAKE.as_secs());
            None
        }
    }
}

/// A verified certificate must name an agent; anything else our authority may have signed is no client.
fn identify(stream: TlsStream<TcpStream>, address: SocketAddr, plane: &'static str) -> Option<TlsConnection> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let agent = leaf.map(AgentIdentity::from_leaf);
    if agent == Some(None) {
        tracing::warn!(plane, %address, "connection refused: its certificate names no agent");
        return None;
    }
    Some(TlsConnection { stream, address, agent: agent.flatten() })
}

fn explain(error: &io::Error) -> String {
    let source = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match source {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired: enroll the agent again, or set `join` in its configuration where its machine is in a cloud".to_owned(),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not valid yet: compare the clocks of both machines".to_owned(),
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "its certificate is not from this controller's authority".to_owned()
        }
        _ => error.to_string(),
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
