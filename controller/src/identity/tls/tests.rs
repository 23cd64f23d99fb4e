//! Real handshakes over loopback.

use super::super::Limits;
use super::*;
use crate::data_dir::DataDir;
use longshore_core::id::AgentId;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DAY: Duration = Duration::from_secs(86_400);

struct Authority {
    ca: Ca,
    _root: tempfile::TempDir,
}

fn authority() -> Authority {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let ca = Ca::load_or_create(&dir, DAY, now()).unwrap();
    Authority { ca, _root: root }
}

fn now() -> Timestamp {
    crate::clock::Clock::system().now()
}

fn agent() -> AgentId {
    AgentId::new(Timestamp::from_micros(1), [4; 10])
}

/// A certificate of `ca` made at `at`, and its key.
fn client(ca: &Ca, at: Timestamp) -> Own {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let signed = ca.sign_agent(&csr, agent(), at).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// What a client shows.
type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_config(ca: &Ca, own: Option<Own>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// What the server makes of a client: its identity when it got in, the client's error when it did not.
async fn connect(server: &Ca, config: ClientConfig) -> Result<Option<AgentIdentity>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::Mutual(agent_plane(server, &[], now()).unwrap());
    let mut incoming = Incoming::new(listener, tls, Door::new(Limits::default(), "test")).unwrap();
    let dial = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
        let mut stream =
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| e.to_string())?;
        // In TLS 1.3 the server's verdict on the client's certificate arrives with the first bytes.
        stream.read_u8().await.map_err(|e| e.to_string())
    };
    let serve = async {
        let mut connection = incoming.next().await.unwrap().unwrap();
        connection.write_u8(1).await.unwrap();
        connection.flush().await.unwrap();
        connection
    };
    tokio::pin!(dial, serve);
    tokio::select! {
        refused = &mut dial => Err(refused.expect_err("served before the server had it")),
        connection = &mut serve => { dial.await.unwrap(); Ok(connection.agent().cloned()) }
    }
}

