//! HTTP/2 by hand: frames that no library would send.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::agent::Identity;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

/// What is sent.
pub(crate) struct Sender(WriteHalf<TlsStream<TcpStream>>);

/// What comes.
pub(crate) struct Receiver(ReadHalf<TlsStream<TcpStream>>);

/// How a client of the plane speaks TLS.
pub(crate) fn tls(ca_pem: &str, identity: Option<&Identity>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Connects and says the preface with these settings.
pub(crate) async fn open(
    address: SocketAddr,
    ca_pem: &str,
    identity: Option<&Identity>,
    settings: &[(u16, u32)],
) -> (Sender, Receiver) {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(ca_pem, identity)));
    let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
    let stream = connector.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap();
    let (read, write) = tokio::io::split(stream);
    let mut sender = Sender(write);
    let body: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &body)].concat();
    assert!(sender.send(&begin).await);
    (sender, Receiver(read))
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// The headers of a call, in HPACK without a table.
pub(crate) fn headers(rpc: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/longshore.agent.v1.AgentPlane/{rpc}");
    // :method POST, :scheme https, then :path and content-type as literals under names of the static table.
    let mut block = vec![0x83, 0x87, 0x04];
    text(&mut block, &path);
    block.extend([0x0f, 0x10]);
    text(&mut block, "application/grpc");
    for (name, value) in [("te", "trailers")].iter().chain(more) {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => block.push(length),
        _ => {
            // A prefix that is full, then the rest in groups of seven bits.
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend(text.as_bytes());
}

/// A message as gRPC frames it, with a length that need not be its own.
pub(crate) fn message(said: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0], &said.to_be_bytes()[..], bytes].concat()
}

impl Sender {
    /// Whether the other side still takes it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }
}

impl Receiver {
    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, s1, s2, s3, s4] = head;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s1, s2, s3, s4]), body })
    }

    /// Reads to the end of the connection; the code of the last GOAWAY.
    pub(crate) async fn end(mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = frame.body.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
            }
        }
        code
    }
}
