//! The query protocol: a form goes in, XML comes out, version 4 of the signature in the header.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use hyper::Method;
use longshore_core::time::Timestamp;

use super::Credentials;
use crate::{Endpoint, Error, Http, Request};

/// An API in a region may take this long.
const WITHIN: Duration = Duration::from_secs(10);
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// One service in one region.
#[derive(Debug, Clone)]
pub struct QueryApi {
    http: Http,
    endpoint: Endpoint,
    region: String,
    service: &'static str,
    version: &'static str,
}

/// An answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xml {
    place: String,
    text: String,
}

impl QueryApi {
    /// A service, by its name in signatures and the version of its API; `endpoint` goes over the one of the region.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str, region: &str, endpoint: Option<Endpoint>) -> Self {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = endpoint.unwrap_or_else(|| Endpoint::https(format!("{service}.{region}.{suffix}")));
        Self { http: Http::within(WITHIN), endpoint, region: region.to_owned(), service, version }
    }

    /// Calls an action.
    ///
    /// # Errors
    /// [`Error`]; a refusal has the service's own code and message.
    pub async fn call(
        &self,
        credentials: &Credentials,
        action: &str,
        parameters: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Xml, Error> {
        let place = format!("{} {action}", self.endpoint);
        let body = form(action, self.version, parameters);
        let signed =
            self.sign(credentials, &body, now).map_err(|what| Error::Request { place: place.clone(), what })?;
        let mut request = Request {
            method: Method::POST,
            endpoint: &self.endpoint,
            path: "/",
            headers: vec![("content-type", FORM.to_owned())],
            body: Bytes::from(body),
        };
        for (name, value) in &signed {
            request = request.header(name, value.as_str());
        }
        let answer = self.http.send(request).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let xml = Xml { place, text };
        if (200..300).contains(&answer.status) {
            // What is no answer of this action is no success either.
            return xml.is_answer_of(action).map(|()| xml);
        }
        Err(xml.refusal(answer.status))
    }

    /// Header fields that hold the signature.
    fn sign(&self, credentials: &Credentials, body: &str, now: Timestamp) -> Result<Vec<(String, String)>, String> {
        let session = credentials.session_token.as_ref().map(|token| token.expose().to_owned());
        let secret = credentials.secret_access_key.expose();
        let identity =
            aws_credential_types::Credentials::new(&credentials.access_key_id, secret, session, None, "longshore")
                .into();
        let micros = u64::try_from(now.as_micros()).map_err(|_| "the clock is before 1970".to_owned())?;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let url = format!("{}/", self.endpoint);
        let host = self.endpoint.authority();
        let headers = [("host", host.as_str()), ("content-type", FORM)];
        let body = SignableBody::Bytes(body.as_bytes());
        let request =
            SignableRequest::new("POST", url, headers.into_iter(), body).map_err(|error| error.to_string())?;
        let (instructions, _) = sign(request, &parameters).map_err(|error| error.to_string())?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Xml {
    /// Parses the answer and reads from it.
    ///
    /// # Errors
    /// [`Error::Garbage`] when it is no XML, or `read` finds nothing.
    pub fn read<T>(&self, read: impl FnOnce(roxmltree::Node<'_, '_>) -> Option<T>) -> Result<T, Error> {
        let document = roxmltree::Document::parse(&self.text)
            .map_err(|error| Error::garbage(&self.place, format!("no XML: {error}")))?;
        read(document.root_element()).ok_or_else(|| Error::garbage(&self.place, "something is missing in it"))
    }

    fn is_answer_of(&self, action: &str) -> Result<(), Error> {
        let expected = format!("{action}Response");
        self.read(|root| (root.tag_name().name() == expected).then_some(()))
    }

    fn refusal(&self, status: u16) -> Error {
        let said = self.read(|root| {
            let error = descend(root, "Error")?;
            Some(format!("{}: {}", text(error, "Code")?, text(error, "Message").unwrap_or_default()))
        });
        let said = said.unwrap_or_else(|_| self.text.split_whitespace().collect::<Vec<_>>().join(" "));
        Error::Refused { place: self.place.clone(), status, said: said.chars().take(300).collect() }
    }
}

/// The first element of a name below a node.
#[must_use]
pub(super) fn descend<'a, 'i>(node: roxmltree::Node<'a, 'i>, name: &str) -> Option<roxmltree::Node<'a, 'i>> {
    node.descendants().find(|node| node.is_element() && node.tag_name().name() == name)
}

/// The elements `member` of a list of a name.
pub(super) fn members<'a, 'i>(
    node: roxmltree::Node<'a, 'i>,
    name: &str,
) -> Option<impl Iterator<Item = roxmltree::Node<'a, 'i>>> {
    Some(descend(node, name)?.children().filter(|node| node.tag_name().name() == "member"))
}

/// The text of a node's own child of a name.
pub(super) fn text(node: roxmltree::Node<'_, '_>, name: &str) -> Option<String> {
    let child = node.children().find(|child| child.tag_name().name() == name)?;
    Some(child.text().unwrap_or_default().to_owned())
}

fn form(action: &str, version: &str, parameters: &[(&str, &str)]) -> String {
    let all = [("Action", action), ("Version", version)].into_iter().chain(parameters.iter().copied());
    all.map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect::<Vec<_>>().join("&")
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use longshore_core::secret::Secret;

    use super::*;

    #[test]
    fn a_form_is_escaped() {
        assert_eq!(form("Do", "1", &[("A.member.1", "a b/ä&c")]), "Action=Do&Version=1&A.member.1=a%20b%2F%C3%A4%26c");
    }

    #[test]
    fn the_region_has_its_endpoint_and_the_signature_its_scope() {
        let api = QueryApi::new("autoscaling", "2011-01-01", "cn-north-1", None);
        assert_eq!(api.endpoint.to_string(), "https://autoscaling.cn-north-1.amazonaws.com.cn");
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("hunter2".to_owned()),
            session_token: Some(Secret::new("session".to_owned())),
            until: None,
        };
        let at: Timestamp = "2026-11-28T21:00:00Z".parse().unwrap();
        let signed = api.sign(&credentials, "Action=Do", at).unwrap();
        let header = |name: &str| signed.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((header("x-amz-date"), header("x-amz-security-token")), (Some("20261128T210000Z"), Some("session")));
        let authorization = header("authorization").unwrap();
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261128/cn-north-1/autoscaling/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
            ),
            "{authorization}"
        );
        assert_ne!(api.sign(&credentials, "Action=Other", at).unwrap(), signed, "the body is signed");
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
