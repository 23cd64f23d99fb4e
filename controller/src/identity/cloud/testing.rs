//! Clouds for tests, with keys of their own, after the vendors' documents: documents that are signed, tokens, and an STS that
//! verifies signatures. Shared with the tests of the API, so nothing here is of this crate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SigningKey as _,
};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const SUBSCRIPTION: &str = "8d10da13-8125-4ba9-a717-bf7490507b3d";
pub(crate) const VM: &str = "13f56399-bd52-4150-9748-7190aae1ff21";

/// A key with a certificate.
pub(crate) struct Signer {
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
    pub(crate) pem: String,
}

fn rsa() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap()
}

impl Signer {
    /// As AWS has one for each region: it signed itself.
    pub(crate) fn region() -> Self {
        let key = rsa();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Amazon Web Services LLC");
        let certificate = params.self_signed(&key).unwrap();
        Self { key, der: certificate.der().to_vec(), pem: certificate.pem() }
    }

    /// As Azure has them: a root, an intermediate one, and one that signs, with the root and the intermediate one in PEM.
    pub(crate) fn azure(name: &str) -> (Self, String) {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, between_key, key) = (rsa(), rsa(), rsa());
        let root = authority("Test Global Root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority("Test Global Root"), root_key);
        let between = authority("Test Issuing CA").signed_by(&between_key, &root_issuer).unwrap();
        let between_issuer = Issuer::new(authority("Test Issuing CA"), between_key);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &between_issuer).unwrap();
        let chain = format!("{}{}", root.pem(), between.pem());
        (Self { key, der: leaf.der().to_vec(), pem: leaf.pem() }, chain)
    }

    /// Google's key as its endpoint gives it.
    pub(crate) fn jwks(&self, kid: &str) -> Value {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).unwrap();
        let x509_parser::public_key::PublicKey::RSA(rsa) = parsed.public_key().parsed().unwrap() else {
            panic!("no RSA key")
        };
        let number = |bytes: &[u8]| {
            let first = bytes.iter().position(|b| *b != 0).unwrap_or(0);
            URL_SAFE_NO_PAD.encode(&bytes[first..])
        };
        json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": number(rsa.modulus), "e": number(rsa.exponent)}]})
    }
}

/// How signed data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lengths in front, attributes that are signed: as Azure does.
    Der,
    /// Lengths that are found at the end, a content in pieces: as AWS does.
    Ber,
    /// No attributes: the content itself is signed.
    Bare,
}

fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let data = parts.concat();
    let mut out = vec![tag];
    if data.len() < 128 {
        out.push(u8::try_from(data.len()).unwrap());
    } else {
        let length = data.len().to_be_bytes();
        let length: Vec<u8> = length.into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | u8::try_from(length.len()).unwrap());
        out.extend(length);
    }
    out.extend(data);
    out
}

