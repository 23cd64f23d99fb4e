//! Requests for the caller's identity that a role signed, and what AWS STS says about them.
//!
//! Invariants: what is sent to STS is made here from parts that were checked, to a host that is made of a region; of what the agent
//! sent only headers of [`HEADERS`] go along, each once, each signed. So a request cannot be one for another host or action, and
//! the nonce is what the role signed.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::join::{is_instance, is_region, is_usual};
use longshore_core::time::Timestamp;

use super::aws::Document;
use super::{Refused, SignedRequest, body};

/// The header with the nonce.
pub(super) const NONCE: &str = "x-longshore-nonce";
/// The form that is sent, byte for byte.
pub(super) const FORM: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// How old a signature may be, and how far ahead of our clock.
const AGE: Duration = Duration::from_secs(60);
/// Headers that may be there.
const HEADERS: [&str; 9] = [
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    NONCE,
];
/// Headers that may be there unsigned: who sends it sets them.
const UNSIGNED: [&str; 3] = ["accept", "authorization", "content-length"];
/// The partition of all regions but those for China and for governments.
pub(super) const USUAL: &str = "aws";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A request that may be sent.
#[derive(Debug)]
pub(super) struct Call {
    host: String,
    headers: BTreeMap<String, String>,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) partition: String,
    pub(super) account: String,
    pub(super) role: String,
    pub(super) instance: String,
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::Request(why.into())
}

/// Looks at everything that can be looked at without asking AWS.
pub(super) fn check(request: &SignedRequest, bound: &str, now: Timestamp) -> Result<Call, Refused> {
    let host = host(&request.url)?;
    if request.body != FORM {
        return Err(refused(format!("its form is not `{FORM}`")));
    }
    let mut headers = BTreeMap::new();
    for (name, value) in &request.headers {
        let name = name.to_ascii_lowercase();
        if !HEADERS.contains(&name.as_str()) {
            return Err(refused(format!("a header `{}` is not taken", name.chars().take(40).collect::<String>())));
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(refused(format!("its header `{name}` is no text")));
        }
        if headers.insert(name.clone(), value.trim().to_owned()).is_some() {
            return Err(refused(format!("it has two headers `{name}`")));
        }
    }
    let header = |name: &str| headers.get(name).ok_or_else(|| refused(format!("it has no header `{name}`")));
    if *header("host")? != host {
        return Err(refused("its header `host` is not the host of its address"));
    }
    if header(NONCE)? != bound {
        return Err(refused("its nonce is not the one of this try"));
    }
    let at = time(header("x-amz-date")?)?;
    if now.since(at) > AGE || at.since(now) > AGE {
        return Err(refused(format!(
            "it was signed at {at}, more than 60 s from now; compare the clocks of both machines"
        )));
    }
    check_signature(&headers, &host, header("authorization")?, header("x-amz-date")?)?;
    Ok(Call { host, headers })
}

/// The host of the address, which is that of a region's STS and nothing else.
fn host(url: &str) -> Result<String, Refused> {
    let wrong = || refused("its address is not `https://sts.REGION.amazonaws.com/` of a region of AWS");
    let rest = url.strip_prefix("https://sts.").ok_or_else(wrong)?;
    let region = rest.split('.').next().unwrap_or_default();
    let host = host_of(region).ok_or_else(wrong)?;
    // Compared as a whole: whatever else an address may hold is not in ours.
    if url == format!("https://{host}/") { Ok(host) } else { Err(wrong()) }
}

fn host_of(region: &str) -> Option<String> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    is_region(region).then(|| format!("sts.{region}.{domain}"))
}

fn time(text: &str) -> Result<Timestamp, Refused> {
    let wrong = || refused("its `x-amz-date` is no time");
    let (date, clock) = text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or_else(wrong)?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(date, 8) || !digits(clock, 6) {
        return Err(wrong());
    }
    let part = |text: &str, from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(date, 0, 4),
        part(date, 4, 6),
        part(date, 6, 8),
        part(clock, 0, 2),
        part(clock, 2, 4),
        part(clock, 4, 6)
    );
    text.parse().map_err(|_| wrong())
}

