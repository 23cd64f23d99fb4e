use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::offer::{Network, OfferStep, Profile};
use crate::placement::{Candidate, Request};
use crate::resources::{Cpus, Resources};

const SECOND: Duration = Duration::from_secs(1);

fn id(n: u8) -> AgentId {
    AgentId::new(Timestamp::from_micros(0), [n; 10])
}

fn target() -> Target {
    Target::Command { name: "grow".to_owned() }
}

fn settings() -> Settings {
    Settings { min: 1, warm: 0, cooldown_down: 60 * SECOND, idle: 60 * SECOND, ..Settings::new(10, target()) }
}

fn machine(n: u8, busy: u32, idle: u64) -> Machine {
    let idle = Duration::from_secs(idle);
    Machine { id: id(n), slots: 1, busy, idle, draining: false, member: true, leaving: false }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0).after(Duration::from_secs(seconds))
}

fn now() -> Timestamp {
    at(100_000)
}

#[test]
fn jobs_that_wait_for_a_machine_get_one_each_and_what_comes_is_counted() {
    let mut signals = Signals { helped: 4, capacity: 2, ..Signals::default() };
    signals.machines = vec![machine(1, 1, 0), machine(2, 1, 0)];
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Grow { to: 6 });
    // Four are on their way.
    signals.capacity = 6;
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Keep(Reason::Enough));
    let two = Settings { slots_per_agent: 3, ..settings() };
    signals.capacity = 2;
    assert_eq!(decide(&signals, &two, &History::default(), now()), Decision::Grow { to: 4 });
}

#[test]
fn limits_and_cool_downs_hold() {
    let mut signals = Signals { helped: 40, ..Signals::default() };
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Grow { to: 10 });
    let slow = Settings { max_step_up: 2, ..settings() };
    assert_eq!(decide(&signals, &slow, &History::default(), now()), Decision::Grow { to: 2 });
    let just = History { grown: Some(at(99_990)), shrunk: None };
    let kept = decide(&signals, &settings(), &just, now());
    assert_eq!(kept, Decision::Keep(Reason::Cooling { left: 5 * SECOND }));
    signals.capacity = 10;
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Keep(Reason::AtMost));
    signals = Signals::default();
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Grow { to: 1 }, "the least");
}

#[test]
fn idle_machines_go_the_longest_idle_first_and_only_of_the_group() {
    let mut stranger = machine(9, 0, 9_000);
    stranger.member = false;
    let machines = vec![machine(1, 0, 61), machine(2, 0, 600), machine(3, 0, 59), machine(4, 1, 0), stranger];
    let signals = Signals { machines, capacity: 4, ..Signals::default() };
    let gone = Decision::Shrink { to: 2, remove: vec![id(2), id(1)] };
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), gone);
    let warm = Settings { warm: 3, ..settings() };
    let gone = Decision::Shrink { to: 3, remove: vec![id(2)] };
    assert_eq!(decide(&signals, &warm, &History::default(), now()), gone);
    let just = History { grown: Some(at(99_980)), shrunk: None };
    let kept = decide(&signals, &settings(), &just, now());
    assert_eq!(kept, Decision::Keep(Reason::Cooling { left: 40 * SECOND }));
    let waiting = Signals { helped: 1, ..signals };
    assert!(matches!(decide(&waiting, &settings(), &History::default(), now()), Decision::Grow { to: 5 }));
}

#[test]
fn a_group_with_more_machines_than_it_is_set_to_is_not_set_below_those_at_work() {
    let machines = vec![machine(1, 1, 0), machine(2, 1, 0), machine(3, 0, 900)];
    let signals = Signals { machines, capacity: 2, ..Signals::default() };
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), Decision::Keep(Reason::Enough));
    let machines = vec![machine(1, 0, 900), machine(2, 0, 900)];
    let signals = Signals { machines, capacity: 3, unreached: 2, ..Signals::default() };
    let one = Decision::Shrink { to: 2, remove: vec![id(1)] };
    assert_eq!(decide(&signals, &settings(), &History::default(), now()), one);
}

#[test]
fn nothing_is_done_in_doubt() {
    for doubt in [Doubt::Store, Doubt::Returning, Doubt::Silent, Doubt::Group] {
        let signals = Signals { helped: 5, doubt: Some(doubt), ..Signals::default() };
        let kept = decide(&signals, &settings(), &History::default(), now());
        assert_eq!(kept, Decision::Keep(Reason::Unsure(doubt)));
    }
}

