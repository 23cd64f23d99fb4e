//! A connection to the agents' plane.

use std::sync::Arc;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use longshore_proto::v1::agent_plane_client::AgentPlaneClient;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

pub(crate) type Plane = AgentPlaneClient<Channel>;

/// What an agent shows.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key: KeyPair,
}

/// A signing request for a new key.
pub(crate) fn csr(key: &KeyPair) -> anyhow::Result<String> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

/// Settings of TLS, with a certificate or without one.
pub(crate) fn settings(ca_pem: &str, identity: Option<&Identity>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain =
                CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
            let key = PrivateKeyDer::try_from(identity.key.serialize_der()).map_err(anyhow::Error::msg)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Opens one connection.
pub(crate) async fn dial(address: &str, tls: Arc<ClientConfig>) -> anyhow::Result<Plane> {
    let connector = tokio_rustls::TlsConnector::from(tls);
    let address = address.to_owned();
    let connect = service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let name = ServerName::try_from(longshore_proto::SERVER_NAME).map_err(std::io::Error::other)?;
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://longshore-controller");
    Ok(AgentPlaneClient::new(endpoint.connect_with_connector(connect).await.context("no connection")?))
}
