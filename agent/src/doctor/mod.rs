//! `longshore-agent doctor`: looks at everything an agent needs and says what to do about what is missing.
//!
//! Input and output gather facts; pure functions judge them. Nothing is changed on the host, on the engine or on the
//! controller, nothing needs a running or an enrolled agent, and nothing secret is in a [`Report`].

mod engine;
mod host;
mod identity;
mod network;

use serde::Serialize;

use crate::config::{self, Config};
use crate::identity::Identity;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The agent works, and someone should look at it; or it could not be found out.
    Warning,
    /// The agent does not work like this.
    Error,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub result: Level,
    /// What was found.
    pub found: String,
    /// What to do about it, unless it is well.
    pub what_to_do: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, result: Level::Ok, found: found.into(), what_to_do: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { check, result: Level::Warning, found: found.into(), what_to_do: Some(what_to_do.into()) }
    }

    fn error(check: &'static str, found: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { check, result: Level::Error, found: found.into(), what_to_do: Some(what_to_do.into()) }
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether there is no error. Warnings may be there.
    pub ok: bool,
    /// Version of this program.
    pub version: &'static str,
    /// In the order in which things depend on each other.
    pub checks: Vec<Check>,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.result != Level::Error);
        Self { ok, version: env!("CARGO_PKG_VERSION"), checks }
    }
}

/// For people: a line for each check, below it what to do.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.checks {
            let level = match check.result {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            writeln!(f, "{level:<9}{:<18}{}", check.check, check.found)?;
            if let Some(what_to_do) = &check.what_to_do {
                writeln!(f, "{:27}-> {what_to_do}", "")?;
            }
        }
        let count = |level| self.checks.iter().filter(|check| check.result == level).count();
        write!(f, "errors: {}, warnings: {}", count(Level::Error), count(Level::Warning))
    }
}

/// Looks at everything. A configuration that is not taken is the only finding then.
pub async fn examine(config: Result<Config, config::Error>) -> Report {
    let config = match config {
        Ok(config) => config,
        Err(error) => return Report::of(vec![configuration_error(&error)]),
    };
    let identity = Identity::load(&config.state_dir);
    let now = crate::clock::now();
    let mut checks = vec![configuration(&config)];
    checks.extend(host::checks(&config));
    checks.extend(engine::checks(&config, identity.as_ref().ok().map(|identity| identity.agent)).await);
    checks.extend(identity::checks(&config, &identity, now));
    checks.extend(network::checks(&config, identity.ok().as_ref(), now).await);
    Report::of(checks)
}

fn configuration(config: &Config) -> Check {
    let slots = if config.slots == 1 { "1 slot".to_owned() } else { format!("{} slots", config.slots) };
    Check::ok("configuration", format!("agent `{}` with {slots} for {}", config.name, config.controller))
}

fn configuration_error(error: &config::Error) -> Check {
    Check::error(
        "configuration",
        with_causes(error),
        "correct it; docs/agent-config.md says what each field means. Nothing else was looked at",
    )
}

/// An error with its causes behind it.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x40_0000 => (1 << 10, "KiB"),
        0x40_0000..0x1_0000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{} {name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_makes_it_fail_and_what_to_do_stands_below() {
        let warned = Report::of(vec![Check::ok("a", "fine"), Check::warning("b", "so so", "look")]);
        assert!(
            warned.ok
                && warned.to_string().contains("-> look")
                && warned.to_string().ends_with("errors: 0, warnings: 1")
        );
        let failed = Report::of(vec![Check::error("c", "broken", "repair it")]);
        assert!(!failed.ok);
        let json = serde_json::to_value(&failed).unwrap();
        assert_eq!(
            json["checks"][0],
            serde_json::json!({
                "check": "c", "result": "error", "found": "broken", "what_to_do": "repair it"
            })
        );
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(4096), size(64 << 20), size(5 << 30)], ["4 KiB", "64 MiB", "5 GiB"]);
    }
}
