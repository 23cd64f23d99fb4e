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
use tokio_util::either::Either;

use super::door::{Door, Pass};
use super::{AgentIdentity, Ca, Error};

/// Handshakes at the same time, of all addresses; more wait in the listener's backlog.
const MAX_HANDSHAKES: usize = 1_024;
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

/// A connection after its handshake, or one of a port without TLS.
#[derive(Debug)]
pub struct Connection {
    stream: Either<TlsStream<TcpStream>, TcpStream>,
    address: SocketAddr,
    agent: Option<AgentIdentity>,
    /// When it ends whatever it does.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
    _pass: Pass,
}

impl Connection {
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

/// Who has to show a certificate, and in what time.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Nothing is encrypted.
    None,
    /// Callers are known by something else than a certificate.
    Server(Arc<ServerConfig>),
    /// Callers without a certificate are few and stay for a short time.
    Mutual(Arc<ServerConfig>),
}

/// Accepted connections whose handshake went well. It never ends; bad handshakes are logged and passed over.
pub struct Incoming {
    connections: Pin<Box<dyn Stream<Item = Connection> + Send>>,
    address: SocketAddr,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Incoming {
    /// Shakes hands on every connection of a listener that the door lets in.
    ///
    /// # Errors
    /// When the listener's own address cannot be read.
    pub fn new(listener: TcpListener, tls: Tls, door: Door) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let connections = TcpListenerStream::new(listener)
            .map(move |accepted| admit(accepted, tls.clone(), door.clone()))
            .buffer_unordered(MAX_HANDSHAKES)
            .filter_map(ready);
        Ok(Self { connections: Box::pin(connections), address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub async fn accept(&mut self) -> Connection {
        match self.connections.next().await {
            Some(connection) => connection,
            // The listener's stream has no end; if it had one, there would be nothing more to accept.
            None => std::future::pending().await,
        }
    }
}

/// For tonic.
impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.as_mut().poll_next(cx).map(|next| next.map(Ok))
    }
}

async fn admit(accepted: io::Result<TcpStream>, tls: Tls, door: Door) -> Option<Connection> {
    let plane = door.plane();
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(plane, %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    let address = stream.peer_addr().ok()?;
    let pass = door.enter(address.ip())?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(plane, %address, %error, "no TCP_NODELAY");
    }
    match tls {
        Tls::None => plain(stream, address, pass),
        Tls::Server(config) => identify(shake(stream, config, &door, address).await?, address, pass, &door, false),
        Tls::Mutual(config) => identify(shake(stream, config, &door, address).await?, address, pass, &door, true),
    }
}

fn plain(stream: TcpStream, address: SocketAddr, mut pass: Pass) -> Option<Connection> {
    let stays = pass.shaken(false, address.ip());
    stays.then(|| Connection { stream: Either::Right(stream), address, agent: None, end: None, _pass: pass })
}

async fn shake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    door: &Door,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let (plane, within) = (door.plane(), door.limits().handshake);
    match tokio::time::timeout(within, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        // Whoever only looks whether the port is open, or breaks off, says nothing about us.
        Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(plane, %address, %error, "a connection broke off in the TLS handshake");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(plane, %address, reason = %explain(&error), "connection refused in the TLS handshake");
            None
        }
        Err(_) => {
            tracing::warn!(plane, %address, "connection closed: no TLS handshake within {} s", within.as_secs());
            None
        }
    }
}

/// A verified certificate must name an agent; anything else our authority may have signed is no client.
fn identify(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    mut pass: Pass,
    door: &Door,
    mutual: bool,
) -> Option<Connection> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let agent = leaf.map(AgentIdentity::from_leaf);
    if agent == Some(None) {
        tracing::warn!(plane = door.plane(), %address, "connection refused: its certificate names no agent");
        return None;
    }
    let agent = agent.flatten();
    let stranger = mutual && agent.is_none();
    if !pass.shaken(stranger, address.ip()) {
        return None;
    }
    let end = stranger.then(|| Box::pin(tokio::time::sleep(door.limits().stranger)));
    Some(Connection { stream: Either::Left(stream), address, agent, end, _pass: pass })
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

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "its time without a certificate is over")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
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
