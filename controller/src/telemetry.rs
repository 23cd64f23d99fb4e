//! The program's own log lines (on standard error) and the registry of its metrics.

pub use longshore_logging::Format;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::config::Log;

/// Bounds of histograms in seconds, from a commit on a fast disk to a slow request.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else has taken the process's log.
    #[error("cannot set up the log")]
    Log(#[source] tracing_subscriber::util::TryInitError),
    /// The filter is none.
    #[error("`log.level` is no filter")]
    Level(#[source] tracing_subscriber::filter::ParseError),
    /// The bounds of histograms, or something else has taken the process's metrics.
    #[error("cannot set up metrics")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
}

/// Starts writing log lines.
///
/// # Errors
/// When it was done before in this process.
pub fn init_log(log: &Log) -> Result<(), Error> {
    let filter = log.level.parse().map_err(Error::Level)?;
    longshore_logging::init(filter, log.format).map_err(Error::Log)
}

/// Starts counting; the handle renders what was counted.
///
/// # Errors
/// When it was done before in this process.
pub fn init_metrics() -> Result<PrometheusHandle, Error> {
    builder()?.install_recorder().map_err(Error::Metrics)
}

/// A registry of its own, not the process's, for tests and for commands that serve nothing.
///
/// # Errors
/// When the bounds of histograms are refused.
pub fn detached_metrics() -> Result<PrometheusHandle, Error> {
    Ok(builder()?.build_recorder().handle())
}

fn builder() -> Result<PrometheusBuilder, Error> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(Error::Metrics)
}
