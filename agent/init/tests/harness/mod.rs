//! Plays the agent for one `longshore-init`, which runs as an ordinary child of the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot play the agent has failed")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::Nonce;
use chacha20poly1305::aead::{Aead as _, Payload};
use longshore_core::init::PLAN;
use longshore_core::init::control::{Deadlines, EXIT, SIZE};
use longshore_core::init::{ACK, Command, ExitRecord, Handover, PlanFile, Stdout};
use longshore_core::spool::{Decoder, Stream, Whole};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// What a step left behind.
pub(crate) struct Left {
    pub(crate) record: ExitRecord,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) events: Vec<Vec<u8>>,
    /// Spool and control file as they are on disk.
    pub(crate) disk: Vec<u8>,
}

pub(crate) struct Init {
    pub(crate) child: Child,
    pub(crate) control: File,
    dir: TempDir,
}

pub(crate) fn sh(script: &str) -> Command {
    serde_json::from_value(serde_json::json!({"argv": ["sh", "-c", script]})).unwrap()
}

pub(crate) fn handover(commands: Vec<Command>, secrets: &[&str]) -> Handover {
    Handover {
        prepare: Vec::new(),
        commands,
        env: vec![("ADDED".into(), "by the agent".into())],
        cwd: "/".into(),
        secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect(),
        output_file: None,
        over: Vec::new(),
        outputs_key: Some("07".repeat(32)),
        plan: None,
        artifacts: None,
    }
}

/// A step that may write outputs, with the directory that its file is in.
pub(crate) fn with_file(commands: Vec<Command>, secrets: &[&str]) -> (Handover, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output").to_string_lossy().into_owned();
    let mut handover = handover(commands, secrets);
    handover.env.push((longshore_core::outputs::VARIABLE.into(), path.clone()));
    handover.output_file = Some(path);
    (handover, dir)
}

/// A stack's state, and a program that makes or runs a plan.
pub(crate) fn planning(state: &str, content: Option<&str>, checkpoint: Option<&str>) -> (Handover, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json").to_string_lossy().into_owned();
    let export = Command { stdout: Stdout::Checkpoint, ..sh(&format!("printf '%s' '{state}'")) };
    let settings = dir.path().join("Pulumi.dev.yaml").to_string_lossy().into_owned();
    let script = match content {
        Some(_) => format!("cat {settings} {path}"),
        None => format!("printf hunter2-plan > {path}; printf hunter2-salt > {settings}"),
    };
    let mut handover = handover(vec![export, sh(&script)], &[]);
    let (content, checkpoint) = (content.map(str::to_owned), checkpoint.map(str::to_owned));
    handover.plan = Some(PlanFile { path, settings, content, checkpoint });
    (handover, dir)
}

/// What was encrypted with a key in hex, as a plan is.
pub(crate) fn opened(key: &str, sealed: &str) -> Zeroizing<Vec<u8>> {
    let sealed = BASE64_STANDARD.decode(sealed).unwrap();
    let (nonce, body) = sealed.split_at(12);
    let payload = Payload { msg: body, aad: PLAN.as_bytes() };
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    Zeroizing::new(longshore_init::outputs::cipher(key).unwrap().decrypt(&Nonce::from(nonce), payload).unwrap())
}

impl Init {
    /// Starts init and hands over. `DIR` in scripts stands for a directory with the pipes `up` and `down`.
    pub(crate) fn start(mut handover: Handover) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for pipe in ["up", "down"] {
            mkfifo(&dir.path().join(pipe), Mode::S_IRWXU).unwrap();
        }
        handover.env.push(("DIR".into(), dir.path().to_string_lossy().into_owned()));
        let socket = dir.path().join("init.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_longshore-init"))
            .arg("run")
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        let spool = OpenOptions::new().append(true).create(true).open(dir.path().join("spool")).unwrap();
        let path = dir.path().join("control");
        let control = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        control.set_len(SIZE).unwrap();
        send(stream, &handover, &[&spool, &control]);
        Self { child, control, dir }
    }

    /// Waits until the command writes a line to `$DIR/up`, and returns it.
    pub(crate) fn hear(&self) -> String {
        fs::read_to_string(self.dir.path().join("up")).unwrap().trim().to_owned()
    }

    /// Lets a command that reads `$DIR/down` go on.
    pub(crate) fn say(&self, text: &str) {
        fs::write(self.dir.path().join("down"), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn deadlines(&self, deadlines: Deadlines) {
        self.control.write_all_at(&deadlines.to_bytes(), 0).unwrap();
    }

    /// Waits for the end and reads what was left, checking that all accounts agree.
    pub(crate) fn end(mut self) -> Left {
        assert!(self.child.wait().unwrap().success());
        let spool = fs::read(self.dir.path().join("spool")).unwrap();
        let mut control = vec![0; usize::try_from(SIZE).unwrap()];
        self.control.read_exact_at(&mut control, 0).unwrap();
        let mut left = read(&spool);
        let at = usize::try_from(EXIT).unwrap();
        let length = u32::from_le_bytes(control[at..at + 4].try_into().unwrap()) as usize;
        let record: ExitRecord = serde_json::from_slice(&control[at + 4..at + 4 + length]).unwrap();
        assert_eq!(record, left.record);
        left.disk = [spool, control].concat();
        left
    }
}

fn send(mut stream: UnixStream, handover: &Handover, files: &[&File]) {
    let message = serde_json::to_vec(handover).unwrap();
    let message = [&(message.len() as u64).to_le_bytes()[..], &message].concat();
    let descriptors: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    // The first byte alone carries the descriptors; the rest comes in two more parts.
    let sent = sendmsg(&stream, &[IoSlice::new(&message[..1])], &mut ancillary, SendFlags::empty()).unwrap();
    assert_eq!(sent, 1);
    stream.write_all(&message[1..5]).unwrap();
    stream.write_all(&message[5..]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [ACK]);
}

fn read(spool: &[u8]) -> Left {
    use sha2::{Digest as _, Sha256};
    let (mut decoder, mut whole, mut input) = (Decoder::new(0), Whole::default(), spool);
    let (mut stdout, mut stderr, mut events, mut record) = (Vec::new(), Vec::new(), Vec::new(), None);
    let mut sha = Sha256::new();
    while let Some(piece) = decoder.decode(&mut input).unwrap() {
        let Some(payload) = whole.push(&piece) else { continue };
        if piece.header.stream.is_log() {
            sha.update(&payload);
        }
        match piece.header.stream {
            Stream::Stdout => stdout.extend(payload),
            Stream::Stderr => stderr.extend(payload),
            Stream::Events => events.push(payload),
            Stream::Exit => record = Some(serde_json::from_slice::<ExitRecord>(&payload).unwrap()),
        }
    }
    decoder.finish().unwrap();
    let record = record.unwrap();
    assert_eq!(record.bytes, (stdout.len() + stderr.len()) as u64);
    assert_eq!(record.sha256, sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Left { record, stdout, stderr, events, disk: Vec::new() }
}

/// Runs a hand-over from start to end.
pub(crate) fn run(handover: Handover) -> Left {
    Init::start(handover).end()
}