#[test]
fn settings_are_read_as_people_write_them() {
    let text = r#"{"max": 4, "idle": "90s", "target": {"aws": {"region": "eu-central-1", "group": "workers a/b"}}}"#;
    let read: Settings = serde_json::from_str(text).unwrap();
    assert_eq!(read.idle, 90 * SECOND);
    assert_eq!(read.slots_per_agent, 1);
    assert_eq!(read.check(), Ok(()));
    let back: Settings = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
    assert_eq!(back, read);
    for bad in [
        r#"{"max": 4}"#,
        r#"{"max":4,"mxa":1,"target":{"command":{"name":"x"}}}"#,
        r#"{"max":4,"idle":"1","target":{"command":{"name":"x"}}}"#,
    ] {
        assert!(serde_json::from_str::<Settings>(bad).is_err(), "{bad}");
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    let fields = |change: fn(&mut Settings)| {
        let mut one = settings();
        change(&mut one);
        one.check().unwrap_err().0
    };
    assert_eq!(fields(|s| s.max = 0), "scaling.max");
    assert_eq!(fields(|s| s.min = 11), "scaling.min");
    assert_eq!(fields(|s| s.slots_per_agent = 0), "scaling.slots_per_agent");
    assert_eq!(fields(|s| s.idle = 90_000 * SECOND), "scaling.idle");
    let gcp = |location: &str, group: &str| Target::Gcp {
        project: "shop".to_owned(),
        location: location.to_owned(),
        group: group.to_owned(),
    };
    for (location, group) in [("zones/../x", "g"), ("zone/a", "g"), ("zones/a", "g/../../h"), ("zones/a", "")] {
        let one = Settings { target: gcp(location, group), ..settings() };
        assert!(one.check().is_err(), "{location} {group}");
    }
    let one = Settings { target: gcp("regions/europe-west3", "workers"), ..settings() };
    assert_eq!(one.check(), Ok(()));
}

fn candidate(n: u8) -> Candidate {
    Candidate {
        id: id(n),
        pool: "default".to_owned(),
        labels: BTreeMap::new(),
        connected: true,
        draining: None,
        ahead: None,
        slots: 1,
        busy: 0,
        mounts: BTreeSet::new(),
        weakest_profile: Profile::Standard,
        engine: true,
        plugins: None,
        declined: None,
        room: Resources::default(),
        reserved: Resources::default(),
        largest: Resources::default(),
        disk_left: None,
        low: Vec::new(),
        quarantined: None,
        kept_for: None,
    }
}

#[test]
fn a_job_waits_for_one_reason_and_only_some_are_helped_by_a_machine() {
    let steps = [OfferStep {
        index: 0,
        name: "one".to_owned(),
        image: "tiny".to_owned(),
        profile: Profile::Standard,
        network: Network::None,
        mounts: Vec::new(),
        pulumi: false,
        pull: crate::offer::Pull::default(),
        digest: None,
        resources: Resources::default(),
    }];
    let none = BTreeMap::new();
    let zone = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
    let plain = Request { pool: "default", labels: &none, steps: &steps, resources: Resources::default() };
    let labelled = Request { labels: &zone, ..plain };
    let full = Candidate { busy: 1, ..candidate(1) };
    let off = Candidate { draining: Some("x".to_owned()), ..candidate(2) };
    let other = Candidate { pool: "other".to_owned(), ..candidate(3) };
    let zoned = Candidate { labels: zone.clone(), busy: 1, ..candidate(4) };
    let check = |agents: &[Candidate], request: &Request<'_>, labels: &BTreeMap<String, String>| {
        let why = waits(agents, request);
        (why.word(), helped(why, agents, request, labels))
    };
    assert_eq!(check(&[candidate(1)], &plain, &none), ("offer", false));
    assert_eq!(check(&[], &plain, &none), ("no_agent", true));
    assert_eq!(check(std::slice::from_ref(&other), &plain, &none), ("no_agent", true));
    assert_eq!(check(&[full.clone(), off], &plain, &none), ("draining", true));
    assert_eq!(check(std::slice::from_ref(&full), &plain, &none), ("slots", true));
    assert_eq!(
        check(std::slice::from_ref(&full), &labelled, &none),
        ("label", false),
        "a further machine has no label either"
    );
    assert_eq!(check(&[full, zoned], &labelled, &none), ("slots", true), "some of the group have the label");
    assert_eq!(check(&[], &labelled, &none), ("no_agent", false));
    assert_eq!(check(&[], &labelled, &zone), ("no_agent", true));
    // More than a machine of the group has: another one has not either. What others have for now, another one has.
    let room = Resources { cpus: Cpus(2_000), ..Resources::default() };
    let sized = Candidate { room, busy: 1, slots: 4, reserved: room, ..candidate(5) };
    let wants = |millis| Request { resources: Resources { cpus: Cpus(millis), ..Resources::default() }, ..plain };
    assert_eq!(check(std::slice::from_ref(&sized), &wants(2_000), &none), ("cpus", true));
    assert_eq!(check(std::slice::from_ref(&sized), &wants(3_000), &none), ("cpus", false));
    for why in [Waits::Offer, Waits::Lock, Waits::Limit, Waits::Paused, Waits::Behind] {
        assert!(!helped(why, &[], &plain, &none), "{}", why.word());
    }
}

