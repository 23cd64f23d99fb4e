//! Where traces go, as the configuration says it.

use std::path::{Path, PathBuf};

use longshore_core::secret::Secret;

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector, `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// The part of the traces that no caller began that is sent, from 0 to 1.
    pub part: f64,
    /// Sent with each call.
    pub headers: Headers,
    /// Certificates in PEM of the authorities that vouch for the collector; `None`: those of the system.
    pub ca: Option<Vec<u8>>,
}

/// Names and values; the values may be tokens.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub Vec<(String, Secret)>);

/// Why settings are refused: the field, and what is wrong with it.
type Wrong = (&'static str, String);

/// The settings of the section `[tracing]`; `None`: no traces are sent.
///
/// # Errors
/// The field that is wrong and why.
pub(crate) fn check(
    endpoint: Option<String>,
    sample: Option<f64>,
    headers: Option<PathBuf>,
    ca: Option<PathBuf>,
) -> Result<Option<Settings>, Wrong> {
    let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
        return match (sample, &headers, &ca) {
            (None, None, None) => Ok(None),
            _ => Err(("tracing.endpoint", "it is missing, and nothing is sent without it".to_owned())),
        };
    };
    if cfg!(not(feature = "otlp")) {
        return Err(("tracing.endpoint", "this controller was built without `otlp`, so it sends no traces".to_owned()));
    }
    let url: axum::http::Uri =
        endpoint.parse().map_err(|_| ("tracing.endpoint", format!("`{endpoint}` is not a URL")))?;
    let (scheme, path) = (url.scheme_str(), url.path());
    if !matches!(scheme, Some("http" | "https")) || url.host().is_none_or(str::is_empty) || !matches!(path, "" | "/") {
        let message = format!("`{endpoint}` is not of the form `http://HOST:4317`: OTLP over gRPC, without a path");
        return Err(("tracing.endpoint", message));
    }
    let part = sample.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&part) {
        return Err(("tracing.sample", format!("`{part}` is not between 0 and 1")));
    }
    if scheme == Some("http") && ca.is_some() {
        return Err(("tracing.ca_file", "it is of no use: `tracing.endpoint` is not `https`".to_owned()));
    }
    let headers = headers.map(|path| read_headers(&path)).transpose()?.unwrap_or_default();
    let ca = ca.map(|path| read("tracing.ca_file", &path)).transpose()?.map(String::into_bytes);
    Ok(Some(Settings { endpoint, part, headers, ca }))
}

fn read(field: &'static str, path: &Path) -> Result<String, Wrong> {
    std::fs::read_to_string(path).map_err(|error| (field, format!("cannot read `{}`: {error}", path.display())))
}

/// Lines of the form `name: value`; empty ones and those that begin with `#` say nothing.
fn read_headers(path: &Path) -> Result<Headers, Wrong> {
    let text = read("tracing.headers_file", path)?;
    let mut headers = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Not the line itself: it may hold a token.
        let wrong = || {
            ("tracing.headers_file", format!("line {number} of `{}` is not of the form `name: value`", path.display()))
        };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let proper =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        if name.is_empty() || !proper || name.ends_with("-bin") || !value.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
            return Err(wrong());
        }
        headers.push((name, Secret::new(value.to_owned())));
    }
    Ok(Headers(headers))
}
