//! Writing records to the spool, also when its disk is full.
//!
//! Bytes go straight from the caller's buffer to the file. What the file does not take is queued, and the caller is
//! told to stop reading ([`Spool::is_waiting`]) while space may come back: the agent gives shipped ranges
//! back to the disk. After [`PATIENCE`] the job goes on and what it prints is counted instead of kept.
//! A record that was begun is always completed before another begins, so the frames stay whole.

use crate::clock;
use longshore_core::spool::{HEADER, Header, MAX_PAYLOAD, Stream};
use nix::errno::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// How long the job is held up for space before its output is dropped, in microseconds.
const PATIENCE: u64 = 30_000_000;
/// How often to look for space while output is being dropped, in microseconds.
const RETRY: u64 = 1_000_000;

/// Length and digest of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Bytes of standard output and standard error in the spool.
    pub bytes: u64,
    /// SHA-256 over them in hex.
    pub sha256: String,
    /// Bytes that were not kept.
    pub dropped: u64,
}

/// Bytes in lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spool as init writes it.
#[derive(Debug)]
pub struct Spool {
    file: OwnedFd,
    seq: u64,
    bytes: u64,
    sha: Sha256,
    dropped: u64,
    /// Records that wait for space, in order; the first may be written in part.
    queue: VecDeque<Queued>,
    /// Since when there has been no space, by the boot clock.
    full_since: Option<u64>,
    last_try: u64,
}

#[derive(Debug)]
struct Queued {
    header: Header,
    bytes: Vec<u8>,
    done: usize,
}

impl Spool {
    /// Writes to a file that is open for appending, beginning with record 0.
    #[must_use]
    pub fn new(file: OwnedFd) -> Self {
        Self {
            file,
            seq: 0,
            bytes: 0,
            sha: Sha256::new(),
            dropped: 0,
            queue: VecDeque::new(),
            full_since: None,
            last_try: 0,
        }
    }

    /// Writes the bytes of a stream as records, or queues them, or counts them as dropped.
    pub fn write(&mut self, stream: Stream, payload: &[u8]) {
        for payload in payload.chunks(MAX_PAYLOAD) {
            if self.full_since.is_some() && !self.is_waiting() {
                self.retry();
                if self.full_since.is_some() {
                    self.dropped += payload.len() as u64;
                    continue;
                }
            }
            self.record(stream, payload);
        }
    }

    fn record(&mut self, stream: Stream, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header { len, stream, seq: self.seq, at: clock::wall_micros() };
        self.seq += 1;
        let head = header.to_bytes();
        let done = if self.queue.is_empty() { self.append(header, &head, payload, 0) } else { 0 };
        if done < HEADER + payload.len() {
            self.queue.push_back(Queued { header, bytes: [&head, payload].concat(), done });
            self.full_since.get_or_insert_with(clock::boot_micros);
        }
    }

