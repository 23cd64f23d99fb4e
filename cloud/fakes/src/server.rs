//! A server with a state behind a lock: a request is answered by a function of both.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// HTTP's method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Header fields, names in lowercase.
    pub headers: Vec<(String, String)>,
    /// What was sent.
    pub body: String,
}

impl Asked {
    /// A header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of a form, or of the path's query; decoded as far as these fakes need it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let pairs = self.body.split('&').chain(query.split('&')).filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.replace("%3A", ":").replace("%2F", "/"))
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A success.
    #[must_use]
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// A refusal.
    #[must_use]
    pub fn refuse(status: u16, body: impl Into<String>) -> Self {
        Self { status, ..Self::ok(body) }
    }

    /// There is nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::refuse(404, "<html><body><h1>404 - Not Found</h1></body></html>")
    }
}

struct Inner<S> {
    state: Mutex<(S, Vec<Asked>)>,
    changed: Condvar,
}

/// A running server. Dropping it ends it.
pub struct Fake<S> {
    inner: Arc<Inner<S>>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl<S> std::fmt::Debug for Fake<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Fake<S> {
    /// Starts one.
    #[must_use]
    pub fn start(state: S, answer: impl Fn(&mut S, &Asked) -> Option<Answer> + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { state: Mutex::new((state, Vec::new())), changed: Condvar::new() });
        let shared = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A broken connection is the other side's affair; no request at all is the end.
                match read(&stream) {
                    Some(asked) if asked.method == "STOP" => return,
                    Some(asked) => {
                        let answer = {
                            let mut state = lock(&shared.state);
                            let answer = answer(&mut state.0, &asked);
                            state.1.push(asked);
                            answer
                        };
                        shared.changed.notify_all();
                        if let Some(answer) = answer {
                            write(&stream, &answer);
                        }
                    }
                    None => {}
                }
            }
        });
        Self { inner, address, thread: Some(thread) }
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at the state, and changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let result = change(&mut lock(&self.inner.state).0);
        self.inner.changed.notify_all();
        result
    }

    /// What was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.inner.state).1.clone()
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not within a minute, which is far beyond anything that is waited for.
    pub fn until<T>(&self, what: &str, mut is: impl FnMut(&mut S, &[Asked]) -> Option<T>) -> T {
        let mut state = lock(&self.inner.state);
        loop {
            let (inside, asked) = &mut *state;
            if let Some(found) = is(inside, asked) {
                return found;
            }
            let (next, late) = self.inner.changed.wait_timeout(state, Duration::from_secs(60)).unwrap();
            assert!(
                !late.timed_out(),
                "waited for {what}; asked was {:#?}",
                next.1.iter().rev().take(10).collect::<Vec<_>>()
            );
            state = next;
        }
    }
}

impl<S> Drop for Fake<S> {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _told = stream.write_all(b"STOP / HTTP/1.1\r\n\r\n");
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn lock<S>(state: &Mutex<(S, Vec<Asked>)>) -> MutexGuard<'_, (S, Vec<Asked>)> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn read(stream: &TcpStream) -> Option<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn write(mut stream: &TcpStream, answer: &Answer) {
    let mut text =
        format!("HTTP/1.1 {} Said\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&answer.body);
    let _written = stream.write_all(text.as_bytes());
}
