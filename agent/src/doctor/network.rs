//! The way to the controller: name, proxy, TCP, TLS, and what time it is there.

use std::net::SocketAddr;

use longshore_core::time::Timestamp;
use rustls::{AlertDescription, CertificateError};

use super::{Check, with_causes};
use crate::config::{Address, Config, Credentials, Proxy};
use crate::identity::Identity;
use crate::session::{DialError, Dialer, Greeting, Spoken, greet};

/// Clocks that differ by less are taken for the same: the controller tells whole seconds.
const SKEW_OK: u64 = 5;
/// Clocks that differ by more make certificates invalid before their time.
const SKEW_MOST: u64 = 300;

pub(super) async fn checks(config: &Config, identity: Option<&Identity>, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![proxy(config.proxy.as_ref())];
    // With a proxy, it is the proxy's name that this host has to know.
    let place = config.proxy.as_ref().map_or_else(
        || (config.controller.host.clone(), config.controller.port),
        |proxy| (proxy.host.clone(), proxy.port),
    );
    let addresses = tokio::net::lookup_host((place.0.as_str(), place.1)).await;
    checks.push(name(&place.0, config.proxy.is_some(), addresses.map(Iterator::collect)));
    let valid = identity.filter(|identity| identity.check(now).is_ok());
    let dialer = match dialer(config, valid) {
        Ok(dialer) => dialer.by_way_of(config.proxy.clone()),
        Err(error) => {
            checks.push(not_tried("controller", &error));
            checks.push(clock(None));
            return checks;
        }
    };
    match greet(&dialer).await {
        Ok(greeting) => {
            checks.push(Check::ok("tcp", format!("{} takes connections", config.controller)));
            checks.push(Check::ok("tls", tls_found(&greeting)));
            checks.push(controller(&greeting, valid.is_some()));
            checks.push(clock(greeting.spoken.as_ref().ok()));
        }
        Err(error) => {
            checks.extend(unreached(&config.controller, &error));
            checks.push(clock(None));
        }
    }
    checks
}

/// As the agent if it is enrolled, else as one that is about to be.
fn dialer(config: &Config, identity: Option<&Identity>) -> Result<Dialer, String> {
    match identity {
        Some(identity) => Dialer::new(config.controller.clone(), identity).map_err(|error| with_causes(&error)),
        None => {
            let pem = std::fs::read_to_string(&config.ca_file)
                .map_err(|error| format!("`{}`: {error}", config.ca_file.display()))?;
            Dialer::anonymous(config.controller.clone(), &pem).map_err(|error| with_causes(&error))
        }
    }
}

fn not_tried(check: &'static str, why: &str) -> Check {
    Check::warning(check, format!("not tried: there is no authority to verify it by ({why})"), "see `authorities`")
}

fn proxy(proxy: Option<&Proxy>) -> Check {
    let Some(proxy) = proxy else { return Check::ok("proxy", "none") };
    let credentials = match &proxy.credentials {
        None => "without user and password".to_owned(),
        Some(Credentials::Given(_)) => "with user and password".to_owned(),
        Some(Credentials::File(path)) => format!("with user and password from `{}`", path.display()),
    };
    Check::ok("proxy", format!("{proxy}, set by {}, {credentials}", proxy.set_by))
}

fn name(host: &str, of_proxy: bool, addresses: std::io::Result<Vec<SocketAddr>>) -> Check {
    let whose = if of_proxy { "the proxy" } else { "the controller" };
    match addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Check::ok("dns", format!("`{host}` ({whose}) is {}", list.join(", ")))
        }
        other => {
            let why = other.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
            Check::error(
                "dns",
                format!("`{host}` ({whose}) cannot be resolved: {why}"),
                "correct the name in the configuration, or this host's name service (`resolvectl query`, /etc/resolv.conf)",
            )
        }
    }
}

/// The steps to the controller up to the one that failed.
fn unreached(controller: &Address, error: &DialError) -> Vec<Check> {
    let found = with_causes(error);
    let firewall = format!(
        "open the way to {controller}: a firewall or security group may drop it, or the controller does not run"
    );
    match error {
        // The check of the name has said it.
        DialError::Resolve { .. } => vec![],
        DialError::Tcp { .. } | DialError::Late { .. } => vec![Check::error("tcp", found, firewall)],
        DialError::Proxy(_) => vec![Check::error(
            "tcp",
            found,
            "correct `proxy` and `proxy_credentials_file`, or the proxy's own rules; `proxy = \"none\"` does without one",
        )],
        DialError::Tls { source, .. } => {
            let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let (found, what_to_do) = tls_problem(inner, &found);
            vec![Check::ok("tcp", format!("{controller} takes connections")), Check::error("tls", found, what_to_do)]
        }
    }
}