fn open(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

const DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const SIGNED_DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const CONTENT_TYPE: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
const MESSAGE_DIGEST: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
const SHA256: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// Signed data of a content.
pub(crate) fn signed(content: &[u8], signer: &Signer, form: Form, with_certificate: bool) -> Vec<u8> {
    let (_, parsed) = x509_parser::parse_x509_certificate(&signer.der).unwrap();
    let digest = digest::digest(&digest::SHA256, content);
    let attributes = [
        wrap(0x30, &[CONTENT_TYPE, &wrap(0x31, &[DATA])]),
        wrap(0x30, &[MESSAGE_DIGEST, &wrap(0x31, &[&wrap(4, &[digest.as_ref()])])]),
    ]
    .concat();
    let said = if form == Form::Bare { content.to_vec() } else { wrap(0x31, &[&attributes]) };
    let signature = signer.key.sign(&said).unwrap();
    let algorithm = |oid: &[u8]| wrap(0x30, &[oid, &[5, 0]]);
    let who = wrap(0x30, &[parsed.issuer().as_raw(), &wrap(2, &[parsed.raw_serial()])]);
    let mut parts = vec![wrap(2, &[&[1]]), who, algorithm(SHA256)];
    if form != Form::Bare {
        parts.push(wrap(0xa0, &[&attributes]));
    }
    parts.extend([algorithm(RSA), wrap(4, &[&signature])]);
    let signer_info = wrap(0x30, &[&parts.concat()]);
    let certificates = if with_certificate { wrap(0xa0, &[&signer.der]) } else { Vec::new() };
    let digests = wrap(0x31, &[&algorithm(SHA256)]);
    if form == Form::Ber {
        let pieces: Vec<Vec<u8>> = content.chunks(100).map(|piece| wrap(4, &[piece])).collect();
        let content = open(0x24, &[&pieces.concat()]);
        let inner = open(0x30, &[DATA, &open(0xa0, &[&content])]);
        let signers = wrap(0x31, &[&signer_info]);
        let data = open(0x30, &[&wrap(2, &[&[1]]), &digests, &inner, &certificates, &signers]);
        return open(0x30, &[SIGNED_DATA, &open(0xa0, &[&data])]);
    }
    let inner = wrap(0x30, &[DATA, &wrap(0xa0, &[&wrap(4, &[content])])]);
    let data = wrap(0x30, &[&wrap(2, &[&[1]]), &digests, &inner, &certificates, &wrap(0x31, &[&signer_info])]);
    wrap(0x30, &[SIGNED_DATA, &wrap(0xa0, &[&data])])
}

/// Base64 in lines, as metadata services give it.
pub(crate) fn lines(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n")
}

/// The document of an instance.
pub(crate) fn identity_document(instance: &str, account: &str, region: &str, pending: &str) -> Vec<u8> {
    let document = json!({
        "accountId": account, "architecture": "x86_64", "availabilityZone": format!("{region}b"), "billingProducts": null,
        "imageId": "ami-5fb8c835", "instanceId": instance, "instanceType": "t3.micro", "pendingTime": pending,
        "privateIp": "10.158.112.84", "region": region, "version": "2017-09-30",
    });
    serde_json::to_vec_pretty(&document).unwrap()
}

/// What Azure attests.
pub(crate) fn attested(nonce: &str, subscription: &str, vm: &str, expires: &str) -> Vec<u8> {
    let document = json!({
        "licenseType": "", "nonce": nonce, "plan": {"name": "", "product": "", "publisher": ""}, "sku": "22_04-lts",
        "subscriptionId": subscription, "timeStamp": {"createdOn": "11/20/26 22:07:39 -0000", "expiresOn": expires}, "vmId": vm,
    });
    serde_json::to_vec(&document).unwrap()
}

/// A token of Google. `claims` goes over what one usually says.
pub(crate) fn token(signer: &Signer, kid: &str, audience: &str, now: i64, claims: &Value) -> String {
    let mut all = json!({
        "iss": "https://accounts.google.com", "aud": audience, "azp": "1", "sub": "1", "iat": now, "exp": now + 3_600,
        "email": "worker@my-project.iam.gserviceaccount.com", "email_verified": true,
        "google": {"compute_engine": {"instance_creation_timestamp": 1, "instance_id": "152986662232938449",
            "instance_name": "worker-1", "project_id": "my-project", "project_number": 739, "zone": "europe-west3-a"}},
    });
    for (name, value) in claims.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
    let head = format!("{}.{}", part(&json!({"alg": "RS256", "kid": kid, "typ": "JWT"})), part(&all));
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(signer.key.sign(head.as_bytes()).unwrap()))
}

/// Credentials of a role, as the metadata service gives them.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
}