/// That every header that counts is signed, for STS of this region and on the day of the date.
fn check_signature(
    headers: &BTreeMap<String, String>,
    host: &str,
    authorization: &str,
    date: &str,
) -> Result<(), Refused> {
    let rest = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or_else(|| refused("it is not signed with Signature Version 4"))?;
    let mut parts = BTreeMap::new();
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or_else(|| refused("its `authorization` is none"))?;
        if parts.insert(name, value).is_some() {
            return Err(refused("its `authorization` says something twice"));
        }
    }
    let part =
        |name: &str| parts.get(name).copied().ok_or_else(|| refused(format!("its `authorization` has no `{name}`")));
    if parts.len() != 3 {
        return Err(refused("its `authorization` is none"));
    }
    part("Signature")?;
    let region = host.split('.').nth(1).unwrap_or_default();
    let scope = format!("/{}/{region}/sts/aws4_request", date.get(..8).unwrap_or_default());
    if !part("Credential")?.ends_with(&scope) {
        return Err(refused("it is not signed for STS of the region of its address, or for another day"));
    }
    let signed: Vec<&str> = part("SignedHeaders")?.split(';').collect();
    for name in ["host", "x-amz-date", NONCE] {
        if !signed.contains(&name) {
            return Err(refused(format!("its header `{name}` is not signed")));
        }
    }
    for name in headers.keys().map(String::as_str).filter(|name| !UNSIGNED.contains(name)) {
        if !signed.contains(&name) {
            return Err(refused(format!("its header `{name}` is not signed")));
        }
    }
    Ok(())
}

/// Asks STS who signed. `endpoint`: another place than the host that was signed for.
pub(super) async fn ask(client: &reqwest::Client, call: &Call, endpoint: Option<&str>) -> Result<Caller, Refused> {
    let url =
        endpoint.map_or_else(|| format!("https://{}/", call.host), |url| format!("{}/", url.trim_end_matches('/')));
    let mut request = client.post(&url).body(FORM);
    for (name, value) in call.headers.iter().filter(|(name, _)| *name != "content-length") {
        request = request.header(name, value);
    }
    let failed = |why: String| Refused::Unreachable(format!("AWS STS (`{}`): {why}", call.host));
    let response = request.send().await.map_err(|error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        failed(format!("{error}{cause}"))
    })?;
    let status = response.status();
    let answer = body(response).await.map_err(failed)?;
    if status.is_client_error() {
        return Err(refused(format!("AWS STS does not take its signature ({})", status.as_u16())));
    }
    if !status.is_success() {
        return Err(failed(format!("it answered {}", status.as_u16())));
    }
    caller(&answer)
}

/// Reads the answer; it counts as a whole or not at all.
fn caller(answer: &[u8]) -> Result<Caller, Refused> {
    let none = |why: &str| refused(format!("the answer of AWS STS {why}"));
    let text = std::str::from_utf8(answer).map_err(|_| none("is no text"))?;
    let document = roxmltree::Document::parse(text).map_err(|_| none("is no XML"))?;
    let root = document.root_element();
    if !root.has_tag_name((NAMESPACE, "GetCallerIdentityResponse")) {
        return Err(none("is not one about a caller's identity"));
    }
    let one = |parent: roxmltree::Node<'_, '_>, name: &str| {
        let mut found = parent.children().filter(|node| node.has_tag_name((NAMESPACE, name)));
        let first = found.next().map(|node| node.id());
        if found.next().is_some() { None } else { first.and_then(|id| document.get_node(id)) }
    };
    let result = one(root, "GetCallerIdentityResult").ok_or_else(|| none("has no result"))?;
    let value = |name| {
        one(result, name).and_then(|node| node.text().map(str::to_owned)).ok_or_else(|| none("does not say who"))
    };
    let (arn, account): (String, String) = (value("Arn")?, value("Account")?);
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "sts", "", its, resource] = parts.as_slice() else {
        return Err(refused("it was not signed by a role that was taken on; give the instance a profile with a role"));
    };
    if !matches!(*partition, "aws" | "aws-cn" | "aws-us-gov") || *its != account {
        return Err(none("contradicts itself"));
    }
    let parts: Vec<&str> = resource.split('/').collect();
    let ["assumed-role", role, session] = parts.as_slice() else {
        return Err(refused("it was not signed by a role that was taken on; give the instance a profile with a role"));
    };
    // EC2 names the session of an instance profile's role after the instance.
    if !is_instance(session) {
        return Err(refused(
            "the session of its role is not named after an instance: it is not that of an instance profile",
        ));
    }
    Ok(Caller {
        partition: (*partition).to_owned(),
        account,
        role: (*role).to_owned(),
        instance: (*session).to_owned(),
    })
}

