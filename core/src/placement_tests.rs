use super::*;
use crate::offer::Network;
use crate::time::Timestamp;

const GIB: u64 = 1 << 30;

fn agent(n: u8) -> Candidate {
    Candidate {
        id: AgentId::new(Timestamp::from_micros(0), [n; 10]),
        pool: "default".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        connected: true,
        draining: None,
        ahead: None,
        slots: 2,
        busy: 0,
        mounts: BTreeSet::from(["state".to_owned()]),
        weakest_profile: Profile::Standard,
        engine: true,
        plugins: None,
        declined: None,
        room: Resources { cpus: Cpus(4_000), memory: Bytes(8 * GIB), disk: Bytes(100 * GIB) },
        reserved: Resources::default(),
        largest: Resources::default(),
        disk_left: Some(90 * GIB),
        low: vec![],
        quarantined: None,
        kept_for: None,
    }
}

fn step() -> OfferStep {
    OfferStep {
        index: 0,
        name: "one".to_owned(),
        image: "tiny".to_owned(),
        profile: Profile::Standard,
        network: Network::None,
        mounts: vec!["state".to_owned()],
        pulumi: false,
        pull: crate::offer::Pull::default(),
        digest: None,
        resources: Resources::default(),
    }
}

const NO_LABELS: &BTreeMap<String, String> = &BTreeMap::new();

fn wish(cpus: u64, memory: u64, disk: u64) -> Request<'static> {
    let resources = Resources { cpus: Cpus(cpus), memory: Bytes(memory * GIB), disk: Bytes(disk * GIB) };
    Request { pool: "default", labels: NO_LABELS, steps: &[], resources }
}

#[test]
fn each_predicate_rejects_alone() {
    let steps = [step()];
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    let request = Request { pool: "default", labels: &labels, steps: &steps, ..wish(2_000, 2, 10) };
    type Break = fn(&mut Candidate);
    let low = |what| vec![LowWater { what, engine_root: None, left: 1, low: 2, again: 3 }];
    let scarce: [(&str, Scarce); 2] = [("disk", Scarce::Disk), ("inodes", Scarce::Inodes)];
    let cases: [(&str, Break); 21] = [
        ("label", |a| a.labels.clear()),
        ("label", |a| drop(a.labels.insert("zone".to_owned(), "b".to_owned()))),
        ("pool", |a| a.pool = "gpu".to_owned()),
        ("connected", |a| a.connected = false),
        ("draining", |a| a.draining = Some("spot notice".to_owned())),
        ("plugins", |a| a.plugins = Some("has not all plugins of the pool: 1 of 2".to_owned())),
        ("version", |a| a.ahead = crate::compat::ahead("2.0.0", "1.0.0")),
        ("engine", |a| a.engine = false),
        ("quarantined", |a| a.quarantined = Some("is quarantined".to_owned())),
        ("mount", |a| a.mounts.clear()),
        ("profile", |a| a.weakest_profile = Profile::Locked),
        ("slots", |a| a.busy = 2),
        ("cpus", |a| a.reserved.cpus = Cpus(2_001)),
        ("cpus", |a| a.largest.cpus = Cpus(1_000)),
        ("cpus", |a| a.room.cpus = Cpus(1_000)),
        ("memory", |a| a.reserved.memory = Bytes(7 * GIB)),
        ("memory", |a| a.largest.memory = Bytes(GIB)),
        ("disk", |a| a.reserved.disk = Bytes(95 * GIB)),
        ("disk", |a| a.disk_left = Some(GIB)),
        ("kept", |a| a.kept_for = Some("deployment `dep_1`".to_owned())),
        ("declined", |a| a.declined = Some("the disk is full".to_owned())),
    ];
    assert_eq!(rejections(&agent(1), &request), []);
    let refuses = |one: &Candidate, predicate: &str| {
        let found: Vec<_> = rejections(one, &request).into_iter().map(|r| r.predicate).collect();
        assert_eq!(found, [predicate]);
        assert_eq!(pick([one], &request, Strategy::Spread), None);
    };
    for (predicate, break_it) in cases {
        let mut one = agent(1);
        break_it(&mut one);
        refuses(&one, predicate);
    }
    for (predicate, what) in scarce {
        refuses(&Candidate { low: low(what), ..agent(1) }, predicate);
    }
}

