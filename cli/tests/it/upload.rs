//! Uploads that break off, against a server that keeps what has come and cuts the connection.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::fake::{Fake, Reply, command};

/// What has come, and what was asked.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    stored: bool,
    lines: Vec<String>,
}

/// A server that takes `take` bytes of each upload, as long as it has such a number, and then does as it says.
struct Server {
    url: String,
    kept: Arc<Mutex<Kept>>,
    /// Hears of each upload that is cut.
    cut: Receiver<()>,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Close,
    /// The connection stays open and nothing more is read, until the client is gone.
    Hang,
}

fn server(cuts: &[(usize, Then)]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (told, cut) = channel();
    let (shared, mut cuts) = (Arc::clone(&kept), VecDeque::from(cuts.to_vec()));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            one(&stream, &shared, &mut cuts, &told);
        }
    });
    Server { url, kept, cut }
}

fn one(
    stream: &TcpStream,
    kept: &Arc<Mutex<Kept>>,
    cuts: &mut VecDeque<(usize, Then)>,
    told: &Sender<()>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    let head = head.to_ascii_lowercase();
    let header = |name: &str| -> Option<usize> {
        let line = head.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
        line.split_once(": ")?.1.parse().ok()
    };
    let answer = |text: &str| {
        let mut out = stream;
        out.write_all(text.as_bytes())
    };
    let method = head.split(' ').next().unwrap_or_default();
    let place = header("upload-offset").map_or_else(String::new, |offset| format!(" {offset}"));
    kept.lock().unwrap().lines.push(format!("{method}{place}"));
    if method == "head" {
        let kept = kept.lock().unwrap();
        let (status, at) = (if kept.stored { 200 } else { 404 }, kept.bytes.len());
        return answer(&format!("HTTP/1.1 {status} X\r\nupload-offset: {at}\r\nconnection: close\r\n\r\n")).ok();
    }
    let (offset, length) = (header("upload-offset")?, header("content-length")?);
    assert_eq!(offset + length, header("upload-length").unwrap());
    assert_eq!(offset, kept.lock().unwrap().bytes.len(), "the rest of what is kept");
    let cut = cuts.pop_front();
    let mut body = vec![0; cut.map_or(length, |(take, _)| take)];
    reader.read_exact(&mut body).ok()?;
    kept.lock().unwrap().bytes.extend(body);
    match cut {
        Some((_, then)) => {
            told.send(()).unwrap();
            if let Then::Hang = then {
                // Its end is what ends this.
                let _gone = reader.read_to_end(&mut Vec::new()).is_ok();
            }
            Some(())
        }
        None => {
            kept.lock().unwrap().stored = true;
            answer("HTTP/1.1 201 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").ok()
        }
    }
}

/// A folder whose package does not get much smaller than this.
fn folder(bytes: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut state: u64 = 1;
    let noise = (0..bytes).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    std::fs::write(folder.path().join("noise"), noise.collect::<Vec<u8>>()).unwrap();
    folder
}

fn push(server: &Server, folder: &tempfile::TempDir) -> std::process::Command {
    let mut command = command(&["package", "push", folder.path().to_str().unwrap()]);
    command.env("LONGSHORE_URL", &server.url).env("LONGSHORE_TOKEN", "t0ken");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn is_whole(server: &Server) {
    let kept = server.kept.lock().unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&kept.bytes[..]).unwrap());
    assert_eq!(archive.entries().unwrap().map(Result::unwrap).count(), 1, "no byte is missing and none is there twice");
}

#[test]
fn an_upload_that_is_cut_goes_on_from_there() {
    let folder = folder(1 << 20);
    let server = server(&[(100_000, Then::Close), (0, Then::Close), (300_000, Then::Close)]);
    let done = push(&server, &folder).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    is_whole(&server);
    let puts: Vec<_> =
        server.kept.lock().unwrap().lines.iter().filter(|line| line.starts_with("put")).cloned().collect();
    assert_eq!(puts, ["put 0", "put 100000", "put 100000", "put 400000"]);
}

#[test]
fn a_push_after_a_killed_one_goes_on_from_there() {
    let folder = folder(1 << 20);
    let server = server(&[(200_000, Then::Hang)]);
    let mut first = push(&server, &folder).spawn().unwrap();
    server.cut.recv().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let done = push(&server, &folder).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("going on with an upload that broke off"), "{}", said(&done));
    is_whole(&server);
    assert_eq!(server.kept.lock().unwrap().lines, ["head", "put 0", "head", "put 200000"]);
}

#[test]
fn where_nothing_more_can_be_kept_it_is_sent_in_one_piece() {
    let folder = folder(1000);
    let crowded = Reply::problem(429, "uploads_crowded", "too many", "wait");
    let fake = Fake::start([Reply::json(404, ""), crowded, Reply::json(201, "{}")]);
    let done = fake.run(&["package", "push", folder.path().to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let seen = fake.seen();
    assert_eq!((seen[1].header("upload-offset"), seen[2].header("upload-offset")), (Some("0"), None));
    assert_eq!(seen[1].body, seen[2].body);
}
