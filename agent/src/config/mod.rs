//! What the agent is told: a TOML file, over it the environment, over it flags.
//!
//! Everything is checked before anything is opened, bound or started; an error names the field and, for the file,
//! the line. Unknown fields are errors.

mod change;
mod cloud;
mod file;
mod overlay;
mod proxy;
mod span;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::offer::Profile;

pub use change::Change;
pub use cloud::{Cloud, Provider};
pub use file::Flags;
pub use proxy::{Credentials, Proxy};

use crate::executor::probe::Runc;
use crate::executor::{Limits, Mount};
use file::File;

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the controller's agent plane is.
    pub controller: Address,
    /// PEM file with the authorities that the controller's certificate is verified against when enrolling.
    pub ca_file: PathBuf,
    /// HTTP proxy on the way to the controller.
    pub proxy: Option<Proxy>,
    /// Directory of everything the agent keeps, mode 0700.
    pub state_dir: PathBuf,
    /// For people to read; the host's name when none is given.
    pub name: String,
    /// Jobs that run at once.
    pub slots: u32,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Weakest executor profile that is permitted.
    pub weakest_profile: Profile,
    /// How long a draining agent waits for its jobs.
    pub drain_timeout: Duration,
    /// Between the one SIGINT and SIGKILL when this agent itself cancels its jobs: it was told twice to stop.
    pub cancel_grace: Duration,
    /// The cloud that this host is in.
    pub cloud: Cloud,
    /// Unix socket of the container engine.
    pub docker_socket: PathBuf,
    /// Oldest runc that jobs are run with.
    pub min_runc: Option<Runc>,
    /// Whether jobs may reach the cloud's metadata service.
    pub metadata: Metadata,
    /// How the lines of its own log look.
    pub log_format: longshore_logging::Format,
    /// The cloud whose word lets this machine in, where it has no identity or its certificate has ended.
    pub join: Option<crate::attest::Cloud>,
    /// Where that cloud's metadata service is, instead of its own address.
    pub join_endpoint: Option<longshore_cloud::Endpoint>,
    /// Host directories that jobs may ask for by name.
    pub mounts: Vec<Mount>,
    /// Logins at image registries, the first that is for a host counts.
    pub registries: Vec<crate::registry::Registry>,
    /// Bounds of one step's container and of the host.
    pub limits: Limits,
}

/// Whether jobs may reach the metadata service of the cloud that this host is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// No job is taken while they can.
    #[default]
    Blocked,
    /// Nobody looks.
    Allowed,
}

/// Host and port of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or a field is unknown or of the wrong type. The message holds line and field.
    #[error("`{}`: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the line it stands in.
        message: String,
    },
    /// An environment variable that is no setting, or has a value of the wrong type.
    #[error("environment variable `{variable}`: {message}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// A value that cannot be worked with.
    #[error("field `{field}`{}: {message}", line.map(|line| format!(" (line {line})")).unwrap_or_default())]
    Field {
        /// The field, as a path of names.
        field: &'static str,
        /// Where it stands in the file, if it does.
        line: Option<usize>,
        /// What is wrong with it and what would do.
        message: String,
    },
}