impl Credentials {
    pub(crate) fn new(name: &str) -> Self {
        Self { id: format!("ASIA{name}"), secret: format!("secret of {name}"), token: format!("token-of-{name}") }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Signature Version 4 of a POST to `/`.
pub(crate) fn signature(
    secret: &str,
    scope: (&str, &str),
    signed: &[String],
    headers: &BTreeMap<String, String>,
    body: &str,
) -> String {
    let (date, region) = scope;
    let lines: String = signed.iter().map(|name| format!("{name}:{}\n", headers[name].trim())).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{}\n{}", signed.join(";"), sha256(body));
    let day = date.get(..8).unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/sts/aws4_request\n{}", sha256(&canonical));
    let mac =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let key = [day, region, "sts", "aws4_request"]
        .into_iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

/// A signed request for the caller's identity: address, headers, form.
pub(crate) fn caller_identity(
    who: &Credentials,
    region: &str,
    date: &str,
    nonce: &str,
) -> (String, Vec<(String, String)>, String) {
    let host = format!("sts.{region}.amazonaws.com");
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let mut headers: BTreeMap<String, String> = [
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", &host),
        ("x-amz-date", date),
        ("x-amz-security-token", &who.token),
        ("x-longshore-nonce", nonce),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let signed: Vec<String> = headers.keys().cloned().collect();
    let signature = signature(&who.secret, (date, region), &signed, &headers, body);
    let day = date.get(..8).unwrap();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{day}/{region}/sts/aws4_request, SignedHeaders={}, Signature={signature}",
        who.id,
        signed.join(";")
    );
    headers.insert("authorization".to_owned(), authorization);
    (format!("https://{host}/"), headers.into_iter().collect(), body.to_owned())
}

/// An STS that knows some callers (credentials and ARN), verifies their signatures, and counts how often it was asked.
#[derive(Clone, Default)]
pub(crate) struct Sts {
    pub(crate) callers: Arc<Mutex<Vec<(Credentials, String)>>>,
    pub(crate) asked: Arc<Mutex<u32>>,
}

impl Sts {
    pub(crate) fn knows(&self, who: &Credentials, arn: &str) {
        self.callers.lock().unwrap().push((who.clone(), arn.to_owned()));
    }

    pub(crate) fn router(&self) -> Router {
        let sts = self.clone();
        Router::new()
            .route("/", post(move |headers: HeaderMap, body: Bytes| async move { sts.answer(&headers, &body) }))
    }

    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, String) {
        *self.asked.lock().unwrap() += 1;
        match self.find(headers, std::str::from_utf8(body).unwrap()) {
            Some(arn) => {
                let account = arn.split(':').nth(4).unwrap().to_owned();
                let answer = format!(
                    "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <GetCallerIdentityResult>\n    \
                     <Arn>{arn}</Arn>\n    <UserId>AROA1:x</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  \
                     <ResponseMetadata>\n    <RequestId>1</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
                );
                (StatusCode::OK, answer)
            }
            None => (
                StatusCode::FORBIDDEN,
                "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>".to_owned(),
            ),
        }
    }

    fn find(&self, headers: &HeaderMap, body: &str) -> Option<String> {
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let rest = headers.get("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")));
        let credential: Vec<&str> = part("Credential")?.split('/').collect();
        let signed: Vec<String> = part("SignedHeaders")?.split(';').map(str::to_owned).collect();
        let callers = self.callers.lock().unwrap();
        let (who, arn) = callers.iter().find(|(who, _)| who.id == credential[0])?;
        let right = signature(&who.secret, (headers.get("x-amz-date")?, credential[2]), &signed, &headers, body);
        let token = headers.get("x-amz-security-token") == Some(&who.token);
        (token && part("Signature")? == right && body.contains("Action=GetCallerIdentity")).then(|| arn.clone())
    }
}

/// Google's keys, and how often they were asked for.
pub(crate) fn keys(jwks: &Value, asked: &Arc<Mutex<u32>>) -> Router {
    let (jwks, asked) = (jwks.clone(), Arc::clone(asked));
    Router::new().route(
        "/certs",
        get(move || async move {
            *asked.lock().unwrap() += 1;
            ([("cache-control", "public, max-age=600")], axum::Json(jwks))
        }),
    )
}

/// Whether a text is a key in DER, so that tests of files see what they write.
pub(crate) fn is_certificate(der: &[u8]) -> bool {
    x509_parser::certificate::X509Certificate::from_der(der).is_ok()
}