#[test]
fn a_rejection_says_the_numbers() {
    let busy = Candidate {
        reserved: Resources { cpus: Cpus(3_000), memory: Bytes(7 * GIB), ..Resources::default() },
        low: vec![
            LowWater { what: Scarce::Inodes, engine_root: None, left: 900, low: 1_000, again: 1_200 },
            LowWater {
                what: Scarce::Disk,
                engine_root: Some("/docker".to_owned()),
                left: GIB,
                low: 2 * GIB,
                again: 3 * GIB,
            },
        ],
        disk_left: Some(20 * GIB),
        ..agent(1)
    };
    let words: Vec<_> = rejections(&busy, &wish(1_500, 2, 50)).into_iter().map(|one| one.message).collect();
    assert_eq!(
        words,
        [
            "has 1 of 4 cpus free, the job asks for 1.5",
            "has 1GiB of 8GiB memory free, the job asks for 2GiB",
            "its disk has 20GiB left beyond its reserve, the job asks for 50GiB",
            "its file system has inodes 900 left, below 1000; it takes jobs again at 1200",
            "the disk of its engine (`/docker`) has 1GiB left, below 2GiB; it takes jobs again at 3GiB",
        ]
    );
    let words: Vec<_> = rejections(&agent(1), &wish(5_000, 0, 0)).into_iter().map(|one| one.message).collect();
    assert_eq!(words, ["gives a job at most 4 cpus, the job asks for 5"]);
}

#[test]
fn spread_takes_the_emptiest_agent_and_pack_the_fullest_that_fits() {
    let (mut first, second) = (agent(1), agent(2));
    let request = wish(0, 0, 0);
    assert_eq!(pick([&second, &first], &request, Strategy::Spread).unwrap().id, first.id);
    first.busy = 1;
    assert_eq!(pick([&second, &first], &request, Strategy::Spread).unwrap().id, second.id);
    assert_eq!(pick([&second, &first], &request, Strategy::Pack).unwrap().id, first.id);
    first.busy = 2;
    assert_eq!(pick([&second, &first], &request, Strategy::Pack).unwrap().id, second.id);
}

#[test]
fn room_is_kept_for_what_fits_only_on_an_empty_agent() {
    let busy = |n| Candidate { reserved: Resources { cpus: Cpus(1_000), ..Resources::default() }, busy: 1, ..agent(n) };
    let (first, second) = (busy(1), busy(2));
    let large = wish(4_000, 0, 0);
    assert_eq!(pick([&first, &second], &large, Strategy::Spread), None);
    assert_eq!(keep([&second, &first], &large).unwrap().id, first.id, "always the same");
    let full = Candidate { busy: 2, reserved: Resources::default(), ..agent(1) };
    assert_eq!(keep([&full], &wish(1_000, 0, 0)), None, "a slot will be free");
    assert_eq!(keep([&first], &wish(4_001, 0, 0)), None, "it will never fit");
    assert_eq!(keep([&Candidate { draining: Some("spot notice".to_owned()), ..busy(1) }], &large), None);
}

#[test]
fn what_passes_is_told_from_what_never_will() {
    let full = Candidate {
        reserved: Resources { cpus: Cpus(4_000), ..Resources::default() },
        busy: 2,
        draining: Some("spot notice".to_owned()),
        quarantined: Some("is quarantined".to_owned()),
        disk_left: Some(0),
        ..agent(1)
    };
    assert!(could_ever(&full, &wish(4_000, 8, 100)));
    assert!(!could_ever(&full, &wish(4_001, 0, 0)));
    assert!(!could_ever(&full, &wish(0, 9, 0)));
    assert!(!could_ever(&full, &wish(0, 0, 101)));
    let small = Candidate { largest: Resources { memory: Bytes(GIB), ..Resources::default() }, ..agent(1) };
    assert!(!could_ever(&small, &wish(0, 2, 0)));
}
