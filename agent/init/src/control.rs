//! The control file: deadlines in, exit record out.

use longshore_core::artifacts::{Kind, LeftOut, Reason};
use longshore_core::init::ExitRecord;
use longshore_core::init::control::{Deadlines, EXIT, SIZE, SOFT};
use nix::sys::uio::{pread, pwrite};
use std::os::fd::OwnedFd;

/// The file shared with the agent, which may rewrite the deadlines at any time.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Takes the descriptor the agent passed.
    #[must_use]
    pub fn new(file: OwnedFd) -> Self {
        Self(file)
    }

    /// The deadlines as they stand now; `None` when they cannot be read (then those known stay in force).
    #[must_use]
    pub fn deadlines(&self) -> Option<Deadlines> {
        let mut bytes = [0; 16];
        let read = pread(&self.0, &mut bytes, offset(SOFT)).ok()?;
        (read == bytes.len()).then(|| Deadlines::from_bytes(bytes))
    }

    /// Leaves the exit record; true if it was written. The file's space is allocated, so a full disk does not matter.
    ///
    /// The length goes in last: an agent that reads before it sees no record yet. One that does not fit goes
    /// without outputs; if the spool has not got it either (`spooled`), it says so.
    pub fn leave(&self, record: &ExitRecord, spooled: bool) -> bool {
        let Some(bytes) = fitting(record, spooled) else {
            return false;
        };
        let Ok(len) = u32::try_from(bytes.len()) else {
            return false;
        };
        self.write_all(&bytes, EXIT + 4) && self.write_all(&len.to_le_bytes(), EXIT)
    }

    fn write_all(&self, mut bytes: &[u8], mut at: u64) -> bool {
        while !bytes.is_empty() {
            match pwrite(&self.0, bytes, offset(at)) {
                Ok(0) => return false,
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

fn fitting(record: &ExitRecord, spooled: bool) -> Option<Vec<u8>> {
    let most = usize::try_from(SIZE - EXIT - 4).ok()?;
    let whole = serde_json::to_vec(record).ok()?;
    if whole.len() <= most {
        return Some(whole);
    }
    let mut short = record.clone();
    short.outputs.clear();
    short.secret_outputs.clear();
    short.plan = None;
    if !spooled {
        // Nowhere else would stand what they are.
        let count = (short.artifacts.len() + short.left_out.len()) as u64;
        short.left_out = vec![LeftOut { path: String::new(), kind: Kind::File, reason: Reason::Unreadable, count }];
        short.left_out.retain(|left_out| left_out.count > 0);
    } else {
        short.left_out.clear();
    }
    short.artifacts.clear();
    if let Some(error) = &mut short.error {
        error.truncate(error.floor_char_boundary(4096));
    }
    if !spooled {
        short.error.get_or_insert_with(|| "the outputs could not be kept: the disk of the log is full".to_owned());
    }
    serde_json::to_vec(&short).ok().filter(|bytes| bytes.len() <= most)
}

/// Offsets in the control file are small.
fn offset(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
