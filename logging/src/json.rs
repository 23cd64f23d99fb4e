//! One event as one JSON object, with the fields of its spans.

use std::error::Error;
use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes the lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut at = String::new();
        SystemTime.format_time(&mut Writer::new(&mut at))?;
        let mut line = Line(Map::new());
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            // The fields of a span are kept as the object that `JsonFields` made of them.
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
            if let Ok(Value::Object(fields)) = serde_json::from_str(fields) {
                line.0.extend(fields);
            }
        }
        event.record(&mut line);
        let metadata = event.metadata();
        let mut put = |key: &str, value: &str| line.0.insert(key.to_owned(), Value::String(value.to_owned()));
        put("timestamp", &at);
        put("level", metadata.level().as_str());
        put("target", metadata.target());
        line.0.entry("message").or_insert_with(|| Value::String(String::new()));
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// Collects the fields of an event.
struct Line(Map<String, Value>);

impl Line {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::subscriber::with_default;

    use super::*;
    use crate::json_to;

    fn lines(level: &str, work: impl FnOnce()) -> Vec<Value> {
        let log = tempfile::NamedTempFile::new().unwrap();
        with_default(json_to(level.parse().unwrap(), Arc::new(log.reopen().unwrap())), work);
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn ids_of_spans_stand_in_the_line_and_the_nearest_wins() {
        let lines = lines("info", || {
            let outer =
                tracing::error_span!("request", request_id = "req_1", step = 1, deployment = tracing::field::Empty);
            outer.in_scope(|| {
                outer.record("deployment", "dep_1");
                tracing::error_span!("attempt", step = 2)
                    .in_scope(|| tracing::info!(status = 200_u16, ok = true, "done"));
                tracing::info!(step = 3, "again");
            });
            tracing::info!("outside");
        });
        assert_eq!((&lines[0]["request_id"], &lines[0]["deployment"]), (&Value::from("req_1"), &Value::from("dep_1")));
        assert_eq!(
            (&lines[0]["step"], &lines[0]["status"], &lines[0]["ok"]),
            (&Value::from(2), &Value::from(200), &Value::from(true))
        );
        assert_eq!((&lines[1]["step"], &lines[1]["message"]), (&Value::from(3), &Value::from("again")));
        assert_eq!(lines[2].get("request_id"), None);
        for line in &lines {
            assert_eq!(line["level"], "INFO");
            assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["target"].is_string(), "{line}");
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it_and_says_the_causes_of_an_error() {
        let cause = std::io::Error::other("disk\nfull \u{1b}[31m\"");
        let lines = lines("info", || {
            let error = Box::new(Outer(cause));
            tracing::error!(error = &*error as &dyn Error, "a\nb");
            // What a line says of itself cannot be forged by a field.
            tracing::error!(level = "TRACE", "plain");
        });
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["error"], "outer: disk\nfull \u{1b}[31m\"");
        assert_eq!(lines[0]["message"], "a\nb");
        assert_eq!(lines[1]["level"], "ERROR");
    }

    /// Spans that carry ids are made at the level `error`: with a filter of warnings their ids are still there.
    #[test]
    fn ids_are_there_with_every_filter() {
        let lines = lines("warn", || {
            tracing::error_span!("call", agent = "agt_1").in_scope(|| tracing::warn!("careful"));
        });
        assert_eq!(lines[0]["agent"], "agt_1");
    }

    #[test]
    fn what_is_logged_is_said_for_everything_and_for_targets() {
        let logged = |filter| {
            let lines = lines(filter, || {
                tracing::error!("one");
                tracing::info!("two");
                tracing::debug!(target: "other::part", "three");
                tracing::trace!("four");
            });
            lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        for (filter, wanted) in [
            ("info", "one two"),
            ("INFO, ", "one two"),
            ("info, other=debug", "one two three"),
            ("warn,other::part=trace", "one three"),
            ("longshore_logging", "one two four"),
            ("trace,longshore_logging=off", "three"),
            ("off", ""),
            ("", "one"),
        ] {
            assert_eq!(logged(filter), wanted, "{filter}");
        }
        for bad in ["a=b=c", "longshore_agent=loud"] {
            assert!(bad.parse::<crate::Filter>().is_err(), "{bad}");
        }
    }

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
}