    /// Writes a record from `done` on; returns how far it is written now.
    fn append(&mut self, header: Header, head: &[u8], payload: &[u8], mut done: usize) -> usize {
        while done < HEADER + payload.len() {
            let body = done.saturating_sub(HEADER);
            let parts = [IoSlice::new(&head[done.min(HEADER)..]), IoSlice::new(&payload[body..])];
            match nix::sys::uio::writev(&self.file, &parts) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => break,
                Ok(written) => {
                    done += written;
                    if header.stream.is_log() {
                        let fresh = &payload[body..done.saturating_sub(HEADER)];
                        self.bytes += fresh.len() as u64;
                        self.sha.update(fresh);
                    }
                }
            }
        }
        done
    }

    /// Whether the job has to wait for space: read nothing more, and call [`Spool::retry`] now and then.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.full_since.is_some_and(|since| clock::boot_micros() < since + PATIENCE)
    }

    /// Tries to write what is queued; at most once a second when the job is no longer held up.
    pub fn retry(&mut self) {
        let now = clock::boot_micros();
        if self.is_waiting() || now >= self.last_try + RETRY {
            self.last_try = now;
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let Some(mut first) = self.queue.pop_front() {
            let (head, payload) = first.bytes.split_at(HEADER);
            first.done = self.append(first.header, head, payload, first.done);
            if first.done < first.bytes.len() {
                self.queue.push_front(first);
                return;
            }
        }
        self.full_since = None;
    }

    /// Ends the log: tries once more, gives up what still waits, and says what is in the spool.
    pub fn close(&mut self) -> Sum {
        self.flush();
        while let Some(last) = self.queue.pop_back_if(|queued| queued.done == 0) {
            self.seq = last.header.seq;
            self.dropped += (last.bytes.len() - HEADER) as u64;
        }
        if let Some(begun) = self.queue.front() {
            self.dropped += (begun.bytes.len() - begun.done.max(HEADER)) as u64;
        } else {
            self.full_since = None;
        }
        let digest = self.sha.clone().finalize();
        Sum { bytes: self.bytes, sha256: hex(&digest), dropped: self.dropped }
    }

    /// Appends the exit record after [`Spool::close`]; true if the spool has it whole.
    ///
    /// A log that ends inside a record gets none: it would be read as the rest of that record.
    pub fn leave(&mut self, record: &[u8]) -> bool {
        if !self.queue.is_empty() || record.len() > MAX_PAYLOAD {
            return false;
        }
        self.record(Stream::Exit, record);
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::spool::{Decoder, Whole};
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    /// A pipe nobody empties is a disk that is full after 64 KiB, in the middle of a record.
    fn small_disk() -> (Spool, OwnedFd) {
        let (disk, file) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        (Spool::new(file), disk)
    }

    fn empty(disk: &OwnedFd) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(length @ 1..) = read(disk, &mut buffer) {
            all.extend_from_slice(&buffer[..length]);
        }
        all
    }

    fn log(spool: &[u8]) -> (Vec<u8>, Decoder) {
        let (mut decoder, mut input, mut out) = (Decoder::new(0), spool, Vec::new());
        let mut whole = Whole::default();
        while let Some(piece) = decoder.decode(&mut input).unwrap() {
            if piece.header.stream.is_log() {
                out.extend_from_slice(piece.data);
            }
            whole.push(&piece);
        }
        (out, decoder)
    }

    fn sha(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn space_that_comes_back_costs_nothing() {
        let (mut spool, disk) = small_disk();
        let text: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        spool.write(Stream::Stdout, &text);
        assert!(spool.is_waiting());
        let mut all = empty(&disk);
        while spool.is_waiting() {
            spool.retry();
            all.extend(empty(&disk));
        }
        let sum = spool.close();
        assert!(spool.leave(b"{}"));
        all.extend(empty(&disk));
        let (out, decoder) = log(&all);
        assert!(out == text && decoder.ended());
        assert_eq!(sum, Sum { bytes: 200_000, sha256: sha(&text), dropped: 0 });
    }

    #[test]
    fn space_that_does_not_come_back_cuts_the_log_and_says_so() {
        let (mut spool, disk) = small_disk();
        spool.write(Stream::Stdout, &[1; 100_000]);
        spool.write(Stream::Stderr, &[2; 1000]);
        // The patience is over.
        spool.full_since = Some(0);
        spool.last_try = u64::MAX / 2;
        spool.write(Stream::Stdout, &[3; 500]);
        let sum = spool.close();
        assert!(!spool.leave(b"{}"));
        let (out, decoder) = log(&empty(&disk));
        assert_eq!((sum.bytes, sum.dropped), (out.len() as u64, 101_500 - out.len() as u64));
        assert_eq!(sum.sha256, sha(&out));
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn after_a_time_without_space_the_frames_go_on_whole() {
        let (mut spool, disk) = small_disk();
        spool.write(Stream::Stdout, &[1; 100_000]);
        spool.full_since = Some(0);
        spool.last_try = u64::MAX / 2;
        spool.write(Stream::Stdout, &[2; 500]);
        let mut all = empty(&disk);
        spool.last_try = 0;
        spool.write(Stream::Stdout, b"later");
        let sum = spool.close();
        assert!(spool.leave(b"{}"));
        all.extend(empty(&disk));
        let (out, decoder) = log(&all);
        assert!(decoder.ended() && out.ends_with(b"\x01later"));
        assert_eq!((out.len(), sum.bytes, sum.dropped), (100_005, 100_005, 500));
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_a_clean_end() {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut spool = Spool::new(file.into());
        spool.write(Stream::Stdout, b"lost");
        let sum = spool.close();
        assert_eq!(sum, Sum { bytes: 0, sha256: sha(b""), dropped: 4 });
        assert_eq!(spool.seq, 0);
        assert!(!spool.leave(b"{}"));
    }
}
