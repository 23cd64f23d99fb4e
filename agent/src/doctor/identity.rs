//! Whether the agent is enrolled, how old its certificate is, and the authorities it was given.

use longshore_core::time::Timestamp;

use super::{Check, with_causes};
use crate::config::Config;
use crate::identity::{Error, Identity, Validity};

const ENROLL: &str =
    "make a token (`longshore join-token create`) and run `longshore-agent enroll --config FILE --token-file FILE`";
const ENROLL_ANEW: &str = "make a token (`longshore join-token create`) and run `longshore-agent enroll --force --config FILE --token-file FILE`";

pub(super) fn checks(config: &Config, identity: &Result<Identity, Error>, now: Timestamp) -> Vec<Check> {
    let ca = std::fs::read_to_string(&config.ca_file);
    let usable = ca.map_err(|error| error.to_string()).and_then(|pem| {
        crate::session::Dialer::anonymous(config.controller.clone(), &pem)
            .map(drop)
            .map_err(|error| with_causes(&error))
    });
    let mut checks = vec![authorities(config, usable, identity.is_ok())];
    match identity {
        Ok(identity) => {
            checks.push(Check::ok("enrolment", format!("agent `{}` of pool `{}`", identity.agent, identity.pool)));
            let validity = identity.verify().and_then(|()| identity.validity());
            checks.push(certificate(validity, now));
        }
        Err(Error::NotEnrolled { .. }) if config.join.is_some() => {
            let cloud = config.join.map_or("", crate::attest::Cloud::as_str);
            checks.push(Check::ok(
                "enrolment",
                format!("not enrolled yet; `run` joins by what the machine is to `{cloud}`"),
            ));
        }
        Err(error) => checks.push(not_enrolled(error)),
    }
    checks
}

fn authorities(config: &Config, usable: Result<(), String>, enrolled: bool) -> Check {
    let (name, path) = ("authorities", config.ca_file.display());
    match usable {
        Ok(()) => Check::ok(name, format!("`{path}` can be used")),
        Err(error) if enrolled => Check::warning(
            name,
            format!(
                "`{path}` cannot be used: {error}; this agent is enrolled and does not need it until it enrolls anew"
            ),
            "write the controller's authority there: `longshore join-token create --ca-file FILE`",
        ),
        Err(error) => Check::error(
            name,
            format!("`{path}` cannot be used: {error}"),
            "write the controller's authority there: `longshore join-token create --ca-file FILE`",
        ),
    }
}

fn not_enrolled(error: &Error) -> Check {
    match error {
        Error::NotEnrolled { .. } => Check::error("enrolment", "this agent is not enrolled", ENROLL),
        other => Check::error("enrolment", with_causes(other), ENROLL_ANEW),
    }
}

/// A certificate is renewed when a third of its life has passed; one that has not been for two is in trouble.
fn certificate(validity: Result<Validity, Error>, now: Timestamp) -> Check {
    let name = "certificate";
    let validity = match validity {
        Ok(validity) => validity,
        Err(error) => return Check::error(name, with_causes(&error), ENROLL_ANEW),
    };
    let life = validity.until.since(validity.from);
    let found = format!("valid from {} to {}", validity.from, validity.until);
    if now > validity.until {
        Check::error(name, format!("expired at {}", validity.until), ENROLL_ANEW)
    } else if now < validity.from {
        let todo = "set this host's clock, for example with `timedatectl set-ntp true`";
        Check::error(name, format!("{found}, which is still to come by this host's clock ({now})"), todo)
    } else if now.since(validity.from) > life * 2 / 3 {
        let todo = "start the agent, which renews it; if it runs, its log says why it could not";
        Check::warning(name, format!("{found}, and should have been renewed at {}", validity.renew_at()), todo)
    } else {
        Check::ok(name, found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Level;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_age() {
        let from = Timestamp::from_micros(1_795_255_200_000_000);
        let validity = Validity { from, until: from.after(Duration::from_secs(24 * 3_600)) };
        let at = |hours: u64| certificate(Ok(validity), from.after(Duration::from_secs(hours * 3_600)));
        assert_eq!(at(1).result, Level::Ok);
        assert_eq!(at(15).result, Level::Ok);
        let late = at(17);
        assert!(
            late.result == Level::Warning && late.found.contains("renewed at 2026-11-21T18:00:00.000Z"),
            "{late:?}"
        );
        let over = at(25);
        assert!(over.result == Level::Error && over.what_to_do.unwrap().contains("enroll --force"));
        let early = certificate(Ok(validity), Timestamp::from_micros(1));
        assert!(early.result == Level::Error && early.what_to_do.unwrap().contains("clock"));
    }
}
