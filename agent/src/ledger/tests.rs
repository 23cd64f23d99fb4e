use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::id::{DeploymentId, JobId};
use longshore_core::offer::{Network, OfferStep, Profile};
use longshore_core::time::Timestamp;

use super::*;

fn offer(fill: u8) -> Offer {
    let at = Timestamp::from_micros(1_000_000);
    let step = |index| OfferStep {
        index,
        name: format!("s{index}"),
        image: "i".to_owned(),
        profile: Profile::Standard,
        network: Network::None,
        mounts: vec![],
        pulumi: false,
        resources: longshore_core::resources::Resources::default(),
        pull: longshore_core::offer::Pull::default(),
        digest: None,
    };
    Offer {
        fence: Fence { attempt: AttemptId::new(at, [fill; 10]), epoch: 1, incarnation: 1 },
        job: JobId::new(at, [fill; 10]),
        deployment: DeploymentId::new(at, [fill; 10]),
        project: "p".to_owned(),
        environment: "e".to_owned(),
        url: String::new(),
        steps: vec![step(0), step(2)],
        package: None,
    }
}

fn claimed(fill: u8) -> (tempfile::TempDir, Ledger, Offer) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    let offer = offer(fill);
    ledger.claim(&Claim { offer: offer.clone(), at: Timestamp::from_micros(5) }).unwrap();
    (dir, ledger, offer)
}

fn intent() -> Intent {
    Intent { container: "c1".to_owned(), image_digest: "sha256:1".to_owned(), at: Timestamp::from_micros(6) }
}

#[test]
fn what_was_written_is_found_after_a_restart() {
    let (dir, ledger, offer) = claimed(1);
    let attempt = offer.fence.attempt;
    let entry = || Ledger::open(dir.path()).unwrap().load().unwrap().remove(0);
    assert_eq!(entry(), Entry { offer, cancel: None, reached: None });
    ledger.intend(attempt, 0, &intent()).unwrap();
    assert_eq!(entry().reached, Some(Reached { step: 0, intent: intent(), started: None }));
    let started =
        Started { at: Timestamp::from_micros(7), boot_id: "b".to_owned(), soft: 9, grace: Duration::from_secs(2) };
    ledger.start(attempt, 0, &started).unwrap();
    let mark = CancelMark { boot_id: "b".to_owned(), hard: 8, signalled: false, cause: Some("spot notice".to_owned()) };
    ledger.cancel(attempt, &mark).unwrap();
    assert_eq!(entry().reached, Some(Reached { step: 0, intent: intent(), started: Some(started) }));
    assert_eq!(entry().cancel, Some(mark));
    ledger.intend(attempt, 2, &intent()).unwrap();
    assert_eq!(entry().reached.unwrap().step, 2);
}

#[test]
fn what_is_forgotten_stays_forgotten() {
    let (dir, ledger, offer) = claimed(1);
    ledger.forget(offer.fence.attempt).unwrap();
    ledger.forget(offer.fence.attempt).unwrap();
    assert!(ledger.load().unwrap().is_empty());
    // The agent ended between the rename and the removal.
    std::fs::create_dir(dir.path().join(format!("attempts/{}.gone", offer.fence.attempt))).unwrap();
    assert!(ledger.load().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("attempts")).unwrap().count(), 0);
}

#[test]
fn torn_and_strange_files_neither_stop_the_agent_nor_are_guessed_at() {
    let (dir, ledger, good) = claimed(1);
    let (torn, half, mixed) = (offer(2), offer(3), offer(4));
    for other in [&torn, &half, &mixed] {
        ledger.claim(&Claim { offer: (*other).clone(), at: Timestamp::from_micros(5) }).unwrap();
    }
    std::fs::write(ledger.attempt_dir(torn.fence.attempt).join("offer.json"), b"{\"offer\":{").unwrap();
    ledger.intend(half.fence.attempt, 0, &intent()).unwrap();
    std::fs::write(ledger.step_dir(half.fence.attempt, 0).join("started.json"), b"").unwrap();
    std::fs::write(
        ledger.attempt_dir(mixed.fence.attempt).join("offer.json"),
        serde_json::to_vec(&Claim { offer: good.clone(), at: Timestamp::from_micros(1) }).unwrap(),
    )
    .unwrap();
    // Left over by an agent that ended while it wrote.
    std::fs::write(ledger.attempt_dir(good.fence.attempt).join("cancel.json.tmp"), b"{").unwrap();
    std::fs::create_dir(dir.path().join("attempts/lost+found")).unwrap();
    std::fs::create_dir(ledger.attempt_dir(offer(5).fence.attempt)).unwrap();

    assert_eq!(ledger.load().unwrap(), [Entry { offer: good, cancel: None, reached: None }]);
    assert_eq!(std::fs::read_dir(dir.path().join("unreadable")).unwrap().count(), 3);
    assert!(dir.path().join("attempts/lost+found").exists());
    assert!(!ledger.attempt_dir(offer(5).fence.attempt).exists());
}

#[test]
fn a_newer_agents_fields_are_no_hindrance() {
    let (_dir, ledger, good) = claimed(1);
    ledger.intend(good.fence.attempt, 0, &intent()).unwrap();
    let path = ledger.step_dir(good.fence.attempt, 0).join("intent.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    value["new"] = true.into();
    std::fs::write(&path, value.to_string()).unwrap();
    assert_eq!(ledger.load().unwrap()[0].reached.clone().unwrap().intent, intent());
}

#[test]
fn a_look_changes_nothing() {
    let (dir, ledger, offer) = claimed(1);
    let broken = self::offer(2).fence.attempt;
    std::fs::create_dir_all(ledger.attempt_dir(broken)).unwrap();
    std::fs::write(ledger.attempt_dir(broken).join("offer.json"), b"{").unwrap();
    let never_claimed = self::offer(3).fence.attempt;
    std::fs::create_dir_all(ledger.attempt_dir(never_claimed)).unwrap();
    let (entries, unreadable) = Ledger::peek(dir.path()).unwrap();
    assert_eq!((entries.len(), entries[0].offer.clone()), (1, offer));
    assert_eq!(unreadable, [broken.to_string()]);
    assert!(ledger.attempt_dir(broken).exists() && ledger.attempt_dir(never_claimed).exists());
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(Ledger::peek(empty.path()).unwrap(), (vec![], vec![]));
    assert!(std::fs::read_dir(empty.path()).unwrap().next().is_none());
}
