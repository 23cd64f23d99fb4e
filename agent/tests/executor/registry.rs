//! Pulls that fail, with a registry of the test's own: loopback ones are spoken to without TLS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use longshore_agent::executor::{Class, Error};

use crate::bench::Bench;

/// Answers every question for a manifest with this status and error code; counts them.
struct Registry {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    fn start(status: &'static str, code: &'static str) -> Self {
        Self::held(status, code).0
    }

    /// One that answers no question for a manifest before the other half is dropped.
    fn held(status: &'static str, code: &'static str) -> (Self, Sender<()>) {
        let (open, held) = channel::<()>();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, status, code, (&count, &held));
            }
        });
        (Self { at, asked }, open)
    }

    fn image(&self) -> String {
        format!("{}/longshore-test/private:1", self.at)
    }
}

/// One request a connection. A TLS client hello is no request and gets nothing, so the engine turns to plain HTTP.
fn answer(stream: &TcpStream, status: &str, code: &str, (count, held): (&AtomicUsize, &Receiver<()>)) {
    let mut lines = BufReader::new(stream).split(b'\n');
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let Ok(first) = String::from_utf8(first) else { return };
    if !first.contains("HTTP/1.1") {
        return;
    }
    while lines.next().and_then(Result::ok).is_some_and(|line| line != b"\r") {}
    let (status, body) = if first.contains("/manifests/") {
        count.fetch_add(1, Ordering::SeqCst);
        // Nothing is ever sent: this ends with the other half.
        held.recv().ok();
        (status, format!(r#"{{"errors":[{{"code":"{code}","message":"says the registry"}}]}}"#))
    } else {
        ("200 OK", "{}".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok();
    if !first.starts_with("HEAD") {
        stream.write_all(body.as_bytes()).ok();
    }
}

async fn refused(bench: &Bench, image: &str) -> String {
    let error = bench.executor.prepare_image(&image.into(), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Image { .. }) && error.class() == Class::Permanent, "{error}");
    assert!(error.to_string().contains(image), "{error}");
    error.to_string()
}

#[tokio::test]
async fn refused_pulls_name_the_image_and_the_cause() {
    let bench = Bench::new().await;
    for (status, code, says) in [
        ("404 Not Found", "MANIFEST_UNKNOWN", "check name and tag"),
        ("403 Forbidden", "DENIED", "denies access"),
        ("401 Unauthorized", "UNAUTHORIZED", "denies access"),
    ] {
        let registry = Registry::start(status, code);
        let text = refused(&bench, &registry.image()).await;
        assert!(text.contains(says), "{status}: {text}");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_tried_again_and_said() {
    let bench = Bench::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut reports = Vec::new();
    let image = format!("{closed}/longshore-test/away:1");
    let error = bench
        .executor
        .prepare_image(&image.as_str().into(), |progress| reports.push(progress.message))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot be reached") && error.to_string().contains(&image), "{error}");
    assert!(reports.iter().any(|report| report.contains("trying again")), "{reports:?}");
}

#[tokio::test]
async fn those_who_need_an_image_at_once_share_one_pull() {
    let bench = Bench::new().await;
    let (alone, (shared, open)) = (Registry::start("404 Not Found", "X"), Registry::held("404 Not Found", "X"));
    let image = shared.image();
    // The pull does not end before all three wait for it: that takes less than a whole pull of another image.
    let opened = async {
        refused(&bench, &alone.image()).await;
        drop(open);
    };
    tokio::join!(refused(&bench, &image), refused(&bench, &image), refused(&bench, &image), opened);
    assert_eq!(shared.asked.load(Ordering::SeqCst), alone.asked.load(Ordering::SeqCst));
}
