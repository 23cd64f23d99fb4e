use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_core::spool::{HEADER, Header};
use longshore_core::time::Timestamp;
use proptest::prelude::*;

use super::segment::Media;
use super::*;
use crate::hex;

fn attempt() -> AttemptId {
    AttemptId::new(Timestamp::from_micros(1), [1; 10])
}

fn spool(records: &[(Stream, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (seq, (stream, payload)) in records.iter().enumerate() {
        let len = u32::try_from(payload.len()).unwrap();
        out.extend(Header { len, stream: *stream, seq: seq as u64, at: seq as u64 }.to_bytes());
        out.extend(payload);
    }
    out
}

fn lines(count: usize) -> Vec<(Stream, Vec<u8>)> {
    let stream = |i| if i % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
    (0..count).map(|i| (stream(i), format!("line {i}\n").into_bytes())).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

async fn read_all(logs: &Logs, from: u64) -> Vec<Record> {
    let mut reader = logs.reader(attempt(), 0, from);
    let mut found = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        found.push(record);
    }
    found
}

fn payloads(records: &[Record]) -> Vec<(Stream, Vec<u8>)> {
    records.iter().map(|record| (record.stream, record.data.to_vec())).collect()
}

fn logs(folder: &tempfile::TempDir) -> Logs {
    Logs::open(folder.path().join("logs"), Tasks::new()).unwrap()
}

#[tokio::test]
async fn what_was_appended_is_read_back_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let records = lines(500);
    let bytes = spool(&records);
    let text: Vec<u8> = records.iter().flat_map(|(_, payload)| payload.clone()).collect();
    let log = logs(&folder).log(attempt(), 0).await.unwrap();
    for (i, chunk) in bytes.chunks(777).enumerate() {
        let durable = log.append(vec![((i * 777) as u64, Bytes::copy_from_slice(chunk))]).await.unwrap();
        assert_eq!(durable, (i * 777 + chunk.len()) as u64);
    }
    let digest = Digest { bytes: text.len() as u64, sha256: Some(sha256(&text)), durable: bytes.len() as u64 };
    assert_eq!(log.digest(), digest);

    let again = logs(&folder);
    assert_eq!(payloads(&read_all(&again, 0).await), records);
    assert_eq!(again.log(attempt(), 0).await.unwrap().digest(), digest, "worked out anew");
    let all = read_all(&again, 0).await;
    assert_eq!(read_all(&again, all[99].end).await, all[100..], "resumes at any record's end");
}

#[tokio::test]
async fn what_comes_twice_is_kept_once_and_gaps_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Bytes::from(spool(&lines(10)));
    let log = logs(&folder).log(attempt(), 0).await.unwrap();
    assert_eq!(log.append(vec![(0, bytes.slice(..50))]).await.unwrap(), 50);
    assert_eq!(
        log.append(vec![(0, bytes.slice(..80)), (20, bytes.slice(20..30)), (70, bytes.slice(70..100))]).await.unwrap(),
        100
    );
    assert!(matches!(log.append(vec![(101, bytes.slice(101..))]).await, Err(Error::Gap { expected: 100 })));
    assert_eq!(log.append(vec![(100, bytes.slice(100..))]).await.unwrap(), bytes.len() as u64);
    assert_eq!(payloads(&read_all(&logs(&folder), 0).await), lines(10));
}

#[tokio::test]
async fn a_follower_sees_each_record_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(&folder);
    let records = lines(40);
    let bytes = Bytes::from(spool(&records));
    let mut reader = logs.reader(attempt(), 0, 0);
    let follow = async {
        let mut found = Vec::new();
        while let Some(record) = reader.next_live().await.unwrap() {
            found.push(record);
        }
        found
    };
    let write = async {
        let log = logs.log(attempt(), 0).await.unwrap();
        for from in (0..bytes.len()).step_by(33) {
            log.append(vec![(from as u64, bytes.slice(from..bytes.len().min(from + 33)))]).await.unwrap();
        }
        logs.seal(attempt(), 0).await;
    };
    let (found, ()) = tokio::join!(follow, write);
    assert_eq!(payloads(&found), records);
    let mut late = logs.reader(attempt(), 0, found[38].end);
    assert_eq!(late.next_live().await.unwrap().unwrap(), found[39]);
    assert_eq!(late.next_live().await.unwrap(), None, "a closed log is not waited for");
    let log = logs.log(attempt(), 0).await.unwrap();
    assert!(matches!(log.append(vec![(bytes.len() as u64, Bytes::from_static(b"x"))]).await, Err(Error::Sealed)));
    assert_eq!(log.append(vec![(0, bytes.slice(..5))]).await.unwrap(), bytes.len() as u64, "a repeat is no harm");
}

