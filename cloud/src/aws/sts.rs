//! A request for the caller's identity that is signed here and sent by whoever wants to know who we are.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use longshore_core::time::Timestamp;

use super::Credentials;
use crate::Error;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A POST that is signed. As good as the credentials for the one thing that it asks; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Where it goes.
    pub url: String,
    /// All header fields.
    pub headers: Vec<(String, String)>,
    /// The form.
    pub body: String,
}

impl std::fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedRequest").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Signs a request for the caller's identity to STS of a region, with one more header that is signed too.
///
/// # Errors
/// [`Error::Request`] when there is nothing to be signed of it.
pub fn caller_identity(
    credentials: &Credentials,
    region: &str,
    header: (&str, &str),
    now: Timestamp,
) -> Result<SignedRequest, Error> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = format!("sts.{region}.{domain}");
    let failed = |what: String| Error::Request { place: host.clone(), what };
    let session = credentials.session_token.as_ref().map(|token| token.expose().to_owned());
    let secret = credentials.secret_access_key.expose();
    let identity =
        aws_credential_types::Credentials::new(&credentials.access_key_id, secret, session, None, "longshore").into();
    let micros = u64::try_from(now.as_micros()).map_err(|_| failed("the clock is before 1970".to_owned()))?;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| failed(error.to_string()))?
        .into();
    let url = format!("https://{host}/");
    let headers = [("host", host.as_str()), ("content-type", FORM), header];
    let body = SignableBody::Bytes(BODY.as_bytes());
    let request = SignableRequest::new("POST", &url, headers.into_iter(), body);
    let signed = request.and_then(|request| sign(request, &parameters)).map_err(|error| failed(error.to_string()))?;
    let (instructions, _) = signed.into_parts();
    let own = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let added = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = own.chain(added).collect();
    Ok(SignedRequest { url, headers, body: BODY.to_owned() })
}

#[cfg(test)]
mod tests {
    use longshore_core::secret::Secret;

    use super::*;

    #[test]
    fn every_header_that_counts_is_signed() {
        let credentials = Credentials {
            access_key_id: "ASIAEXAMPLE".to_owned(),
            secret_access_key: Secret::new("hunter2".to_owned()),
            session_token: Some(Secret::new("session".to_owned())),
            until: None,
        };
        let at: Timestamp = "2026-11-28T21:00:00Z".parse().unwrap();
        let made = caller_identity(&credentials, "eu-central-1", ("x-longshore-nonce", "n"), at).unwrap();
        assert_eq!((made.url.as_str(), made.body.as_str()), ("https://sts.eu-central-1.amazonaws.com/", BODY));
        let header = |name: &str| made.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((header("x-longshore-nonce"), header("host")), (Some("n"), Some("sts.eu-central-1.amazonaws.com")));
        let authorization = header("authorization").unwrap();
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261128/eu-central-1/sts/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-longshore-nonce, Signature="
            ),
            "{authorization}"
        );
        let other = caller_identity(&credentials, "eu-central-1", ("x-longshore-nonce", "m"), at).unwrap();
        let signature = |made: &SignedRequest| made.headers.iter().find(|(name, _)| name == "authorization").cloned();
        assert_ne!(signature(&other), signature(&made), "the nonce is signed");
        assert!(!format!("{made:?}").contains("Signature"), "{made:?}");
        let china = caller_identity(&credentials, "cn-north-1", ("x-longshore-nonce", "n"), at).unwrap();
        assert_eq!(china.url, "https://sts.cn-north-1.amazonaws.com.cn/");
    }
}
