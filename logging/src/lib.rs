//! How the programs of Longshore write their own log on standard error: for people, or one JSON object a line.
//!
//! Invariants: a line as JSON is one object, whatever is in it, and has `timestamp`, `level`, `target` and `message`; the
//! fields of the spans that a line is written in (`deployment`, `attempt`, `agent`, `request_id`) stand in the object itself,
//! not in a list beside it, so that a search for an id needs to know nothing of spans. What is nearer to the line wins.

mod json;
mod panics;

use std::io::IsTerminal as _;
use std::str::FromStr;

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is neither `text` nor `json`")),
        }
    }
}

/// What is logged: levels, for everything (`info`) and for targets with all that is below them (`longshore_agent=debug`).
#[derive(Debug, Clone)]
pub struct Filter(Targets);

/// `info`.
impl Default for Filter {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        // Nothing at all stands for errors.
        if parts.is_empty() { "error".parse() } else { parts.join(",").parse() }.map(Self)
    }
}

/// Sends the process's log to standard error, its panics among it.
///
/// # Errors
/// When something has taken the process's log before.
pub fn init(filter: Filter, format: Format) -> Result<(), TryInitError> {
    match format {
        Format::Text => {
            let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
            builder.with_ansi(std::io::stderr().is_terminal()).finish().with(filter.0).try_init()?;
        }
        Format::Json => json_to(filter, std::io::stderr).try_init()?,
    }
    panics::to_the_log();
    Ok(())
}

/// A log of JSON lines that goes elsewhere; what [`init`] sets up for standard error.
pub fn json_to<W>(filter: Filter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(writer);
    builder.fmt_fields(JsonFields::new()).event_format(json::Lines).finish().with(filter.0)
}
