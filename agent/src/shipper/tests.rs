use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use longshore_core::engine_event::{EngineEvent, Summary};
use longshore_core::spool::{Header, Stream};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::reader::Space;
use super::*;
use crate::ledger::{Ledger, Shipped};

/// What the controller does after a chunk.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Nothing yet.
    Wait,
    /// Syncs and acknowledges everything.
    Ack,
    /// Breaks the stream and forgets part of what was not synced.
    Cut { keep: usize },
    /// The agent is killed.
    Kill,
}

#[derive(Debug, Default)]
struct State {
    stored: Vec<u8>,
    durable: usize,
    acts: VecDeque<Act>,
    /// The stream that is open: closed by dropping.
    acks: Option<mpsc::UnboundedSender<u64>>,
    streams: usize,
    kills: watch::Sender<usize>,
}

/// A controller that keeps one log.
#[derive(Debug, Clone, Default)]
struct Controller(Arc<Mutex<State>>);

struct FakeUp(Controller, usize);
struct FakeDown(Controller, mpsc::UnboundedReceiver<u64>);

impl Uplink for Controller {
    type Up = FakeUp;
    type Down = FakeDown;
    async fn open(&self) -> Result<(FakeUp, FakeDown), CallError> {
        let (acks_tx, acks_rx) = mpsc::unbounded_channel();
        let mut state = self.0.lock().unwrap();
        acks_tx.send(state.durable as u64).unwrap();
        state.acks = Some(acks_tx);
        state.streams += 1;
        Ok((FakeUp(self.clone(), state.streams), FakeDown(self.clone(), acks_rx)))
    }
}

impl Up for FakeUp {
    async fn room(&self) -> bool {
        tokio::task::yield_now().await;
        true
    }
    fn put(&self, offset: u64, data: Vec<u8>) -> bool {
        let mut state = self.0.0.lock().unwrap();
        if state.acks.is_none() || state.streams != self.1 {
            return false;
        }
        assert_eq!(offset, state.stored.len() as u64, "a hole or a duplicate");
        state.stored.extend(data);
        match state.acts.pop_front().unwrap_or(Act::Ack) {
            Act::Wait => {}
            Act::Ack => {
                state.durable = state.stored.len();
                let durable = state.durable as u64;
                assert!(state.acks.as_ref().is_none_or(|acks| acks.send(durable).is_ok() || acks.is_closed()));
            }
            Act::Cut { keep } => {
                let kept = state.durable + keep.min(state.stored.len() - state.durable);
                state.stored.truncate(kept);
                state.durable = kept;
                state.acks = None;
            }
            Act::Kill => {
                state.kills.send_modify(|kills| *kills += 1);
                let durable = state.durable;
                state.stored.truncate(durable);
                state.acks = None;
            }
        }
        true
    }
}

impl Down for FakeDown {
    async fn next(&mut self) -> Result<u64, CallError> {
        // It syncs by itself when nothing comes for a second (of paused time).
        match tokio::time::timeout(Duration::from_secs(1), self.1.recv()).await {
            Ok(ack) => ack.ok_or_else(|| CallError::Unreached("cut".to_owned())),
            Err(_) => {
                let mut state = self.0.0.lock().unwrap();
                state.durable = state.stored.len();
                Ok(state.durable as u64)
            }
        }
    }
}

/// Grows as the test says.
struct FakeGrowth(watch::Receiver<u64>);

impl Growth for FakeGrowth {
    async fn longer_than(&mut self, seen: u64) -> std::io::Result<u64> {
        self.0.wait_for(|length| *length > seen).await.map(|length| *length).map_err(std::io::Error::other)
    }
}

fn spool(records: &[(bool, Vec<u8>)]) -> (Vec<u8>, Summary) {
    let (mut out, mut summary) = (Vec::new(), Summary::default());
    for (seq, (is_event, payload)) in records.iter().enumerate() {
        let event = EngineEvent::unreadable(payload.len() as u64);
        let (stream, payload) =
            if *is_event { (Stream::Events, event.to_json().unwrap()) } else { (Stream::Stdout, payload.clone()) };
        if *is_event {
            summary.add(&event);
        }
        out.extend(Header { len: u32::try_from(payload.len()).unwrap(), stream, seq: seq as u64, at: 5 }.to_bytes());
        out.extend(payload);
    }
    let exit = Header { len: 2, stream: Stream::Exit, seq: records.len() as u64, at: 77 };
    out.extend(exit.to_bytes());
    out.extend(b"{}");
    (out, summary)
}

