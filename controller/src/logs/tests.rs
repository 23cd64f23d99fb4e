use std::path::Path;

use longshore_core::spool::Header;
use longshore_core::time::Timestamp;
use proptest::prelude::*;

use super::*;

fn attempt() -> AttemptId {
    AttemptId::new(Timestamp::from_micros(1), [1; 10])
}

fn logs(folder: &Path) -> Logs {
    Logs::open(folder.to_path_buf(), Tasks::new()).unwrap()
}

fn record(seq: u64, stream: Stream, payload: &[u8]) -> Vec<u8> {
    let header = Header { len: u32::try_from(payload.len()).unwrap(), stream, seq, at: 1_000 + seq };
    [&header.to_bytes()[..], payload].concat()
}

/// A spool of lines with an exit record at its end, and what the lines are together.
fn spool(lines: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    for n in 0..lines {
        let line = format!("line {n}\n").repeat(n % 7 + 1);
        let stream = if n % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
        bytes.extend(record(n as u64, stream, line.as_bytes()));
        text.extend(line.as_bytes());
    }
    bytes.extend(record(lines as u64, Stream::Exit, b"{}"));
    (bytes, text)
}

async fn read_all(logs: &Logs, from: u64) -> Vec<Record> {
    let mut reader = logs.reader(attempt(), 0, from).await.unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        found.push(record);
    }
    found
}

fn text(records: &[Record]) -> Vec<u8> {
    records.iter().filter(|record| record.stream.is_log()).flat_map(|record| record.data.to_vec()).collect()
}

fn segment_file(folder: &Path) -> PathBuf {
    segment::path(&segment::folder(folder, (attempt(), 0)), 0)
}

#[tokio::test]
async fn what_was_written_is_read_back_from_any_record() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let (bytes, want) = spool(50);
    let mut writer = logs.writer(attempt(), 0);
    writer.append(0, bytes.clone().into());
    assert_eq!(writer.sync().await.unwrap(), bytes.len() as u64);
    let records = read_all(&logs, 0).await;
    assert_eq!(text(&records), want);
    let middle = &records[20];
    assert_eq!(read_all(&logs, middle.offset).await, records[20..]);
    let digest = logs.digest(attempt(), 0).await.unwrap();
    assert_eq!((digest.bytes, digest.exit_record.as_deref(), digest.whole), (want.len() as u64, Some(&b"{}"[..]), true));
}

#[tokio::test]
async fn a_gap_is_refused_and_a_repeat_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let (bytes, want) = spool(5);
    let mut writer = logs.writer(attempt(), 0);
    writer.append(0, Bytes::copy_from_slice(&bytes[..40]));
    writer.append(50, Bytes::copy_from_slice(&bytes[50..]));
    assert!(matches!(writer.sync().await, Err(Error::Gap { offset: 50, end: 40 })));
    assert_eq!(writer.durable().await.unwrap(), 40);
    writer.append(10, Bytes::copy_from_slice(&bytes[10..]));
    writer.append(0, bytes.clone().into());
    assert_eq!(writer.sync().await.unwrap(), bytes.len() as u64);
    assert_eq!(text(&read_all(&logs, 0).await), want);
}

#[tokio::test]
async fn bytes_that_are_no_spool_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let mut writer = logs.writer(attempt(), 0);
    writer.append(0, Bytes::from_static(&[b'x'; 100]));
    assert!(matches!(writer.sync().await, Err(Error::Spool(_))));
    assert_eq!(writer.durable().await.unwrap(), 0);
    assert_eq!(read_all(&logs, 0).await, []);
}

