//! Each proof as it should be, and each way in which it is none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_core::id::ControllerId;
use longshore_core::join::{Machine, audience, binding, short_binding};
use longshore_core::time::Timestamp;
use proptest::prelude::{any, proptest};
use serde_json::json;

use super::testing::{
    ACCOUNT, Credentials, Form, INSTANCE, REGION, SUBSCRIPTION, Signer, Sts, VM, attested, caller_identity,
    identity_document, keys, lines, signed, token,
};
use super::{Attested, Proof, Refused, Settings, SignedRequest, Verifier, cms};
use crate::clock::Clock;
use crate::tasks::{OnError, Tasks};

const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----";
/// 2026-11-20T22:10:00Z
const NOW: i64 = 1_795_212_600;
const DATE: &str = "20261120T221000Z";
const ARN: &str = "arn:aws:sts::111122223333:assumed-role/worker/i-0123456789abcdef0";

/// What is done to a request on its way.
type Change = Box<dyn FnOnce(&mut SignedRequest)>;

struct World {
    verifier: Verifier,
    clock: Clock,
    region: Signer,
    google: Signer,
    azure: Signer,
    sts: Sts,
    keys_asked: Arc<Mutex<u32>>,
    role: Credentials,
    _tasks: Tasks,
}

async fn serve(tasks: &Tasks, router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn_until_stop("fake", OnError::Log, async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn controller() -> ControllerId {
    ControllerId::new(Timestamp::from_micros(1), [1; 10])
}

impl World {
    async fn new() -> Self {
        let (region, google) = (Signer::region(), Signer::region());
        let (azure, chain) = Signer::azure("westeurope.metadata.azure.com");
        let (tasks, sts, keys_asked) = (Tasks::new(), Sts::default(), Arc::default());
        let role = Credentials::new("WORKER");
        sts.knows(&role, ARN);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut settings = Settings::default();
        settings.aws.add_region(REGION, &file("r.pem", &region.pem)).unwrap();
        settings.aws.add_region("eu-west-1", &file("w.pem", &Signer::region().pem)).unwrap();
        settings.azure.add(&file("a.pem", &chain)).unwrap();
        settings.aws.sts_endpoint = Some(serve(&tasks, sts.router()).await);
        settings.gcp.jwks_url = format!("{}/certs", serve(&tasks, keys(&google.jwks("k1"), &keys_asked)).await);
        let clock = Clock::manual(Timestamp::from_micros(NOW * 1_000_000));
        let verifier = Verifier::new(settings, clock.clone()).unwrap();
        Self { verifier, clock, region, google, azure, sts, keys_asked, role, _tasks: tasks }
    }

    fn document(&self, account: &str, region: &str, signer: &Signer, form: Form) -> String {
        let _ = self;
        lines(&signed(&identity_document(INSTANCE, account, region, "2026-11-20T22:00:00Z"), signer, form, false))
    }

    fn request(&self, nonce: &str) -> SignedRequest {
        let (url, headers, body) = caller_identity(&self.role, REGION, DATE, &binding(nonce, CSR));
        SignedRequest { url, headers, body }
    }

    async fn verify(&self, nonce: &str, proof: Proof) -> Result<Attested, Refused> {
        self.verifier.verify(&proof, nonce, CSR, controller()).await
    }

    async fn aws(&self, document: Option<String>) -> Result<Attested, Refused> {
        self.verify(&self.verifier.nonce(), Proof::Aws { document, request: None }).await
    }

    async fn signed(&self, change: impl FnOnce(&mut SignedRequest)) -> Result<Attested, Refused> {
        let nonce = self.verifier.nonce();
        let mut request = self.request(&nonce);
        change(&mut request);
        self.verify(&nonce, Proof::Aws { document: None, request: Some(request) }).await
    }
}

fn why<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_document_of_aws_is_read_in_every_form() {
    let world = World::new().await;
    for form in [Form::Der, Form::Ber, Form::Bare] {
        let attested = world.aws(Some(world.document(ACCOUNT, REGION, &world.region, form))).await.unwrap();
        let machine = Machine::Aws {
            account: ACCOUNT.to_owned(),
            region: Some(REGION.to_owned()),
            role: None,
            vpc: None,
            instance: INSTANCE.to_owned(),
        };
        assert_eq!(attested.machine, machine, "{form:?}");
        assert_eq!(attested.alone_since.unwrap().to_string(), "2026-11-20T22:00:00.000Z");
    }
}

#[tokio::test]
async fn a_forged_document_of_aws_is_refused() {
    let world = World::new().await;
    let foreign = Signer::region();
    let said = why(world.aws(Some(world.document(ACCOUNT, REGION, &foreign, Form::Ber))).await);
    assert!(said.contains("its signature is not by the key") && said.contains(REGION), "{said}");
    // The key of one region does not sign for another.
    let said = why(world.aws(Some(world.document(ACCOUNT, "eu-west-1", &world.region, Form::Ber))).await);
    assert!(said.contains("its signature is not by the key") && said.contains("eu-west-1"), "{said}");
    let said = why(world.aws(Some(world.document(ACCOUNT, "us-east-1", &world.region, Form::Ber))).await);
    assert!(said.contains("no certificate of AWS for region `us-east-1`"), "{said}");
    // Another content under attributes that are signed, in each form.
    for form in [Form::Der, Form::Ber, Form::Bare] {
        let mut bytes =
            signed(&identity_document(INSTANCE, ACCOUNT, REGION, "2026-11-20T22:00:00Z"), &world.region, form, false);
        let at = bytes.windows(12).position(|window| window == ACCOUNT.as_bytes()).unwrap();
        bytes[at..at + 12].copy_from_slice(b"999922223333");
        let said = why(world.aws(Some(lines(&bytes))).await);
        assert!(said.contains("is not the one that was signed") || said.contains("not by the key"), "{said}");
    }
    for rubbish in [String::new(), "!".to_owned(), lines(b"rubbish"), "A".repeat(100_000)] {
        assert!(matches!(world.aws(Some(rubbish)).await, Err(Refused::Document(_))));
    }
    assert!(matches!(world.aws(None).await, Err(Refused::Document(_))));
}

#[tokio::test]
async fn a_signed_request_says_role_and_instance() {
    let world = World::new().await;
    let attested = world.signed(|_| ()).await.unwrap();
    let machine = Machine::Aws {
        account: ACCOUNT.to_owned(),
        region: None,
        role: Some("worker".to_owned()),
        vpc: None,
        instance: INSTANCE.to_owned(),
    };
    assert_eq!((attested.machine, attested.alone_since), (machine, None));
    // With its document, the region is proven too, and the document's age does not matter.
    let nonce = world.verifier.nonce();
    let document = Some(world.document(ACCOUNT, REGION, &world.region, Form::Ber));
    let proof = Proof::Aws { document, request: Some(world.request(&nonce)) };
    let attested = world.verify(&nonce, proof).await.unwrap();
    assert!(
        matches!(attested.machine, Machine::Aws { region: Some(_), role: Some(_), .. })
            && attested.alone_since.is_none()
    );
    // A document of another account does not go with it.
    let nonce = world.verifier.nonce();
    let document = Some(world.document("999922223333", REGION, &world.region, Form::Ber));
    let said = why(world.verify(&nonce, Proof::Aws { document, request: Some(world.request(&nonce)) }).await);
    assert!(said.contains("another instance"), "{said}");
}

/// As the agent signs it, with the vendor's signer.
#[tokio::test]
async fn the_agents_own_request_is_understood() {
    use longshore_core::secret::Secret;
    let world = World::new().await;
    let nonce = world.verifier.nonce();
    let credentials = longshore_cloud::aws::Credentials {
        access_key_id: world.role.id.clone(),
        secret_access_key: Secret::new(world.role.secret.clone()),
        session_token: Some(Secret::new(world.role.token.clone())),
        until: None,
    };
    let header = ("x-longshore-nonce", binding(&nonce, CSR));
    let header = (header.0, header.1.as_str());
    let made = longshore_cloud::aws::caller_identity(&credentials, REGION, header, world.clock.now()).unwrap();
    let request = SignedRequest { url: made.url, headers: made.headers, body: made.body };
    let attested = world.verify(&nonce, Proof::Aws { document: None, request: Some(request) }).await.unwrap();
    assert!(matches!(attested.machine, Machine::Aws { role: Some(role), .. } if role == "worker"));
}

#[tokio::test]
async fn a_signed_request_counts_once_and_for_its_nonce_and_key() {
    let world = World::new().await;
    let nonce = world.verifier.nonce();
    let proof = || Proof::Aws { document: None, request: Some(world.request(&nonce)) };
    world.verify(&nonce, proof()).await.unwrap();
    assert_eq!(world.verify(&nonce, proof()).await, Err(Refused::Nonce("was used before")));
    // Under another nonce, and with another key.
    let other = world.verifier.nonce();
    let said = why(world.verify(&other, proof()).await);
    assert!(said.contains("its nonce is not the one of this try"), "{said}");
    let proof = Proof::Aws { document: None, request: Some(world.request(&other)) };
    let said = why(world.verifier.verify(&proof, &other, "another request", controller()).await);
    assert!(said.contains("its nonce is not the one of this try"), "{said}");
    assert_eq!(*world.sts.asked.lock().unwrap(), 1, "what is refused here is not asked");
    // Too late: the nonce has ended, and so has the signature.
    let late = world.verifier.nonce();
    world.clock.advance(Duration::from_secs(61));
    let proof = Proof::Aws { document: None, request: Some(world.request(&late)) };
    assert_eq!(world.verify(&late, proof).await, Err(Refused::Nonce("is older than 60 s")));
    let said = why(world.signed(|_| ()).await);
    assert!(said.contains("more than 60 s"), "{said}");
    assert!(matches!(world.verify("made up", Proof::Gcp { token: String::new() }).await, Err(Refused::Nonce(_))));
}

#[tokio::test]
async fn a_request_for_anything_else_is_never_sent() {
    let world = World::new().await;
    let header = |request: &mut SignedRequest, name: &str, value: &str| {
        request.headers.iter_mut().find(|(its, _)| its == name).unwrap().1 = value.to_owned();
    };
    let say = |change: Change| async { why(world.signed(change).await) };
    for url in [
        "https://sts.amazonaws.com.evil.io/",
        "https://sts.eu-central-1.amazonaws.com.evil.io/",
        "http://sts.eu-central-1.amazonaws.com/",
        "https://sts.eu-central-1.amazonaws.com/?Action=AssumeRole",
        "https://evil.io/",
    ] {
        let said = say(Box::new(move |request| request.url = url.to_owned())).await;
        assert!(said.contains("its address is not `https://sts.REGION.amazonaws.com/`"), "{url}: {said}");
    }
    for body in [
        "Action=GetCallerIdentity&Version=2011-06-15&Action=AssumeRole",
        "Action=AssumeRole&Version=2011-06-15",
        "Action=GetCallerIdentity",
        "",
    ] {
        let said = say(Box::new(move |request| request.body = body.to_owned())).await;
        assert!(said.contains("its form is not"), "{body}: {said}");
    }
    let changes: Vec<(Change, &str)> = vec![
        (Box::new(move |r| header(r, "host", "evil.io")), "`host` is not the host"),
        (Box::new(|r| r.headers.push(("Host".to_owned(), "evil.io".to_owned()))), "two headers `host`"),
        (
            Box::new(|r| r.headers.push(("x-forwarded-host".to_owned(), "a".to_owned()))),
            "`x-forwarded-host` is not taken",
        ),
        (Box::new(|r| r.headers.push(("accept".to_owned(), "a\r\nhost: b".to_owned()))), "is no text"),
        (Box::new(|r| r.headers.retain(|(name, _)| name != "x-longshore-nonce")), "no header `x-longshore-nonce`"),
        (Box::new(|r| r.headers.retain(|(name, _)| name != "authorization")), "no header `authorization`"),
        (Box::new(move |r| header(r, "x-amz-date", "20261120T220800Z")), "more than 60 s"),
        (Box::new(move |r| header(r, "x-amz-date", "20261120T221200Z")), "more than 60 s"),
        (Box::new(move |r| header(r, "x-amz-date", "now")), "is no time"),
    ];
    for (change, wanted) in changes {
        let said = say(change).await;
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    for (from, to, wanted) in [
        ("x-longshore-nonce,", "x-amz-date,", "`x-longshore-nonce` is not signed"),
        ("host;", "", "`host` is not signed"),
        ("x-amz-security-token;", "", "`x-amz-security-token` is not signed"),
        ("/eu-central-1/sts/", "/eu-west-1/sts/", "not signed for STS of the region"),
        ("/eu-central-1/sts/", "/eu-central-1/iam/", "not signed for STS of the region"),
        ("/20261120/", "/20261119/", "for another day"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "Signature Version 4"),
        (", Signature=", ", SignedHeaders=", "something twice"),
    ] {
        let said = say(Box::new(move |request| {
            let place = request.headers.iter_mut().find(|(name, _)| name == "authorization").unwrap();
            let changed = place.1.replace(from, to);
            assert_ne!(changed, place.1, "{from}");
            place.1 = changed;
        }))
        .await;
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(*world.sts.asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn what_sts_does_not_vouch_for_is_refused() {
    let mut world = World::new().await;
    let wrong_secret = Credentials { secret: "guessed".to_owned(), ..Credentials::new("WORKER") };
    let right = std::mem::replace(&mut world.role, wrong_secret);
    let said = why(world.signed(|_| ()).await);
    assert!(said.contains("does not take its signature (403)"), "{said}");
    world.role = Credentials::new("ALICE");
    world.sts.knows(&world.role, "arn:aws:sts::111122223333:assumed-role/worker/alice");
    let said = why(world.signed(|_| ()).await);
    assert!(said.contains("not named after an instance"), "{said}");
    world.role = right;
    assert!(world.signed(|_| ()).await.is_ok());
}

#[tokio::test]
async fn a_token_of_google_is_for_us_alone() {
    let world = World::new().await;
    let make = |nonce: &str, claims: serde_json::Value| {
        token(&world.google, "k1", &audience(&controller().to_string(), &binding(nonce, CSR)), NOW, &claims)
    };
    let nonce = world.verifier.nonce();
    let good = make(&nonce, json!({}));
    let attested = world.verify(&nonce, Proof::Gcp { token: good.clone() }).await.unwrap();
    let machine = Machine::Gcp {
        project: "my-project".to_owned(),
        zone: "europe-west3-a".to_owned(),
        service_account: "worker@my-project.iam.gserviceaccount.com".to_owned(),
        instance: "152986662232938449".to_owned(),
    };
    assert_eq!((attested.machine, attested.alone_since), (machine, None));
    assert_eq!(world.verify(&nonce, Proof::Gcp { token: good.clone() }).await, Err(Refused::Nonce("was used before")));
    let said = why(world.verify(&world.verifier.nonce(), Proof::Gcp { token: good.clone() }).await);
    assert!(said.contains("its audience is not this controller"), "{said}");

    for (claims, wanted) in [
        (json!({"aud": "https://other.example"}), "audience"),
        (json!({"iss": "https://evil.io"}), "issuer"),
        (json!({"exp": NOW - 61}), "expired"),
        (json!({"iat": NOW + 120}), "in the future"),
        (json!({"google": null}), "format=full"),
        (json!({"google": {"compute_engine": {"project_id": 1}}}), "not one of an instance"),
    ] {
        let nonce = world.verifier.nonce();
        let said = why(world.verify(&nonce, Proof::Gcp { token: make(&nonce, claims) }).await);
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // Another key under Google's name, a key that Google does not have, and no signature at all.
    let nonce = world.verifier.nonce();
    let said = audience(&controller().to_string(), &binding(&nonce, CSR));
    let forged = token(&world.region, "k1", &said, NOW, &json!({}));
    assert!(why(world.verify(&nonce, Proof::Gcp { token: forged }).await).contains("not by Google's key"));
    let unknown = token(&world.region, "k2", &said, NOW, &json!({}));
    assert!(why(world.verify(&nonce, Proof::Gcp { token: unknown }).await).contains("not Google's"));
    let (_, rest) = good.split_once('.').unwrap();
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0"] {
        assert!(matches!(
            world.verify(&nonce, Proof::Gcp { token: format!("{header}.{rest}") }).await,
            Err(Refused::Token(_))
        ));
    }
    assert_eq!(*world.keys_asked.lock().unwrap(), 1, "keys are kept, and unknown ones do not make us ask each time");
    world.clock.advance(Duration::from_secs(601));
    let nonce = world.verifier.nonce();
    let now = NOW + 601;
    let fresh =
        token(&world.google, "k1", &audience(&controller().to_string(), &binding(&nonce, CSR)), now, &json!({}));
    assert!(world.verify(&nonce, Proof::Gcp { token: fresh }).await.is_ok());
    assert_eq!(*world.keys_asked.lock().unwrap(), 2, "and not for ever");
}

#[tokio::test]
async fn a_document_of_azure_leads_to_its_root() {
    let world = World::new().await;
    let good = "11/20/26 23:07:39 -0000";
    let make = |signer: &Signer, nonce: &str, subscription: &str, expires: &str| {
        let content = attested(&short_binding(&binding(nonce, CSR)), subscription, &VM.to_uppercase(), expires);
        Proof::Azure { document: lines(&signed(&content, signer, Form::Der, true)) }
    };
    let nonce = world.verifier.nonce();
    let proof = make(&world.azure, &nonce, SUBSCRIPTION, good);
    let machine = Machine::Azure { subscription: SUBSCRIPTION.to_owned(), instance: VM.to_owned() };
    assert_eq!(world.verify(&nonce, proof.clone()).await.unwrap(), Attested { machine, alone_since: None });
    assert_eq!(world.verify(&nonce, proof.clone()).await, Err(Refused::Nonce("was used before")));
    let said = why(world.verify(&world.verifier.nonce(), proof).await);
    assert!(said.contains("its nonce is not the one of this try"), "{said}");
    let nonce = world.verifier.nonce();
    let said = why(world.verify(&nonce, make(&world.azure, &nonce, SUBSCRIPTION, "11/20/26 22:09:59 -0000")).await);
    assert!(said.contains("it expired at 2026-11-20T22:09:59"), "{said}");
    let said = why(world.verify(&nonce, make(&world.azure, &nonce, "*", good)).await);
    assert!(said.contains("names no machine"), "{said}");
    // Of another root, of ours in another name, and without its certificate.
    let (foreign, _) = Signer::azure("westeurope.metadata.azure.com");
    let said = why(world.verify(&nonce, make(&foreign, &nonce, SUBSCRIPTION, good)).await);
    assert!(said.contains("does not lead to a root"), "{said}");
    let content = attested(&short_binding(&binding(&nonce, CSR)), SUBSCRIPTION, VM, good);
    let bare = Proof::Azure { document: lines(&signed(&content, &world.azure, Form::Der, false)) };
    assert!(why(world.verify(&nonce, bare).await).contains("certificate is not in it"));
    for (name, fits) in [
        ("metadata.azure.com", true),
        ("eastus.metadata.azure.com", true),
        ("metadata.azure.com.evil.io", false),
        ("evilmetadata.azure.com", false),
        ("portal.azure.com", false),
    ] {
        let (signer, chain) = Signer::azure(name);
        let mut settings = Settings::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), chain).unwrap();
        settings.azure.add(file.path()).unwrap();
        let verifier = Verifier::new(settings, world.clock.clone()).unwrap();
        let nonce = verifier.nonce();
        let read = verifier.verify(&make(&signer, &nonce, SUBSCRIPTION, good), &nonce, CSR, controller()).await;
        assert_eq!(read.is_ok(), fits, "{name}: {read:?}");
    }
    let none = Verifier::new(Settings::default(), world.clock.clone()).unwrap();
    let nonce = none.nonce();
    let read = none.verify(&make(&world.azure, &nonce, SUBSCRIPTION, good), &nonce, CSR, controller()).await;
    assert!(matches!(read, Err(Refused::NotConfigured(_))));
}

#[test]
fn certificates_that_cannot_sign_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.pem");
    let mut settings = Settings::default();
    assert!(settings.aws.add_region(REGION, &path).is_err());
    std::fs::write(&path, "nothing").unwrap();
    assert!(settings.aws.add_region(REGION, &path).is_err() && settings.azure.add(&path).is_err());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    assert!(super::testing::is_certificate(certificate.der()));
    std::fs::write(&path, certificate.pem()).unwrap();
    let error = settings.aws.add_region(REGION, &path).unwrap_err().to_string();
    assert!(error.contains("RSA-2048"), "{error}");
}

proptest! {
    /// Whatever comes, it is refused and not fallen over.
    #[test]
    fn rubbish_is_no_signed_data(bytes: Vec<u8>) {
        assert!(cms::Signed::read(&bytes).is_err());
    }

    /// One byte that differs anywhere: unreadable, or not signed by the key, or nothing that is signed has changed.
    #[test]
    fn a_changed_byte_is_noticed(place in any::<proptest::sample::Index>(), bit in 0..8_u8, ber: bool) {
        use std::sync::LazyLock;
        static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::region);
        let content = identity_document(INSTANCE, ACCOUNT, REGION, "2026-11-20T22:00:00Z");
        let mut bytes = signed(&content, &SIGNER, if ber { Form::Ber } else { Form::Der }, false);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let (_, certificate) = x509_parser::parse_x509_certificate(&SIGNER.der).unwrap();
        if let Ok(read) = cms::Signed::read(&bytes) {
            let verified = read.verify(&certificate.public_key().subject_public_key.data);
            assert!(verified.is_err() || read.content == content);
        }
    }
}