/// Ships a spool of `bytes` that grows by `growth` at a time, killed and started anew as often as the controller says.
async fn deliver(bytes: &[u8], growth: usize, controller: &Controller) -> Delivered {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut file = std::fs::File::create(&path).unwrap();
    let (length_tx, length_rx) = watch::channel(0);
    let (end_tx, end_rx) = watch::channel(None);
    let write = async {
        for piece in bytes.chunks(growth.max(1)) {
            file.write_all(piece).unwrap();
            length_tx.send_modify(|length| *length += piece.len() as u64);
            tokio::task::yield_now().await;
        }
        end_tx.send_replace(Some(bytes.len() as u64));
        std::future::pending::<()>().await;
    };
    let shipping = async {
        loop {
            let shipped: Shipped = std::fs::read(Ledger::shipped_file(dir.path()))
                .map(|json| serde_json::from_slice(&json).unwrap())
                .unwrap_or_default();
            let mut reader = Reader::open(dir.path(), &path, shipped).unwrap();
            reader.space = Space { step: 4096, tail: 64 };
            let mut kills = controller.0.lock().unwrap().kills.subscribe();
            kills.mark_unchanged();
            let (mut growth, mut end) = (FakeGrowth(length_rx.clone()), end_rx.clone());
            tokio::select! {
                biased;
                _ = kills.changed() => {}
                delivered = ship(controller, reader, &mut growth, &mut end, Policy::default()) => return delivered.unwrap(),
            }
        }
    };
    tokio::select! {
        delivered = shipping => delivered,
        () = write => unreachable!(),
    }
}

fn run(bytes: &[u8], growth: usize, controller: &Controller) -> Delivered {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(deliver(bytes, growth, controller))
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![4 => Just(Act::Wait), 3 => Just(Act::Ack), 2 => (0usize..5_000).prop_map(|keep| Act::Cut { keep }), 1 => Just(Act::Kill)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_breaks_the_controller_has_the_same_bytes_and_the_same_events(
        records in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..3_000)), 0..40),
        acts in proptest::collection::vec(act(), 0..60),
        growth in 1usize..9_000,
    ) {
        let (bytes, summary) = spool(&records);
        let controller = Controller::default();
        controller.0.lock().unwrap().acts = acts.into();
        let delivered = run(&bytes, growth, &controller);
        prop_assert!(controller.0.lock().unwrap().stored == bytes);
        prop_assert_eq!(delivered.bytes, bytes.len() as u64);
        prop_assert_eq!(delivered.exit_at, Some(Timestamp::from_micros(77)));
        prop_assert_eq!(delivered.summary.map(|summary| *summary).unwrap_or_default(), summary);
    }
}

#[test]
fn durable_ranges_are_given_back_and_the_events_in_them_are_remembered() {
    let records: Vec<_> = (0..400).map(|n| (n % 2 == 0, vec![b'x'; 1_000])).collect();
    let (bytes, summary) = spool(&records);
    let controller = Controller::default();
    // Killed late: most of the spool is gone by then, and with it the events.
    controller.0.lock().unwrap().acts = [Act::Ack, Act::Ack, Act::Kill].into();
    let delivered = run(&bytes, 700, &controller);
    assert_eq!(*controller.0.lock().unwrap().kills.borrow(), 1);
    assert_eq!(*delivered.summary.unwrap(), summary);
    assert!(controller.0.lock().unwrap().stored == bytes);
}

#[tokio::test]
async fn an_acknowledgement_that_was_taken_back_is_an_error_and_no_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    std::fs::write(&path, vec![0; 10_000]).unwrap();
    let shipped = Shipped { boundary: 8_192, given_back: 8_192, ..Shipped::default() };
    let mut reader = Reader::open(dir.path(), &path, shipped).unwrap();
    assert!(matches!(reader.seek(100).await, Err(Error::GivenBack { asked: 100, given_back: 8_192 })));
}

#[tokio::test]
async fn what_is_no_spool_is_shipped_as_it_is() {
    let controller = Controller::default();
    let bytes = vec![b'#'; 100_000];
    let delivered = deliver(&bytes, 9_999, &controller).await;
    assert!(controller.0.lock().unwrap().stored == bytes);
    assert_eq!(delivered, Delivered { bytes: 100_000, summary: None, exit_at: None });
}