#[tokio::test]
async fn bytes_that_are_no_spool_are_kept_without_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let log = logs(&folder).log(attempt(), 0).await.unwrap();
    assert_eq!(log.append(vec![(0, Bytes::from_static(&[7; 100]))]).await.unwrap(), 100);
    assert_eq!(log.digest(), Digest { bytes: 0, sha256: None, durable: 100 });
}

/// A disk that has no room while the flag is up.
struct Crowded(fs::File, Arc<AtomicBool>);

impl Media for Crowded {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) && bytes.len() > 16 {
            Media::write_at(&self.0, &bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Media::write_at(&self.0, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        Media::sync(&self.0)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(&folder);
    let path = logs.path(attempt(), 0);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let segment = Segment::on(Box::new(Crowded(fs::File::create_new(&path).unwrap(), Arc::clone(&full))));
    let growth = watch::Sender::new(Growth::of(&segment));
    let log = Log { segment: Arc::new(Mutex::new(segment)), growth, path, logs: logs.clone() };
    let bytes = Bytes::from(spool(&lines(10)));
    log.append(vec![(0, bytes.slice(..60))]).await.unwrap();
    full.store(true, Ordering::Relaxed);
    let error = log.append(vec![(60, bytes.slice(60..))]).await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(logs.health().unwrap().contains("full"));
    assert_eq!(log.digest().durable, 60);
    full.store(false, Ordering::Relaxed);
    assert_eq!(log.append(vec![(60, bytes.slice(60..))]).await.unwrap(), bytes.len() as u64);
    assert_eq!(logs.health(), None);
    assert_eq!(payloads(&read_all(&logs, 0).await), lines(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever stands behind the last whole frame: it is cut off, and the log goes on where it was acknowledged.
    #[test]
    fn a_torn_end_is_cut_off(cut in 1_usize..200, junk in proptest::collection::vec(any::<u8>(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let bytes = Bytes::from(spool(&lines(30)));
            let log = logs(&folder).log(attempt(), 0).await.unwrap();
            log.append(vec![(0, bytes.slice(..300))]).await.unwrap();
            let whole = log.growth.borrow().file;
            log.append(vec![(300, bytes.slice(300..500))]).await.unwrap();
            let mut file = fs::read(&log.path).unwrap();
            file.truncate(usize::try_from(whole).unwrap() + cut);
            file.extend(&junk);
            fs::write(&log.path, &file).unwrap();

            let again = logs(&folder);
            let log = again.log(attempt(), 0).await.unwrap();
            prop_assert_eq!(log.digest().durable, 300);
            log.append(vec![(300, bytes.slice(300..))]).await.unwrap();
            prop_assert_eq!(payloads(&read_all(&again, 0).await), lines(30));
            Ok(())
        })?;
    }
}

/// `LONGSHORE_MEASURE=1 cargo test --release logs_take -- --nocapture` prints how fast logs are taken in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_take_large_outputs() {
    let megabytes: usize = if std::env::var_os("LONGSHORE_MEASURE").is_some() { 512 } else { 8 };
    let folder = tempfile::tempdir().unwrap();
    let clock = crate::clock::Clock::system();
    let log = logs(&folder).log(attempt(), 0).await.unwrap();
    let payload = vec![b'x'; (64 << 10) - HEADER];
    let (mut seq, mut offset) = (0_u64, 0_u64);
    let began = clock.elapsed();
    for _ in 0..megabytes / 4 {
        let mut batch = Vec::new();
        for _ in 0..64 {
            let len = u32::try_from(payload.len()).unwrap();
            let mut chunk = Header { len, stream: Stream::Stdout, seq, at: 0 }.to_bytes().to_vec();
            chunk.extend(&payload);
            seq += 1;
            batch.push((offset, Bytes::from(chunk)));
            offset += 64 << 10;
        }
        log.append(batch).await.unwrap();
    }
    let took = clock.elapsed() - began;
    println!("{} MB/s", offset as f64 / 1e6 / took.as_secs_f64());
    assert_eq!(log.digest().bytes, seq * payload.len() as u64);
}
