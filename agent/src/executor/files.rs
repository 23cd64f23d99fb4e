//! The files of one step: spool, control file and the directory that is mounted into the container.
//!
//! Invariants: spool and control file are 0600 and made before the start is confirmed; the control file has its full
//! size allocated, so that a full disk can stop neither a deadline nor an exit record. Only init writes the spool.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use longshore_core::init::ExitRecord;
use longshore_core::init::control::{Deadlines, EXIT, SIZE, SOFT};
use longshore_core::spool::{Decoder, HEADER, Header, MAX_PAYLOAD, Stream, Whole};
use nix::fcntl::{FallocateFlags, fallocate};

use super::Error;

/// The directory of one step of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDir {
    root: PathBuf,
}

impl StepDir {
    pub(super) fn new(attempt: &Path, index: u32) -> Self {
        Self { root: attempt.join("steps").join(index.to_string()) }
    }

    /// The directory itself, 0700. The caller may keep files of its own in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The log as init writes it (`longshore_core::spool`).
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The control file (`longshore_core::init::control`).
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// What is mounted read-only at `/.longshore`.
    #[must_use]
    pub fn mnt(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Sets both deadlines, in microseconds of `CLOCK_BOOTTIME`, 0 for none. init looks at least each second.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn set_deadlines(&self, deadlines: Deadlines) -> Result<(), Error> {
        let file = self.open_control()?;
        file.write_all_at(&deadlines.to_bytes(), SOFT).map_err(file_error("write", &self.control()))
    }

    /// The deadlines as they stand.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn deadlines(&self) -> Result<Deadlines, Error> {
        let mut bytes = [0; 16];
        let read = self.open_control()?.read_exact_at(&mut bytes, SOFT);
        read.map_err(file_error("read", &self.control()))?;
        Ok(Deadlines::from_bytes(bytes))
    }

    /// The exit record, once init has left it. The one in the spool is whole; the one in the control file may lack outputs
    /// that did not fit, but is there on a full disk too.
    ///
    /// # Errors
    /// [`Error::File`]; `Ok(None)` when there is no step directory (any more).
    pub fn exit_record(&self) -> Result<Option<ExitRecord>, Error> {
        let path = self.control();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("open", &path)(error)),
        };
        let mut length = [0; 4];
        file.read_exact_at(&mut length, EXIT).map_err(file_error("read", &path))?;
        let length = u64::from(u32::from_le_bytes(length));
        if length == 0 || length > SIZE - EXIT - 4 {
            return Ok(None);
        }
        let mut json = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut json, EXIT + 4).map_err(file_error("read", &path))?;
        let Ok(record) = serde_json::from_slice::<ExitRecord>(&json) else {
            return Ok(None);
        };
        // init ended in order, so what ends the spool now is its own last record and nothing that a job could imitate.
        let in_spool =
            last_record(&self.spool()).filter(|last| last.sha256 == record.sha256 && last.bytes == record.bytes);
        Ok(Some(in_spool.unwrap_or(record)))
    }

    /// Looks for the exit record by reading the spool from a record boundary. For a control file that was not written.
    pub(super) fn spool_record(&self, boundary: u64) -> Option<ExitRecord> {
        use std::io::{Read as _, Seek as _};
        let mut file = File::open(self.spool()).ok()?;
        file.seek(io::SeekFrom::Start(boundary)).ok()?;
        let (mut decoder, mut whole, mut buffer) = (Decoder::new(boundary), Whole::default(), vec![0; 256 << 10]);
        loop {
            let read = file.read(&mut buffer).ok().filter(|read| *read > 0)?;
            let mut input = &buffer[..read];
            while let Some(piece) = decoder.decode(&mut input).ok()? {
                if piece.header.stream == Stream::Exit
                    && let Some(json) = whole.push(&piece)
                {
                    return serde_json::from_slice(&json).ok();
                }
            }
        }
    }

    /// Makes everything of the step but init's program. Whatever an earlier try left is made anew.
    pub(super) fn make(&self) -> Result<(), Error> {
        let mnt = self.mnt();
        let make = || {
            crate::durable::make_dir(&self.root)?;
            DirBuilder::new().recursive(true).create(&mnt)?;
            std::fs::set_permissions(&mnt, Permissions::from_mode(0o755))
        };
        make().map_err(file_error("create", &mnt))?;
        let spool = self.spool();
        new_file(&spool).map_err(file_error("create", &spool))?;
        let control = self.control();
        let length = i64::try_from(SIZE).unwrap_or(i64::MAX);
        let allocate = |file: File| fallocate(&file, FallocateFlags::empty(), 0, length).map_err(io::Error::from);
        new_file(&control).and_then(allocate).map_err(file_error("allocate", &control))
    }

    /// Marks that the start is tried: from here on it must not be tried again.
    pub(super) fn mark_start(&self) -> Result<(), Error> {
        let path = self.root.join("started");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(file_error("create", &path))?;
        Ok(())
    }

    /// What init gets: the spool for appending and the control file.
    pub(super) fn open(&self) -> Result<(File, File), Error> {
        let spool = self.spool();
        let file = OpenOptions::new().append(true).open(&spool).map_err(file_error("open", &spool))?;
        Ok((file, self.open_control()?))
    }

    fn open_control(&self) -> Result<File, Error> {
        let path = self.control();
        OpenOptions::new().read(true).write(true).open(&path).map_err(file_error("open", &path))
    }
}