impl Config {
    /// Reads the file, lays the environment and the flags over it and checks the whole.
    ///
    /// # Errors
    /// [`Error`], which names the field and the line.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>, flags: Flags) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file = File::parse(&text).map_err(|message| Error::File { path: path.to_owned(), message })?;
        let faulty = |(variable, message)| Error::Environment { variable, message };
        let mut proxies = proxy::Environment::default();
        let over = overlay::read(environment.inspect(|(name, value)| proxies.take(name, value))).map_err(faulty)?;
        let file = flags.into_file().over(over.over(file));
        let own = file.sets_proxy();
        let mut config = file.check(&text)?;
        if !own {
            config.proxy = proxies.proxy(&config.controller).map_err(faulty)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "controller = \"https://10.0.0.5:7443\"\nca_file = \"/etc/longshore/ca.pem\"\nstate_dir = \"/var/lib/longshore\"\n";

    fn load(text: &str, env: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(&path, env, flags).map_err(|err| err.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_plain_worker() {
        let config = load(GOOD, &[("HOME", "/root")], Flags::default()).unwrap();
        assert_eq!(config.controller, Address { host: "10.0.0.5".to_owned(), port: 7443 });
        assert_eq!((config.slots, config.weakest_profile), (1, Profile::Standard));
        assert_eq!(config.docker_socket, Path::new("/var/run/docker.sock"));
        assert_eq!(config.name, crate::host::hostname());
        assert_eq!(config.metadata, Metadata::Blocked);
        assert_eq!(config.log_format, longshore_logging::Format::Text);
        assert_eq!((config.cancel_grace, config.cloud), (Duration::from_secs(600), Cloud::default()));
    }

    #[test]
    fn every_field_is_read_and_the_later_source_wins() {
        let text = format!(
            "{GOOD}name = \"a\"\nmetadata = \"allowed\"\njoin = \"gcp\"\njoin_endpoint = \"http://127.0.0.1:9\"\nslots = 2\nweakest_profile = \"locked\"\ndrain_timeout = \"1h30m\"\n[labels]\nzone = \"b\"\n[docker]\nsocket = \"/run/d.sock\"\nmin_runc = \"1.2.8\"\n\
             [log]\nformat = \"text\"\n[limits]\npids = 9\n[[mounts]]\nname = \"state\"\nsource = \"/srv/state\"\ntarget = \"/state\"\n"
        );
        let env = [
            ("LONGSHORE_AGENT__DOCKER__SOCKET", "/run/e.sock"),
            ("LONGSHORE_AGENT__SLOTS", "3"),
            ("LONGSHORE_AGENT__NAME", "7"),
            ("LONGSHORE_AGENT__LABELS__ZONE", "c"),
            ("LONGSHORE_AGENT__LIMITS__CPUS", "1.5"),
            ("LONGSHORE_LOG_FORMAT", "json"),
        ];
        let config = load(&text, &env, Flags { slots: Some(4), ..Flags::default() }).unwrap();
        assert_eq!((config.slots, config.name.as_str()), (4, "7"));
        assert_eq!(config.docker_socket, Path::new("/run/e.sock"));
        assert_eq!(config.labels.get("zone").map(String::as_str), Some("c"));
        assert_eq!((config.limits.pids, config.limits.cpus), (9, Some(1.5)));
        assert_eq!(config.drain_timeout, Duration::from_secs(5_400));
        assert_eq!(config.mounts.len(), 1);
        assert_eq!(config.metadata, Metadata::Allowed);
        assert_eq!(config.log_format, longshore_logging::Format::Json);
        assert_eq!(config.min_runc, Some(Runc::release(1, 2, 8)));
        assert_eq!(config.join, Some(crate::attest::Cloud::Gcp));
        assert_eq!(config.join_endpoint.map(|endpoint| endpoint.to_string()).as_deref(), Some("http://127.0.0.1:9"));
        assert!(!config.mounts[0].read_only);
    }

    #[test]
    fn errors_name_the_field_and_the_line() {
        let cases = [
            ("slotz = 2\n", &["line 4", "slotz"][..]),
            ("slots = \"many\"\n", &["line 4", "slots"]),
            ("metadata = \"open\"\n", &["line 4", "blocked"]),
            ("slots = 0\n", &["line 4", "slots"]),
            ("join = \"ibm\"\n", &["line 4", "aws"]),
            ("join_endpoint = \"ftp://x\"\n", &["line 4", "join_endpoint"]),
            ("drain_timeout = \"soon\"\n", &["line 4", "drain_timeout", "30s"]),
            ("[docker]\nsocket = \"relative\"\n", &["line 5", "docker.socket"]),
            ("[docker]\nmin_runc = \"new\"\n", &["line 5", "docker.min_runc", "1.2.8"]),
            ("[[mounts]]\nname = \"State\"\nsource = \"/a\"\ntarget = \"/b\"\n", &["mounts.name", "State"]),
            ("[[mounts]]\nname = \"a\"\nsource = \"/a\"\ntarget = \"/longshore\"\n", &["mounts.target", "/longshore"]),
            ("[[mounts]]\nname = \"a\"\nsource = \"/a\"\n", &["target"]),
            ("[limits]\ncpus = -1.0\n", &["limits.cpus"]),
            ("[cloud]\nprovider = \"mars\"\n", &["line 5", "provider"]),
            ("[cloud]\nlifecycle_hook = \"drain\"\n", &["cloud.lifecycle_hook", "aws"]),
            (
                "[cloud]\nprovider = \"aws\"\nmetadata_endpoint = \"169.254.169.254\"\n",
                &["metadata_endpoint", "http://"],
            ),
            ("[cloud]\nprovider = \"gcp\"\npoll_interval = \"0s\"\n", &["line 6", "cloud.poll_interval"]),
            ("[[registries]]\nhost = \"ghcr.io\"\n", &["registries", "ghcr.io", "exactly one"]),
            ("[[registries]]\nhost = \"ghcr.io\"\npassword = \"hunter2\"\n", &["line 6", "password_file"]),
        ];
        for (more, words) in cases {
            let err = load(&format!("{GOOD}{more}"), &[], Flags::default()).unwrap_err();
            for word in words {
                assert!(!err.contains("hunter2"), "{err}");
                assert!(err.contains(word), "{more:?}: `{word}` is not in: {err}");
            }
        }
    }

    #[test]
    fn a_cloud_is_read_from_file_and_environment() {
        let text = format!(
            "{GOOD}cancel_grace = \"3m\"\n[cloud]\nprovider = \"aws\"\nlifecycle_hook = \"drain\"\nscale_in_protection = true\nsave_time = \"90s\"\n"
        );
        let env = [
            ("LONGSHORE_AGENT__CLOUD__API_ENDPOINT", "https://vpce.example"),
            ("LONGSHORE_AGENT__CLOUD__SAVE_TIME", "45s"),
        ];
        let config = load(&text, &env, Flags::default()).unwrap();
        assert_eq!(config.cancel_grace, Duration::from_secs(180));
        let expected = Cloud {
            provider: Provider::Aws,
            lifecycle_hook: Some("drain".to_owned()),
            scale_in_protection: true,
            save_time: Duration::from_secs(45),
            api_endpoint: Some("https://vpce.example".parse().unwrap()),
            ..Cloud::default()
        };
        assert_eq!(config.cloud, expected);
    }

    #[test]
    fn what_has_to_be_there_is_asked_for() {
        assert!(load("", &[], Flags::default()).unwrap_err().contains("`controller`"));
        for bad in ["http://a:1", "https://a", "https://a:0", "https://a:1/x", "a:1", "https://:1"] {
            let err = load(&GOOD.replace("https://10.0.0.5:7443", bad), &[], Flags::default()).unwrap_err();
            assert!(err.contains("controller") && err.contains("line 1"), "{bad}: {err}");
        }
        assert!(load(&GOOD.replace("https://10.0.0.5:7443", "https://[::1]:7443"), &[], Flags::default()).is_ok());
    }

    #[test]
    fn the_proxy_of_the_file_goes_over_that_of_the_environment() {
        let environment = [("HTTPS_PROXY", "http://env:1")];
        let proxy = |more: &str| {
            let config = load(&format!("{GOOD}{more}"), &environment, Flags::default());
            config.map(|config| config.proxy.map(|proxy| (proxy.to_string(), proxy.credentials)))
        };
        assert_eq!(proxy("").unwrap(), Some(("http://env:1".to_owned(), None)));
        assert_eq!(proxy("proxy = \"none\"\n").unwrap(), None);
        let own = proxy("proxy = \"http://own:2\"\nproxy_credentials_file = \"/etc/p\"\n").unwrap();
        assert_eq!(own, Some(("http://own:2".to_owned(), Some(Credentials::File("/etc/p".into())))));
        let error = proxy("proxy = \"http://u:hunter2@own:2\"\n").unwrap_err();
        assert!(error.contains("`proxy` (line 4)") && !error.contains("hunter2"), "{error}");
        assert!(proxy("proxy_credentials_file = \"/etc/p\"\n").unwrap_err().contains("proxy_credentials_file"));
    }

    #[test]
    fn the_example_is_taken_as_it_stands() {
        let config = load(include_str!("../../examples/agent.toml"), &[], Flags::default()).unwrap();
        assert_eq!((config.name.as_str(), config.limits.cpus, config.mounts.len()), ("worker-1", Some(2.0), 1));
    }

    #[test]
    fn a_wrong_environment_variable_is_named() {
        for (name, value) in [
            ("LONGSHORE_LOG_FORMAT", "xml"),
            ("LONGSHORE_AGENT__SLOTZ", "1"),
            ("LONGSHORE_AGENT__SLOTS", "many"),
            ("LONGSHORE_AGENT__DOCKER__X", "1"),
        ] {
            let err = load(GOOD, &[(name, value)], Flags::default()).unwrap_err();
            assert!(err.contains(name), "{err}");
        }
    }
}