fn machines() -> impl Strategy<Value = Vec<Machine>> {
    let one = (0u32..4, 1u32..4, 0u64..600, any::<[bool; 3]>());
    prop::collection::vec(one, 0..20).prop_map(|all| {
        let build =
            |(n, (busy, slots, idle, [draining, member, leaving])): (usize, (u32, u32, u64, [bool; 3]))| Machine {
                id: id(u8::try_from(n).unwrap()),
                slots,
                busy,
                idle: if busy > 0 { Duration::ZERO } else { Duration::from_secs(idle) },
                draining,
                member,
                leaving,
            };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #[test]
    fn never_beyond_the_limits_and_never_a_machine_at_work(
        machines in machines(),
        (helped, capacity, unreached) in (0u32..50, 0u32..30, 0u32..5),
        (min, more, warm, slots) in (0u32..5, 0u32..20, 0u32..10, 1u32..4),
        (up, down) in (0u32..5, 0u32..5),
        past in (prop::option::of(0u64..400), prop::option::of(0u64..400)),
    ) {
        let max = (min + more).max(1);
        let settings = Settings {
            min, warm, slots_per_agent: slots, max_step_up: up, max_step_down: down, idle: 60 * SECOND,
            ..Settings::new(max, target())
        };
        let back = |seconds: Option<u64>| seconds.map(|s| at(100_000 - s));
        let history = History { grown: back(past.0), shrunk: back(past.1) };
        let signals = Signals { helped, machines, capacity, unreached, doubt: None };
        match decide(&signals, &settings, &history, now()) {
            Decision::Keep(_) => {}
            Decision::Grow { to } => {
                prop_assert!(to > capacity && to <= max);
                prop_assert!(up == 0 || to <= (capacity + up).max(min));
            }
            Decision::Shrink { to, remove } => {
                prop_assert_eq!(helped, 0);
                prop_assert!(to >= min && to < capacity);
                prop_assert!(down == 0 || remove.len() <= down as usize);
                prop_assert_eq!(to as usize + remove.len(), capacity as usize);
                let at_work = signals.machines.iter().filter(|m| m.member && !m.leaving && m.busy > 0).count();
                prop_assert!(to as usize >= at_work + unreached as usize);
                for gone in &remove {
                    let machine = signals.machines.iter().find(|m| m.id == *gone).unwrap();
                    prop_assert!(machine.busy == 0 && machine.member && !machine.leaving && !machine.draining);
                    prop_assert!(machine.idle >= settings.idle);
                }
                let left = signals.machines.iter().filter(|m| !m.draining && !m.leaving && !remove.contains(&m.id));
                let free: u32 = left.map(|m| m.slots.saturating_sub(m.busy)).sum();
                prop_assert!(free >= warm || to >= max);
            }
        }
    }

    /// In constant load the group comes to rest: once it has what it needs it is not changed any more.
    #[test]
    fn constant_load_does_not_flap(load in 0u32..12, min in 0u32..3, warm in 0u32..4, slots in 1u32..4) {
        let settings = Settings { min, warm, slots_per_agent: slots, ..Settings::new(20, target()) };
        let (mut group, mut history, mut changes) = (Vec::<(u8, u64)>::new(), History::default(), Vec::new());
        let (mut next, mut capacity) = (0u8, 0u32);
        for tick in 0..400u64 {
            let seconds = tick * 15;
            // A machine is there 60 s after it was asked for; the load is spread over what is there, the oldest first.
            let mut rest = load;
            let machines: Vec<Machine> = group.iter_mut().filter(|(_, asked)| seconds >= asked + 60).map(|(n, asked)| {
                let busy = rest.min(slots);
                rest -= busy;
                let idle = if busy > 0 { Duration::ZERO } else { Duration::from_secs(seconds - *asked - 60) };
                Machine { id: id(*n), slots, busy, idle, draining: false, member: true, leaving: false }
            }).collect();
            let signals = Signals { helped: rest, machines, capacity, ..Signals::default() };
            match decide(&signals, &settings, &history, at(seconds)) {
                Decision::Keep(_) => {}
                Decision::Grow { to } => {
                    for _ in capacity..to {
                        group.push((next, seconds));
                        next += 1;
                    }
                    (capacity, history.grown) = (to, Some(at(seconds)));
                    changes.push(tick);
                }
                Decision::Shrink { to, remove } => {
                    group.retain(|(n, _)| !remove.contains(&id(*n)));
                    (capacity, history.shrunk) = (to, Some(at(seconds)));
                    changes.push(tick);
                }
            }
        }
        prop_assert!(changes.len() <= 4, "{changes:?}");
        prop_assert!(changes.iter().all(|tick| *tick < 100), "{changes:?}");
        prop_assert!(capacity * slots >= load + warm.min(20 * slots - load));
    }
}
