//! What is set from outside: a TOML file, over it the environment, over both the few flags.
//!
//! Loading binds no port and makes no file. What [`Config`] holds has been checked, so whoever gets one need not ask again.
//! Every field is described in `docs/controller-config.md`.

mod env;
mod file;
mod join;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::artifacts::Limits;
use rustls_pki_types::ServerName;

use crate::engine::{Settings, sources};
use crate::identity;
use crate::scaler;
use crate::secrets;
use crate::secrets::kek::Source;
use crate::telemetry::Format;
use crate::trace;
use file::{File, Tracing};

/// Silence after which an agent counts as gone, when nothing else is said.
const LEASE: Duration = Duration::from_secs(30);
/// Largest package, when nothing else is said: 1 GiB.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;
/// How long agents' certificates are valid, when nothing else is said.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(24 * 3_600);
/// How long requests may take to end at a stop, when nothing else is said.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Why a configuration is refused. Each message names the place: file and line, variable, or field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not as it should be; the message has line and field.
    #[error("`{}`: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, field and what is wrong.
        message: String,
    },
    /// A variable of the environment is not as it should be.
    #[error("environment variable `{name}`: {message}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Values that do not go together, or one that is missing.
    #[error("`{field}`: {message}")]
    Field {
        /// As in the file, with its section: `api.tls_key`.
        field: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
    /// A certificate or key that cannot be used.
    #[error(transparent)]
    Tls(#[from] identity::Error),
}

/// Everything that is set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Largest package that is taken, in bytes.
    pub max_package_bytes: u64,
    /// How long requests may take to end at a stop.
    pub shutdown_grace: Duration,
    /// What people and scripts use.
    pub api: Api,
    /// What agents use.
    pub agents: Agents,
    /// How much one address may hold of each of both.
    pub connections: identity::Limits,
    /// What is written about it.
    pub log: Log,
    /// What the engine goes by.
    pub engine: Settings,
    /// Where the key of the secrets comes from.
    pub secrets: secrets::Settings,
    /// Where traces go; `None`: none are sent.
    pub tracing: Option<trace::Settings>,
    /// What machines of clouds are verified against.
    pub join: identity::cloud::Settings,
    /// What the scaler goes by.
    pub scaling: scaler::Settings,
}

/// The API.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate chain and key in PEM; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where people find it, without a `/` at the end.
    pub public_url: String,
}

/// The agents' plane.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Further names and addresses in its certificate.
    pub names: Vec<String>,
    /// How long agents' certificates are valid.
    pub certificate_validity: Duration,
}

/// The program's own log, on standard error.
#[derive(Debug, Clone)]
pub struct Log {
    /// A filter as in `info,longshore_controller=debug`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

impl Config {
    /// Reads a file, lays `variables` (of the environment) over it and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_text(path, &text, variables)
    }

    fn from_text(
        path: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut file: File = toml::from_str(text)
            .map_err(|e| Error::File { path: path.to_owned(), message: e.to_string().trim_end().to_owned() })?;
        env::overlay(&mut file, variables)?;
        check(file)
    }
}

fn field(field: &'static str, message: impl Into<String>) -> Error {
    Error::Field { field, message: message.into() }
}

fn check(file: File) -> Result<Config, Error> {
    let data_dir = file.data_dir.filter(|path| !path.as_os_str().is_empty());
    let data_dir = data_dir
        .ok_or_else(|| field("data_dir", "it is missing: name the directory where the controller keeps everything"))?;
    let max_package_bytes = file.max_package_bytes.unwrap_or(MAX_PACKAGE_BYTES);
    if max_package_bytes == 0 {
        return Err(field("max_package_bytes", "it is 0: no package could ever be stored"));
    }
    let api = check_api(file.api)?;
    let validity = file.agents.certificate_validity.map_or(CERTIFICATE_VALIDITY, |d| d.0);
    check_range("agents.certificate_validity", validity, Duration::from_secs(600), Duration::from_secs(366 * 86_400))?;
    let names = file.agents.names.unwrap_or_default();
    if let Some(bad) = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
        return Err(field(
            "agents.names",
            format!("`{bad}` is neither a host name nor an address (write it without port and scheme)"),
        ));
    }
    let listen = file.agents.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8441));
    if listen.port() != 0
        && listen.port() == api.listen.port()
        && (listen.ip() == api.listen.ip() || listen.ip().is_unspecified() || api.listen.ip().is_unspecified())
    {
        return Err(field(
            "agents.listen",
            format!("`{listen}` is where the API listens: give one of them another port"),
        ));
    }
    let mut engine =
        check_engine(&file.lease, &file.heartbeat, &file.max_disconnected, &file.cancel_grace, &api.public_url)?;
    engine.sources = check_sources(file.sources)?;
    let Tracing { endpoint, sample, headers_file, ca_file } = file.tracing;
    let tracing =
        trace::check(endpoint, sample, headers_file, ca_file).map_err(|(name, message)| field(name, message))?;
    let engine = Settings {
        traced: tracing.as_ref().map(|tracing| tracing.part),
        artifacts: check_artifacts(&engine, file.max_artifact_bytes, file.max_step_artifact_bytes)?,
        ..engine
    };
    let connections = check_connections(&file.connections)?;
    let silence = file.agents.ephemeral_silence.map_or(engine.ephemeral_silence, |d| d.0);
    check_range("agents.ephemeral_silence", silence, engine.lease, Duration::from_secs(30 * 86_400))?;
    let engine = Settings { ephemeral_silence: silence, ..engine };
    let log = check_log(file.log)?;
    let secrets = check_secrets(file.secrets)?;
    let scaling = check_scaling(file.scaling)?;
    Ok(Config {
        data_dir,
        max_package_bytes,
        shutdown_grace: file.shutdown_grace.map_or(SHUTDOWN_GRACE, |d| d.0),
        api,
        agents: Agents { listen, names, certificate_validity: validity },
        connections,
        log,
        engine,
        secrets,
        tracing,
        join: join::check(file.join)?,
        scaling,
    })
}