/// Refuses to go on when less than `needed` bytes are free where `path` lies.
pub(super) fn check_free(path: &Path, needed: u64) -> Result<(), Error> {
    let stat =
        nix::sys::statvfs::statvfs(path).map_err(|errno| file_error("look at the disk of", path)(errno.into()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free < needed {
        return Err(Error::DiskFull { path: path.to_owned(), free, needed });
    }
    Ok(())
}

/// The last record of a spool, if it is an exit record. Only to be trusted when init is known to have ended in order.
fn last_record(spool: &Path) -> Option<ExitRecord> {
    let file = File::open(spool).ok()?;
    let length = file.metadata().ok()?.len();
    let tail_length = length.min((HEADER + MAX_PAYLOAD) as u64);
    let start = length - tail_length;
    let mut tail = vec![0; usize::try_from(tail_length).ok()?];
    file.read_exact_at(&mut tail, start).ok()?;
    // JSON holds no control characters, so the first header from behind is the record's own.
    let at = (0..=tail.len().checked_sub(HEADER)?).rev().find(|&at| {
        let bytes = tail[at..].first_chunk::<HEADER>();
        let header = bytes.and_then(|bytes| Header::parse(bytes, start + at as u64).ok());
        header.is_some_and(|header| header.stream == Stream::Exit && at + HEADER + header.len as usize == tail.len())
    })?;
    serde_json::from_slice(&tail[at + HEADER..]).ok()
}

fn new_file(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// `what` completes "failed to ... `path`".
pub(super) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> (tempfile::TempDir, StepDir) {
        let dir = tempfile::tempdir().unwrap();
        let step = StepDir::new(dir.path(), 3);
        step.make().unwrap();
        (dir, step)
    }

    fn leave(step: &StepDir, record: &ExitRecord) {
        let json = serde_json::to_vec(record).unwrap();
        let file = step.open_control().unwrap();
        file.write_all_at(&json, EXIT + 4).unwrap();
        file.write_all_at(&u32::try_from(json.len()).unwrap().to_le_bytes(), EXIT).unwrap();
    }

    fn append(step: &StepDir, seq: u64, stream: Stream, payload: &[u8]) {
        use std::io::Write as _;
        let header = Header { len: u32::try_from(payload.len()).unwrap(), stream, seq, at: 0 };
        let mut file = step.open().unwrap().0;
        file.write_all(&[&header.to_bytes()[..], payload].concat()).unwrap();
    }

    #[test]
    fn deadlines_survive_and_files_are_private_and_allocated() {
        let (_dir, step) = step();
        let deadlines = Deadlines { soft: 5, hard: u64::MAX };
        step.set_deadlines(deadlines).unwrap();
        assert_eq!(step.deadlines().unwrap(), deadlines);
        for path in [step.spool(), step.control()] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::metadata(step.control()).unwrap().len(), SIZE);
        assert_eq!(std::fs::metadata(step.mnt()).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::metadata(step.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_job_that_prints_an_exit_record_does_not_end_its_step() {
        let (_dir, step) = step();
        assert_eq!(step.exit_record().unwrap(), None);
        let forged = ExitRecord { code: Some(0), ..ExitRecord::default() };
        let json = serde_json::to_vec(&forged).unwrap();
        let header = Header { len: u32::try_from(json.len()).unwrap(), stream: Stream::Exit, seq: 1, at: 0 };
        append(&step, 0, Stream::Stdout, &[&header.to_bytes()[..], &json].concat());
        assert_eq!((step.exit_record().unwrap(), step.spool_record(0)), (None, None));
    }

    #[test]
    fn the_spools_record_is_preferred_and_found_alone() {
        let (_dir, step) = step();
        let short = ExitRecord { code: Some(1), bytes: 3, sha256: "ab".to_owned(), ..ExitRecord::default() };
        leave(&step, &short);
        append(&step, 0, Stream::Stdout, b"abc");
        assert_eq!(step.exit_record().unwrap(), Some(short.clone()));
        let whole = ExitRecord { outputs: [("url".to_owned(), "x".into())].into(), ..short };
        append(&step, 1, Stream::Exit, &serde_json::to_vec(&whole).unwrap());
        assert_eq!(step.exit_record().unwrap(), Some(whole.clone()));
        assert_eq!(step.spool_record(0), Some(whole.clone()));
        assert_eq!(step.spool_record(HEADER as u64 + 3), Some(whole));
    }

    #[test]
    fn a_start_is_tried_once() {
        let (_dir, step) = step();
        step.mark_start().unwrap();
        assert!(step.mark_start().is_err());
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = check_free(Path::new("/tmp"), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("full disk") && error.contains("/tmp"), "{error}");
    }
}
