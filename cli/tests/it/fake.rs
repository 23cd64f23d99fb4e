//! A fake server: answers the requests that come with what a script says, in order, and remembers them.
//!
//! It speaks just enough HTTP/1.1 for these tests: one request a connection.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// What the fake does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer.
    Answer { status: u16, content_type: &'static str, body: Vec<u8> },
    /// An answer with a header of its own.
    With { status: u16, header: &'static str, body: &'static str },
    /// The connection is closed without an answer.
    Close,
    /// The head of a good answer and this much of its body, which was announced to be longer; then the connection is closed.
    Cut(Vec<u8>),
    /// An event stream that starts with this and stays open until the client goes.
    Hold(Vec<u8>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Answer { status, content_type: "application/json", body: body.as_bytes().to_vec() }
    }

    pub(crate) fn problem(status: u16, code: &str, detail: &str, hint: &str) -> Self {
        let body = serde_json::json!({"type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail, "hint": hint});
        Self::Answer { status, content_type: "application/problem+json", body: body.to_string().into_bytes() }
    }

    pub(crate) fn bytes(body: &[u8]) -> Self {
        Self::Answer { status: 200, content_type: "application/octet-stream", body: body.to_vec() }
    }

    pub(crate) fn events(events: &[(&str, &str, &str)]) -> Self {
        Self::Answer { status: 200, content_type: "text/event-stream", body: stream(events) }
    }
}

/// Events as (name, id, data), as they are sent.
pub(crate) fn stream(events: &[(&str, &str, &str)]) -> Vec<u8> {
    let one = |(name, id, data): &(&str, &str, &str)| {
        let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
        format!("event: {name}\n{id}data: {data}\n\n")
    };
    events.iter().map(one).collect::<String>().into_bytes()
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// For example `GET /api/v1/agents`.
    pub(crate) line: String,
    /// Names in lowercase.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A running fake. Its thread ends with the test process.
pub(crate) struct Fake {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(crate) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let mut script = script.into_iter().collect::<VecDeque<_>>();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, move |_| script.pop_front())
    }

    /// Answers on a listener as `answer` says, until that says nothing.
    pub(crate) fn on(listener: TcpListener, mut answer: impl FnMut(&str) -> Option<Reply> + Send + 'static) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&stream) else { continue };
                let reply = answer(&request.line);
                remembered.lock().unwrap().push(request);
                let Some(reply) = reply else { return };
                serve(stream, reply);
            }
        });
        Self { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines, without the common start of the path.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.line.replace("/api/v1/", "")).collect()
    }

    /// The command, set up to talk to this fake.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("LONGSHORE_URL", &self.url).env("LONGSHORE_TOKEN", "t0ken");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }
}

/// The command, with nothing of the environment that could lead it elsewhere.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.args(args);
    for name in ["LONGSHORE_URL", "LONGSHORE_TOKEN", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

fn serve(mut stream: TcpStream, reply: Reply) {
    // The client may be gone before everything is written; the test looks at the client.
    let _client_gone = match reply {
        Reply::Close => Ok(()),
        Reply::Answer { status, content_type, body } => write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .and_then(|()| stream.write_all(&body)),
        Reply::With { status, header, body } => write!(
            stream,
            "HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
        Reply::Cut(body) => write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
            body.len() + 1000
        )
        .and_then(|()| stream.write_all(&body)),
        Reply::Hold(body) => write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            .and_then(|()| stream.write_all(&body))
            .and_then(|()| stream.read_to_end(&mut Vec::new()).map(drop)),
    };
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0).map(|_| line.trim_end().to_owned())
    };
    let line = next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = Vec::new();
    while let Some((name, value)) =
        next()?.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    {
        headers.push((name, value));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body })
}