fn check_api(file: file::Api) -> Result<Api, Error> {
    let listen = file.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8440));
    let tls = match (file.tls_cert, file.tls_key) {
        (Some(certificate), Some(key)) => {
            identity::api_from_files(&certificate, &key)?;
            Some((certificate, key))
        }
        (None, None) => None,
        (Some(_), None) => {
            return Err(field("api.tls_key", "it is missing, `api.tls_cert` is there: HTTPS needs both"));
        }
        (None, Some(_)) => {
            return Err(field("api.tls_cert", "it is missing, `api.tls_key` is there: HTTPS needs both"));
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let public_url = file.public_url.unwrap_or_else(|| format!("{scheme}://{listen}"));
    let url: axum::http::Uri =
        public_url.parse().map_err(|_| field("api.public_url", format!("`{public_url}` is not a URL")))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(field(
            "api.public_url",
            format!("`{public_url}` is not of the form `https://longshore.example.com`"),
        ));
    }
    Ok(Api { listen, tls, public_url: public_url.trim_end_matches('/').to_owned() })
}

fn check_engine(
    lease: &Option<file::Span>,
    heartbeat: &Option<file::Span>,
    max_disconnected: &Option<file::Span>,
    grace: &Option<file::Span>,
    url: &str,
) -> Result<Settings, Error> {
    let default = Settings::default();
    let lease = lease.map_or(LEASE, |d| d.0);
    check_range("lease", lease, Duration::from_secs(1), Duration::from_secs(3_600))?;
    // A lease has to outlive a lost heartbeat or two. On the wire they are whole seconds.
    let heartbeat =
        heartbeat.map_or_else(|| default.heartbeat.min(Duration::from_secs((lease.as_secs() / 3).max(1))), |d| d.0);
    check_range("heartbeat", heartbeat, Duration::from_secs(1), Duration::from_secs(60))?;
    if heartbeat > lease {
        return Err(field(
            "heartbeat",
            format!(
                "agents would be given up between two heartbeats: it is longer than `lease` ({} s)",
                lease.as_secs()
            ),
        ));
    }
    let max_disconnected = max_disconnected.map_or(default.max_disconnected, |d| d.0);
    let grace = grace.map_or(default.grace, |d| d.0);
    check_range("cancel_grace", grace, Duration::from_secs(1), Duration::from_secs(24 * 3_600))?;
    Ok(Settings { lease, heartbeat, max_disconnected, grace, url: url.to_owned(), ..default })
}

/// How much is kept of what a step leaves; 0 for all of it: nothing.
fn check_artifacts(default: &Settings, file: Option<u64>, total: Option<u64>) -> Result<Option<Limits>, Error> {
    let default = default.artifacts.unwrap_or(Limits { file_bytes: 0, total_bytes: 0 });
    let total_bytes = total.unwrap_or(default.total_bytes);
    if total_bytes == 0 {
        return Ok(None);
    }
    let file_bytes = file.unwrap_or_else(|| default.file_bytes.min(total_bytes));
    if file_bytes == 0 || file_bytes > total_bytes {
        return Err(field(
            "max_artifact_bytes",
            format!(
                "`{file_bytes}` is not between 1 and `max_step_artifact_bytes` ({total_bytes}); to keep nothing set that to 0"
            ),
        ));
    }
    Ok(Some(Limits { file_bytes, total_bytes }))
}

fn check_sources(file: file::Sources) -> Result<sources::Settings, Error> {
    let default = sources::Settings::default();
    let protocols = match file.protocols {
        Some(names) => {
            let read =
                names.iter().map(|name| name.parse().map_err(|message: String| field("sources.protocols", message)));
            read.collect::<Result<_, _>>()?
        }
        None => default.protocols,
    };
    let (bytes, at_once) = (file.max_bytes.unwrap_or(default.bytes), file.at_once.unwrap_or(default.at_once));
    if bytes == 0 {
        return Err(field("sources.max_bytes", "it is 0: no commit could ever be fetched"));
    }
    if !(1..=100).contains(&at_once) {
        return Err(field("sources.at_once", format!("`{at_once}` is not between 1 and 100")));
    }
    let time = file.timeout.map_or(default.time, |d| d.0);
    check_range("sources.timeout", time, Duration::from_secs(1), Duration::from_secs(3_600))?;
    Ok(sources::Settings { protocols, bytes, time, at_once })
}