impl Caller {
    /// Whether it is the instance of a document.
    pub(super) fn is_of(&self, document: &Document) -> Result<(), Refused> {
        let usual = is_usual(&document.region) == (self.partition == USUAL);
        if usual && self.account == document.account && self.instance == document.instance {
            return Ok(());
        }
        Err(refused("it was signed by another instance than the one of the document"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(arn: &str, account: &str) -> String {
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>x</UserId>\
             <Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
    }

    const ARN: &str = "arn:aws:sts::111122223333:assumed-role/worker/i-0123456789abcdef0";

    #[test]
    fn only_hosts_of_regions_are_hosts() {
        assert_eq!(host("https://sts.eu-central-1.amazonaws.com/").unwrap(), "sts.eu-central-1.amazonaws.com");
        assert_eq!(host("https://sts.cn-north-1.amazonaws.com.cn/").unwrap(), "sts.cn-north-1.amazonaws.com.cn");
        for bad in [
            "http://sts.eu-central-1.amazonaws.com/",
            "https://sts.amazonaws.com/",
            "https://sts.amazonaws.com.evil.io/",
            "https://sts.eu-central-1.amazonaws.com.evil.io/",
            "https://sts.eu-central-1.amazonaws.com.cn/",
            "https://sts.eu-central-1.amazonaws.com@evil.io/",
            "https://sts.eu-central-1.amazonaws.com:8443/",
            "https://sts.eu-central-1.amazonaws.com/?Action=AssumeRole",
            "https://sts.eu-central-1.amazonaws.com/x/../",
            "https://sts.eu-central-1.amazonaws.com",
            "https://STS.eu-central-1.amazonaws.com/",
            "https://evil.io/https://sts.eu-central-1.amazonaws.com/",
            "https://sts.eu-central-1.amazonaws.com/#",
            "https://sts.eu-central-1.amazonaws.com\u{2f}.evil.io/",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_counts_as_a_whole() {
        let good = caller(answer(ARN, "111122223333").as_bytes()).unwrap();
        assert_eq!((good.role.as_str(), good.instance.as_str()), ("worker", "i-0123456789abcdef0"));
        for (bad, why) in [
            (answer(ARN, "999922223333"), "another account"),
            (answer("arn:aws:iam::111122223333:user/alice", "111122223333"), "a user"),
            (answer("arn:aws:sts::111122223333:federated-user/alice", "111122223333"), "a federated user"),
            (answer("arn:aws:sts::111122223333:assumed-role/worker/alice", "111122223333"), "a person's session"),
            (answer("arn:evil:sts::111122223333:assumed-role/worker/i-01234567", "111122223333"), "a partition"),
            (answer(ARN, "111122223333").replace(NAMESPACE, "https://evil.io/"), "a namespace"),
            (answer(ARN, "111122223333").replace("GetCallerIdentityResponse", "ErrorResponse"), "another answer"),
            (answer(&format!("{ARN}</Arn><Arn>{ARN}"), "111122223333"), "two names"),
            ("<x/>".to_owned(), "something else"),
            (format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{}", answer("&a;", "1")), "entities"),
            (String::new(), "nothing"),
        ] {
            assert!(caller(bad.as_bytes()).is_err(), "{why}");
        }
    }
}