#[tokio::test]
async fn an_agent_is_known_by_its_certificate() {
    let ours = authority();
    let seen = connect(&ours.ca, client_config(&ours.ca, Some(client(&ours.ca, now())))).await.unwrap();
    assert_eq!(seen.unwrap().agent, agent());
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_nobody() {
    let ours = authority();
    assert_eq!(connect(&ours.ca, client_config(&ours.ca, None)).await.unwrap(), None);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ours = authority();
    let long_ago = Timestamp::from_micros(now().as_micros() - 3 * 86_400 * 1_000_000);
    let error = connect(&ours.ca, client_config(&ours.ca, Some(client(&ours.ca, long_ago)))).await.unwrap_err();
    assert!(error.contains("CertificateExpired"), "{error}");
}

#[tokio::test]
async fn a_foreign_certificate_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let error = connect(&ours.ca, client_config(&ours.ca, Some(client(&theirs.ca, now())))).await.unwrap_err();
    assert!(
        error.to_lowercase().contains("unknownca")
            || error.contains("DecryptError")
            || error.contains("BadCertificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_by_the_agent() {
    let (ours, theirs) = (authority(), authority());
    let error = connect(&theirs.ca, client_config(&ours.ca, None)).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn files_of_the_api_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let (certificate, key) = (root.path().join("c.pem"), root.path().join("k.pem"));
    let error = api_from_files(&certificate, &key).unwrap_err().to_string();
    assert!(error.contains("c.pem"), "{error}");
    let made = rcgen::generate_simple_self_signed(vec!["api.test".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(api_from_files(&certificate, &key), Err(Error::Tls { .. })), "another key");
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    api_from_files(&certificate, &key).unwrap();
}

/// A certificate that the authority itself signed, with these names and uses.
fn odd(ours: &Authority, names: Vec<rcgen::SanType>, uses: Vec<rcgen::ExtendedKeyUsagePurpose>) -> Own {
    let read = |file: &str| std::fs::read_to_string(ours._root.path().join(file)).unwrap();
    let signer = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), signer).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    (params.subject_alt_names, params.extended_key_usages) = (names, uses);
    let signed = params.signed_by(&key, &issuer).unwrap();
    (vec![signed.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.to_owned().try_into().unwrap())
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_refused() {
    let ours = authority();
    let soon = Timestamp::from_micros(now().as_micros() + 3_600 * 1_000_000);
    let error = connect(&ours.ca, client_config(&ours.ca, Some(client(&ours.ca, soon)))).await.unwrap_err();
    // TLS has one word for it and for an expired one; the log tells them apart.
    assert!(error.contains("CertificateExpired") || error.contains("BadCertificate"), "{error}");
}

#[tokio::test]
async fn an_authority_of_the_same_name_is_another_one() {
    let (ours, theirs) = (authority(), authority());
    let name = |authority: &Authority| {
        let (_, parsed) = x509_parser::parse_x509_certificate(authority.ca.certificate()).unwrap();
        parsed.subject().to_string()
    };
    assert_eq!(name(&ours), name(&theirs), "they differ by their keys alone");
    assert!(connect(&ours.ca, client_config(&ours.ca, Some(client(&theirs.ca, now())))).await.is_err());
    assert!(connect(&ours.ca, client_config(&theirs.ca, Some(client(&ours.ca, now())))).await.is_err());
}

#[tokio::test]
async fn a_certificate_of_ours_that_names_no_one_agent_is_refused() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let ours = authority();
    let prefix = longshore_proto::AGENT_URI_PREFIX;
    let (one, dns) = (uri(&format!("{prefix}{}", agent())), rcgen::SanType::DnsName("*".try_into().unwrap()));
    let good = odd(&ours, vec![one.clone()], vec![ClientAuth]);
    assert_eq!(connect(&ours.ca, client_config(&ours.ca, Some(good))).await.unwrap().unwrap().agent, agent());
    let none: [(&str, Vec<rcgen::SanType>); 5] = [
        ("a wildcard", vec![uri(&format!("{prefix}*"))]),
        ("a wildcard of hosts", vec![dns.clone()]),
        ("two names", vec![one.clone(), dns]),
        ("a name below", vec![uri(&format!("{prefix}{}/x", agent()))]),
        ("no name", vec![]),
    ];
    for (what, names) in none {
        let own = odd(&ours, names, vec![ClientAuth]);
        assert!(connect(&ours.ca, client_config(&ours.ca, Some(own))).await.is_err(), "{what}");
    }
    let server = odd(&ours, vec![one], vec![ServerAuth]);
    assert!(connect(&ours.ca, client_config(&ours.ca, Some(server))).await.is_err(), "a server's certificate");
    let own = ours.ca.server_certificate(&[], now()).unwrap();
    assert!(connect(&ours.ca, client_config(&ours.ca, Some((own.chain, own.key)))).await.is_err(), "our own");
}

fn hasty() -> Limits {
    let soon = Duration::from_millis(200);
    Limits { handshake: soon, stranger: soon, ..Limits::default() }
}

#[tokio::test]
async fn who_is_slow_in_the_handshake_is_closed_and_others_are_not() {
    let ours = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::Mutual(agent_plane(&ours.ca, &[], now()).unwrap());
    let mut incoming = Incoming::new(listener, tls, Door::new(hasty(), "test")).unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    // The begin of a record that is never ended.
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let closed = async { slow.read_u8().await.map_err(|error| error.kind()) };
    tokio::select! {
        end = closed => assert_eq!(end, Err(io::ErrorKind::UnexpectedEof)),
        _ = incoming.accept() => panic!("there was no handshake"),
    }
}

#[tokio::test]
async fn who_has_no_certificate_stays_for_a_short_time() {
    let ours = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::Mutual(agent_plane(&ours.ca, &[], now()).unwrap());
    let mut incoming = Incoming::new(listener, tls, Door::new(hasty(), "test")).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(&ours.ca, None)));
    let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
    let dial = async { connector.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap() };
    let (_client, mut connection) = tokio::join!(dial, incoming.accept());
    assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