fn check_scaling(file: file::Scaling) -> Result<scaler::Settings, Error> {
    let default = scaler::Settings::default();
    let interval = file.interval.map_or(default.interval, |d| d.0);
    check_range("scaling.interval", interval, Duration::from_secs(1), Duration::from_secs(600))?;
    let command_timeout = file.command_timeout.map_or(default.command_timeout, |d| d.0);
    check_range("scaling.command_timeout", command_timeout, Duration::from_secs(1), Duration::from_secs(3_600))?;
    let commands = file.commands.unwrap_or_default();
    if let Some((name, _)) = commands.iter().find(|(_, argv)| argv.first().is_none_or(String::is_empty)) {
        return Err(field("scaling.commands", format!("`{name}` is empty: write program and arguments")));
    }
    let endpoint = |name, text: Option<String>| {
        text.map(|text| text.parse().map_err(|error: longshore_cloud::InvalidEndpoint| field(name, error.to_string())))
            .transpose()
    };
    Ok(scaler::Settings {
        interval,
        commands,
        command_timeout,
        aws_endpoint: endpoint("scaling.aws_endpoint", file.aws_endpoint)?,
        gcp_endpoint: endpoint("scaling.gcp_endpoint", file.gcp_endpoint)?,
        azure_endpoint: endpoint("scaling.azure_endpoint", file.azure_endpoint)?,
        metadata_endpoint: endpoint("scaling.metadata_endpoint", file.metadata_endpoint)?,
    })
}

fn check_range(name: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let text = longshore_core::spec::duration::format;
    Err(field(name, format!("`{}` is not between `{}` and `{}`", text(value), text(least), text(most))))
}

fn check_connections(file: &file::Connections) -> Result<identity::Limits, Error> {
    let default = identity::Limits::default();
    let handshake = file.handshake_timeout.map_or(default.handshake, |d| d.0);
    check_range("connections.handshake_timeout", handshake, Duration::from_secs(1), Duration::from_secs(120))?;
    let number = |name: &'static str, set: Option<u32>, otherwise: u32| match set {
        Some(0) => Err(field(name, "it is 0: nobody could connect")),
        set => Ok(set.unwrap_or(otherwise)),
    };
    let handshakes =
        ("connections.handshakes_per_address", file.handshakes_per_address, default.handshakes_per_address);
    Ok(identity::Limits {
        handshake,
        handshakes_per_address: number(handshakes.0, handshakes.1, handshakes.2)?,
        per_address: number("connections.per_address", file.per_address, default.per_address)?,
        in_all: number("connections.in_all", file.in_all, default.in_all)?,
        count_loopback: file.count_loopback.unwrap_or(default.count_loopback),
        ..default
    })
}

fn check_secrets(file: file::Secrets) -> Result<secrets::Settings, Error> {
    let kek = source("secrets.kek_file", file.kek_file, file.kek_env, file.kek_command)?;
    let previous =
        source("secrets.previous_kek_file", file.previous_kek_file, file.previous_kek_env, file.previous_kek_command)?;
    let kek = kek.unwrap_or_default();
    if previous.as_ref() == Some(&kek) {
        return Err(field("secrets.previous_kek_file", "it says the same as the new one: leave it out"));
    }
    Ok(secrets::Settings { kek, previous })
}

/// The one that is set of three; `name`: the first of them.
fn source(
    name: &'static str,
    file: Option<PathBuf>,
    env: Option<String>,
    command: Option<Vec<String>>,
) -> Result<Option<Source>, Error> {
    match (file, env, command) {
        (None, None, None) => Ok(None),
        (Some(path), None, None) if !path.as_os_str().is_empty() => Ok(Some(Source::File(path))),
        (None, Some(variable), None) if !variable.is_empty() => Ok(Some(Source::Env(variable))),
        (None, None, Some(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => {
            Ok(Some(Source::Command(argv)))
        }
        (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) => Err(field(
            name,
            "the place of the key is empty: write a path, the name of a variable, or program and arguments",
        )),
        _ => Err(field(name, "the key has one place: set one of `..._file`, `..._env` and `..._command`")),
    }
}

fn check_log(file: file::Log) -> Result<Log, Error> {
    let level = file.level.unwrap_or_else(|| "info".to_owned());
    level.parse::<longshore_logging::Filter>().map_err(|e| {
        field("log.level", format!("`{level}` is no filter ({e}): write `info`, or `info,longshore_controller=debug`"))
    })?;
    Ok(Log { level, format: file.format.unwrap_or_default() })
}

#[cfg(test)]
mod tests;