#[tokio::test]
async fn a_torn_end_is_cut_and_written_anew() {
    let (bytes, want) = spool(30);
    let half = bytes.len() / 2;
    for cut in 1..40 {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = logs(folder.path()).writer(attempt(), 0);
        for (offset, part) in [(0, &bytes[..half - 100]), (half - 100, &bytes[half - 100..half])] {
            writer.append(offset as u64, Bytes::copy_from_slice(part));
            writer.sync().await.unwrap();
        }
        let file = std::fs::File::options().write(true).open(segment_file(folder.path())).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut).unwrap();
        // A controller that was killed there starts again.
        let logs = logs(folder.path());
        let mut writer = logs.writer(attempt(), 0);
        let durable = writer.durable().await.unwrap();
        assert_eq!(durable, half as u64 - 100, "cut by {cut}");
        writer.append(durable, Bytes::copy_from_slice(&bytes[half - 100..]));
        writer.sync().await.unwrap();
        assert_eq!(text(&read_all(&logs, 0).await), want);
        assert_eq!(logs.digest(attempt(), 0).await.unwrap().bytes, want.len() as u64);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_never_read_as_log() {
    let folder = tempfile::tempdir().unwrap();
    let first = logs(folder.path());
    let (bytes, _) = spool(10);
    let mut writer = first.writer(attempt(), 0);
    writer.append(0, bytes.into());
    writer.sync().await.unwrap();
    let path = segment_file(folder.path());
    let mut stored = std::fs::read(&path).unwrap();
    stored[60] ^= 1;
    std::fs::write(&path, stored).unwrap();
    let mut reader = first.reader(attempt(), 0, 0).await.unwrap();
    assert!(matches!(reader.next().await, Err(Error::Damaged { .. })), "it was durable, so it is damage");
    assert_eq!(read_all(&logs(folder.path()), 0).await, [], "after a restart it is a torn end, and shipped anew");
}

#[tokio::test]
async fn a_follower_sees_each_record_and_then_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let (bytes, want) = spool(20);
    let mut reader = logs.reader(attempt(), 0, 0).await.unwrap();
    let follow = async {
        let mut found = Vec::new();
        while let Some(record) = reader.next_live().await.unwrap() {
            found.push(record);
        }
        found
    };
    let write = async {
        let mut writer = logs.writer(attempt(), 0);
        for (index, part) in bytes.chunks(37).enumerate() {
            writer.append(index as u64 * 37, Bytes::copy_from_slice(part));
            writer.sync().await.unwrap();
        }
    };
    let (found, ()) = tokio::join!(follow, write);
    assert_eq!(text(&found), want, "the exit record ends it");
}

#[tokio::test]
async fn a_log_without_an_exit_record_is_ended_by_word() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let mut early = logs.reader(attempt(), 0, 0).await.unwrap();
    let (seen, ()) = tokio::join!(early.next_live(), async { logs.end(attempt(), 0) });
    assert_eq!(seen.unwrap(), None);
    let mut late = logs.reader(attempt(), 0, 0).await.unwrap();
    assert_eq!(late.next_live().await.unwrap(), None);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path());
    let (bytes, want) = spool(20);
    let mut writer = logs.writer(attempt(), 0);
    writer.append(0, Bytes::copy_from_slice(&bytes[..100]));
    writer.sync().await.unwrap();
    // A folder that cannot be written to fails as a full disk does, for root as well: a file stands where it should be.
    let (mine, aside) = (segment::folder(folder.path(), (attempt(), 1)), folder.path().join("aside"));
    std::fs::write(&mine, b"").unwrap();
    let mut broken = logs.writer(attempt(), 1);
    broken.append(0, bytes.clone().into());
    assert!(matches!(broken.sync().await, Err(Error::File { .. })));
    assert!(logs.health().unwrap().contains("cannot be"));
    std::fs::rename(&mine, &aside).unwrap();
    broken.append(0, bytes.clone().into());
    assert_eq!(broken.sync().await.unwrap(), bytes.len() as u64);
    assert_eq!(logs.health(), None);
    writer.append(100, Bytes::copy_from_slice(&bytes[100..]));
    writer.sync().await.unwrap();
    assert_eq!(text(&read_all(&logs, 0).await), want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the cuts and repeats of a shipper, and wherever the controller is restarted: the same bytes.
    #[test]
    fn any_shipping_gives_the_same_log(parts in proptest::collection::vec((0..400_usize, 1..300_usize, any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (bytes, want) = spool(40);
            let mut current = logs(folder.path());
            for (back, length, restart) in parts {
                if restart {
                    current = logs(folder.path());
                }
                let mut writer = current.writer(attempt(), 0);
                let durable = usize::try_from(writer.durable().await.unwrap()).unwrap();
                let from = durable.saturating_sub(back);
                let to = (durable + length).min(bytes.len());
                writer.append(from as u64, Bytes::copy_from_slice(&bytes[from..to]));
                writer.sync().await.unwrap();
            }
            let mut writer = current.writer(attempt(), 0);
            writer.append(0, bytes.clone().into());
            writer.sync().await.unwrap();
            assert_eq!(text(&read_all(&current, 0).await), want);
            assert_eq!(logs(folder.path()).digest(attempt(), 0).await.unwrap(), current.digest(attempt(), 0).await.unwrap());
        });
    }
}
