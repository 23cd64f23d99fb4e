//! Server-sent events, read from a stream of bytes.
//!
//! The format is that of the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream": UTF-8, lines ended by LF, CR
//! or CRLF, an event ended by an empty line. Any split of the bytes gives the same events. An event that never ends is an
//! error, so that memory stays bounded.

/// Longest event in bytes.
pub const MAX_EVENT: usize = 32 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` when the stream did not say.
    pub name: String,
    /// Its data; several `data` lines are joined by newlines.
    pub data: String,
    /// The id in force when it came: where to resume after it.
    pub id: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No empty line came for too long.
    #[error("the server sent an event of more than {MAX_EVENT} bytes")]
    TooLong,
}

/// Reads events from chunks of bytes, wherever they were cut.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    started: bool,
    name: String,
    data: Option<String>,
    id: String,
}

impl Parser {
    /// Takes the next bytes and gives the events that are complete with them.
    ///
    /// # Errors
    /// [`Error::TooLong`]; the parser is of no use after it.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(Event)) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                break;
            };
            let (head, tail) = rest.split_at(end);
            self.line.extend_from_slice(head);
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            if let Some(complete) = self.line(&line) {
                event(complete);
            }
            self.check_length()?;
        }
        self.check_length()
    }

    fn check_length(&self) -> Result<(), Error> {
        let length = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if length > MAX_EVENT { Err(Error::TooLong) } else { Ok(()) }
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let text = String::from_utf8_lossy(line);
        // A byte order mark may stand before the first line only.
        let text = if std::mem::replace(&mut self.started, true) {
            &*text
        } else {
            text.strip_prefix('\u{feff}').unwrap_or(&text)
        };
        if text.is_empty() {
            return self.dispatch();
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments (an empty field name) keep the connection alive; other fields are for later versions.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = "\u{feff}: hello\nevent: log\nid: infra:10\ndata: {\"a\":1}\n\ndata\r\rid:x\r\ndata:  two\r\ndata:lines é\r\n\r\n:\n\nevent: end\ndata: {}\n\ndata: cut off".as_bytes();

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.push(chunk, |event| events.push(event)).unwrap();
        }
        events
    }

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn reads_what_the_standard_says() {
        let expected = [
            event("log", "{\"a\":1}", "infra:10"),
            event("message", "", "infra:10"),
            event("message", " two\nlines é", "x"),
            event("end", "{}", "x"),
        ];
        assert_eq!(read([STREAM]), expected);
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let whole = read([STREAM]);
        for first in 0..=STREAM.len() {
            let (head, tail) = STREAM.split_at(first);
            for second in 0..=tail.len() {
                let (middle, end) = tail.split_at(second);
                assert_eq!(read([head, middle, end]), whole, "split at {first} and {second}");
            }
        }
        assert_eq!(read(STREAM.chunks(1)), whole);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; MAX_EVENT / 2 + 1];
        assert_eq!(parser.push(&chunk, drop), Ok(()));
        assert_eq!(parser.push(&chunk, drop), Err(Error::TooLong));
    }
}
