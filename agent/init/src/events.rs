//! The event pipe: lines of JSON in, records of typed, masked events out.

use crate::outputs::Outputs;
use crate::spool::Spool;
use longshore_core::engine_event::{EngineEvent, Kind, stack_outputs};
use longshore_core::redact::Patterns;
use longshore_core::spool::Stream;

/// Longest line that is read as an event. The engine's lines hold whole resources, so they can be long.
const MAX_LINE: usize = 16 << 20;

/// Puts lines together and turns each into a record.
#[derive(Debug)]
pub struct Events {
    patterns: Patterns,
    line: Vec<u8>,
    /// Length of the line so far if it is too long to be kept.
    overlong: Option<u64>,
    /// Whether to take the stack's outputs.
    capture: bool,
    /// Whether to keep what a preview would change with its values.
    values: bool,
    outputs: Outputs,
}

impl Events {
    /// Masks free text with `patterns`; takes the stack's outputs if `capture`, and the values that a preview would change if `values`.
    #[must_use]
    pub fn new(patterns: Patterns, capture: bool, values: bool) -> Self {
        Self { patterns, line: Vec::new(), overlong: None, capture, values, outputs: Outputs::default() }
    }

    /// Takes the next bytes of the pipe.
    pub fn push(&mut self, bytes: &[u8], spool: &mut Spool) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if let Some(length) = &mut self.overlong {
                *length += text.len() as u64;
            } else if self.line.len() + text.len() > MAX_LINE {
                self.overlong = Some((self.line.len() + text.len()) as u64);
                self.line.clear();
            } else {
                self.line.extend_from_slice(text);
            }
            if ended {
                self.end_line(spool);
            }
        }
    }

    /// Ends the pipe, with a last line that has no line end. Returns the outputs taken.
    pub fn finish(mut self, spool: &mut Spool) -> Outputs {
        self.end_line(spool);
        self.outputs
    }

    fn end_line(&mut self, spool: &mut Spool) {
        let event = match self.overlong.take() {
            Some(length) => EngineEvent::unreadable(length),
            None if self.line.trim_ascii().is_empty() => return self.line.clear(),
            None => self.read(),
        };
        self.line.clear();
        if event.is_noise() {
            return;
        }
        if let Ok(json) = event.to_json() {
            spool.write(Stream::Events, &json);
        }
    }

    fn read(&mut self) -> EngineEvent {
        let patterns = &self.patterns;
        let mut event = EngineEvent::parse(&self.line, &mut |text| patterns.mask(text))
            .unwrap_or_else(|_| EngineEvent::unreadable(self.line.len() as u64));
        if self.values {
            event.add_values(&self.line, &mut |text| patterns.mask(text));
        }
        if self.capture
            && matches!(event.kind, Kind::ResourceEnd(_))
            && let Some(outputs) = stack_outputs(&self.line)
        {
            self.outputs = Outputs::from_map(outputs);
        }
        event
    }
}