/// What a failed handshake means and what to do.
fn tls_problem(error: Option<&rustls::Error>, text: &str) -> (String, &'static str) {
    use rustls::Error as Tls;
    match error {
        Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => (
            "the controller's certificate is from another authority than this agent knows".to_owned(),
            "fetch the authority anew (`longshore join-token create --ca-file FILE`) and enroll; if it is the right one, something \
             on the way (a proxy that opens TLS) answers instead of the controller",
        ),
        Some(Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => (
            "the controller's certificate has expired, or this host's clock is fast".to_owned(),
            "compare the clocks of both machines; the controller renews its certificate when it starts",
        ),
        Some(Tls::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => (
            "the controller's certificate is not valid yet by this host's clock".to_owned(),
            "set this host's clock, for example with `timedatectl set-ntp true`",
        ),
        Some(Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => (
            format!(
                "the certificate there is not for a controller (it does not name `{}`)",
                longshore_proto::SERVER_NAME
            ),
            "correct `controller`: it has to lead to the agents' plane itself, with no load balancer that ends TLS before it",
        ),
        Some(Tls::AlertReceived(AlertDescription::NoApplicationProtocol) | Tls::NoApplicationProtocol) => (
            "what answers there speaks TLS but not HTTP/2".to_owned(),
            "correct the port of `controller`: it has to be the agents' plane",
        ),
        Some(Tls::InvalidMessage(_)) => (
            "what answers there does not speak TLS".to_owned(),
            "correct the port of `controller`: it has to be the agents' plane",
        ),
        _ => (text.to_owned(), "look at the controller's log; the port of `controller` has to be the agents' plane"),
    }
}

fn tls_found(greeting: &Greeting) -> String {
    let until = greeting.certificate_until.map(|until| format!(", valid to {until}")).unwrap_or_default();
    format!("the controller's certificate is from the right authority{until}")
}

fn controller(greeting: &Greeting, as_agent: bool) -> Check {
    let name = "controller";
    match &greeting.spoken {
        Ok(_) if as_agent => Check::ok(name, "answers, and takes this agent's certificate"),
        Ok(_) => Check::ok(name, "answers; this agent has no certificate to show"),
        Err(error) if as_agent => Check::error(
            name,
            format!("ends the connection: {error}"),
            "the controller's log says why; a certificate that it refuses is replaced by enrolling anew with `--force`",
        ),
        Err(error) => Check::error(name, format!("ends the connection: {error}"), "look at the controller's log"),
    }
}

/// Compares the clocks. What the controller tells was true at some time between question and answer.
fn clock(spoken: Option<&Spoken>) -> Check {
    let name = "clock";
    let Some((spoken, time)) = spoken.and_then(|spoken| Some((spoken, spoken.time?))) else {
        return Check::warning(
            name,
            "not known, because the controller did not tell its time",
            "compare the clocks of both machines by hand (`date -u`); both should follow a time server",
        );
    };
    let (ahead, behind) = (spoken.asked.since(time).as_secs(), time.since(spoken.answered).as_secs());
    let (seconds, how) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    let todo = "let both machines follow a time server, for example with `timedatectl set-ntp true`";
    if seconds <= SKEW_OK {
        Check::ok(name, "the same as the controller's")
    } else if seconds <= SKEW_MOST {
        Check::warning(name, format!("{seconds} s {how} the controller's"), todo)
    } else {
        Check::error(name, format!("{seconds} s {how} the controller's; certificates may not be valid by it"), todo)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_are_compared_with_the_time_of_the_question() {
        let base = Timestamp::from_micros(1_795_255_200_000_000);
        let at = |seconds| base.after(Duration::from_secs(seconds));
        let judged = |time, asked, answered| {
            clock(Some(&Spoken { time: Some(at(time)), asked: at(asked), answered: at(answered) }))
        };
        assert_eq!(judged(1_000, 1_000, 1_001).result, Level::Ok);
        // A slow answer is no skew.
        assert_eq!(judged(1_004, 1_000, 1_009).result, Level::Ok);
        let ahead = judged(1_000, 1_060, 1_061);
        assert!(ahead.result == Level::Warning && ahead.found.contains("60 s ahead of"), "{ahead:?}");
        let behind = judged(2_000, 1_000, 1_001);
        assert!(behind.result == Level::Error && behind.found.contains("999 s behind"), "{behind:?}");
        assert_eq!(clock(None).result, Level::Warning);
        assert_eq!(clock(Some(&Spoken { time: None, asked: base, answered: base })).result, Level::Warning);
    }

    #[test]
    fn a_failed_handshake_is_told_apart() {
        use rustls::Error as Tls;
        let found = |error: Tls| tls_problem(Some(&error), "text").0;
        assert!(found(Tls::InvalidCertificate(CertificateError::UnknownIssuer)).contains("another authority"));
        assert!(found(Tls::InvalidCertificate(CertificateError::Expired)).contains("expired"));
        assert!(found(Tls::InvalidCertificate(CertificateError::NotValidYet)).contains("not valid yet"));
        assert!(found(Tls::InvalidCertificate(CertificateError::NotValidForName)).contains("longshore-controller"));
        assert!(found(Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType)).contains("not speak TLS"));
        assert_eq!(tls_problem(None, "text").0, "text");
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let secret = longshore_core::secret::Secret::new("alice:hunter2".to_owned());
        let shown = Proxy {
            host: "p".to_owned(),
            port: 1,
            credentials: Some(Credentials::Given(secret)),
            set_by: "HTTPS_PROXY",
        };
        let check = proxy(Some(&shown));
        assert!(
            check.found.contains("http://p:1, set by HTTPS_PROXY") && !check.found.contains("hunter2"),
            "{check:?}"
        );
    }
}
