use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000 * SECOND + seconds * SECOND)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules() -> Rules {
    Rules { save_time: secs(60), ship_time: secs(10), hook: true, protect: true }
}

fn state() -> State {
    State::new(rules(), Timeouts::of(secs(300)))
}

fn says(source: Source, when: When) -> Look {
    (source, Ok(Some(Notice::new(format!("{source:?}"), when))))
}

fn hook(state: &mut State, now: i64) -> Vec<Call> {
    let calls = state.calls(true, at(now));
    calls.into_iter().filter(|call| !matches!(call, Call::Protect(_) | Call::AskHook)).collect()
}

#[test]
fn nothing_said_is_nothing_done() {
    let mut state = state();
    assert_eq!((state.leaving(at(0)), state.due(at(0))), (Leaving::default(), None));
    for source in [Source::Spot, Source::Group, Source::Events] {
        state.saw((source, Err("garbage".to_owned())), at(0));
        state.saw((source, Ok(None)), at(1));
    }
    assert_eq!((state.leaving(at(0)), state.due(at(0))), (Leaving::default(), None));
    assert_eq!((state.calls(false, at(0)), state.calls(false, at(1))), (vec![Call::AskHook], vec![]));
}

#[test]
fn a_notice_of_two_minutes_lets_short_jobs_finish_and_a_tool_save() {
    let mut state = state();
    state.saw(says(Source::Spot, When::At(at(120))), at(0));
    let drain = Some(("Spot".to_owned(), Some(at(120))));
    assert_eq!(state.leaving(at(0)), Leaving { drain: drain.clone(), cancel: None });
    assert_eq!(state.due(at(0)), Some(at(50)));
    assert_eq!(state.leaving(at(49)).cancel, None);
    assert_eq!(state.leaving(at(50)), Leaving { drain, cancel: Some(at(110)) });
    assert_eq!(state.leaving(at(90)).cancel, Some(at(110)), "the end stays where it is");
    assert_eq!(state.due(at(50)), None);
}

#[test]
fn of_half_a_minute_the_tool_has_what_there_is() {
    let mut state = state();
    state.saw(says(Source::Preempted, When::After(secs(30))), at(5));
    assert_eq!(state.leaving(at(5)).cancel, Some(at(25)));
    // The service repeats itself; the time does not begin anew.
    state.saw(says(Source::Preempted, When::After(secs(30))), at(15));
    assert_eq!(state.leaving(at(15)).cancel, Some(at(25)));
    let mut late = State::new(rules(), Timeouts::of(secs(300)));
    late.saw(says(Source::Events, When::At(at(8))), at(0));
    assert_eq!(late.leaving(at(0)).cancel, Some(at(4)), "both have a half of too little");
    late.saw(says(Source::Events, When::At(at(-5))), at(0));
    assert_eq!(late.leaving(at(0)).cancel, Some(at(-5)), "at once");
}

#[test]
fn advice_drains_and_cancels_nothing_and_can_be_taken_back() {
    let mut state = state();
    state.saw(says(Source::Rebalance, When::Open), at(0));
    for now in [0, 1_000, 100_000] {
        assert_eq!(state.leaving(at(now)), Leaving { drain: Some(("Rebalance".to_owned(), None)), cancel: None });
    }
    state.saw((Source::Rebalance, Err("late".to_owned())), at(2));
    assert!(state.leaving(at(2)).drain.is_some(), "an error takes nothing back");
    state.saw((Source::Rebalance, Ok(None)), at(3));
    assert_eq!(state.leaving(at(3)), Leaving::default());
}

#[test]
fn the_nearest_end_counts() {
    let mut state = state();
    state.saw(says(Source::Rebalance, When::Open), at(0));
    state.saw(says(Source::Group, When::Hook), at(1));
    state.saw(says(Source::Spot, When::At(at(200))), at(2));
    assert_eq!(state.leaving(at(3)).drain, Some(("Spot".to_owned(), Some(at(200)))));
}

#[test]
fn the_hook_is_kept_alive_until_no_job_is_left_and_then_completed() {
    let mut state = state();
    state.saw(says(Source::Group, When::Hook), at(0));
    assert_eq!(state.calls(true, at(0)), [Call::Heartbeat, Call::AskHook]);
    state.called(&Call::Heartbeat, true, at(0));
    state.called(&Call::AskHook, true, at(0));
    state.told(Timeouts { heartbeat: secs(100), global: secs(3_600) });
    assert_eq!(hook(&mut state, 49), []);
    assert_eq!(hook(&mut state, 50), [Call::Heartbeat], "half of its timeout");
    state.called(&Call::Heartbeat, true, at(50));
    assert_eq!(state.leaving(at(50)).drain, Some(("Group".to_owned(), Some(at(3_600)))));
    assert_eq!(state.leaving(at(3_500)).cancel, None);
    assert_eq!(state.leaving(at(3_530)).cancel, Some(at(3_590)), "the hook ends in any case");
    assert_eq!(state.calls(false, at(60)), [Call::Complete]);
    state.called(&Call::Complete, false, at(60));
    assert_eq!(state.calls(false, at(61)), []);
    assert_eq!(state.calls(false, at(66)), [Call::Complete]);
    state.called(&Call::Complete, true, at(66));
    assert_eq!(state.calls(false, at(600)), []);
    assert!(state.leaving(at(600)).drain.is_some(), "the machine still goes");
}

#[test]
fn a_heartbeat_that_is_not_taken_is_tried_again_and_jobs_end_before_the_hook_times_out() {
    let mut state = State::new(rules(), Timeouts::of(secs(60)));
    state.saw(says(Source::Group, When::Hook), at(0));
    assert_eq!(state.calls(true, at(0)), [Call::Heartbeat, Call::AskHook]);
    assert_eq!(state.leaving(at(0)).cancel, None, "not before it was tried");
    state.called(&Call::Heartbeat, true, at(0));
    assert_eq!(hook(&mut state, 30), [Call::Heartbeat]);
    state.called(&Call::Heartbeat, false, at(30));
    assert_eq!(state.leaving(at(30)), Leaving { drain: Some(("Group".to_owned(), Some(at(60)))), cancel: None });
    assert_eq!((hook(&mut state, 34), hook(&mut state, 35)), (vec![], vec![Call::Heartbeat]));
    state.called(&Call::Heartbeat, false, at(35));
    assert_eq!(state.due(at(35)), Some(before(at(60), Duration::from_millis(22_500))));
    assert_eq!(state.leaving(at(37)).cancel, None);
    assert_eq!(state.leaving(at(38)).cancel, Some(at(50)));
    // A late success is one.
    state.called(&Call::Heartbeat, true, at(37));
    assert_eq!(state.leaving(at(38)).cancel, None);
}

#[test]
fn a_group_without_a_hook_of_ours_is_told_nothing() {
    let mut state = State::new(Rules { hook: false, ..rules() }, Timeouts::of(secs(60)));
    state.saw(says(Source::Group, When::Open), at(0));
    assert_eq!(state.calls(true, at(0)), []);
    assert_eq!(state.leaving(at(9_999)), Leaving { drain: Some(("Group".to_owned(), None)), cancel: None });
}

#[test]
fn the_instance_is_protected_while_it_has_jobs_and_a_while_after() {
    let mut state = State::new(Rules { hook: false, ..rules() }, Timeouts::of(secs(300)));
    assert_eq!(state.calls(false, at(0)), []);
    assert_eq!(state.calls(true, at(1)), [Call::Protect(true)]);
    assert_eq!(state.calls(true, at(2)), [], "not each time");
    assert_eq!(state.calls(true, at(6)), [Call::Protect(true)], "until it is done");
    state.called(&Call::Protect(true), true, at(6));
    assert_eq!(state.calls(true, at(100)), []);
    assert_eq!((state.calls(false, at(101)), state.calls(false, at(130))), (vec![], vec![]));
    assert_eq!((state.calls(true, at(131)), state.calls(false, at(132))), (vec![], vec![]), "it worked again");
    assert_eq!(state.calls(false, at(162)), [Call::Protect(false)]);
    state.called(&Call::Protect(false), true, at(162));
    assert_eq!(state.calls(false, at(999)), []);
    state.saw(says(Source::Group, When::Hook), at(1_000));
    assert!(!state.calls(true, at(1_001)).contains(&Call::Protect(true)), "it was chosen");
}

#[test]
fn an_event_is_acknowledged_once_when_no_job_is_left() {
    let mut state = state();
    let notice = Notice { acknowledge: Some("e1".to_owned()), ..Notice::new("reboot", When::At(at(900))) };
    state.saw((Source::Events, Ok(Some(notice))), at(0));
    let acknowledges = |state: &mut State, busy, now| {
        let calls = state.calls(busy, at(now));
        calls.into_iter().filter(|call| matches!(call, Call::Acknowledge(_))).count()
    };
    assert_eq!((acknowledges(&mut state, true, 0), acknowledges(&mut state, false, 1)), (0, 1));
    state.called(&Call::Acknowledge("e1".to_owned()), true, at(1));
    assert_eq!(acknowledges(&mut state, false, 2), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Look(Source, Result<Option<When>, ()>),
    Pass(u64),
    Busy(bool),
    Take(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let source =
        prop::sample::select(vec![Source::Spot, Source::Rebalance, Source::Group, Source::Preempted, Source::Events]);
    let when = prop_oneof![
        Just(Err(())),
        Just(Ok(None)),
        Just(Ok(Some(When::Open))),
        (0..400_i64).prop_map(|end| Ok(Some(When::At(at(end))))),
        (0..100_u64).prop_map(|after| Ok(Some(When::After(secs(after))))),
    ];
    prop_oneof![
        (source, when).prop_map(|(source, when)| Step::Look(source, when)),
        Just(Step::Look(Source::Group, Ok(Some(When::Hook)))),
        (0..40_u64).prop_map(Step::Pass),
        any::<bool>().prop_map(Step::Busy),
        any::<bool>().prop_map(Step::Take),
    ]
}

proptest! {
    /// Whatever is said in whichever order: jobs are canceled only for an end that is near, never for an error; there is
    /// time for the log; and the hook is completed only when nothing is held.
    #[test]
    fn nothing_is_canceled_or_completed_too_early(steps in prop::collection::vec(step(), 1..60)) {
        let (mut state, mut now, mut busy, mut taken) = (state(), at(0), false, true);
        let mut believed: BTreeMap<Source, When> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Look(source, Ok(Some(when))) => {
                    believed.insert(source, when);
                    state.saw(says(source, when), now);
                }
                Step::Look(source, Ok(None)) => {
                    believed.remove(&source);
                    state.saw((source, Ok(None)), now);
                }
                Step::Look(source, Err(())) => state.saw((source, Err("no".to_owned())), now),
                Step::Pass(seconds) => now = now.after(secs(seconds)),
                Step::Busy(is) => busy = is,
                Step::Take(takes) => taken = takes,
            }
            let leaving = state.leaving(now);
            prop_assert_eq!(leaving.drain.is_some(), !believed.is_empty());
            if let Some(kill) = leaving.cancel {
                prop_assert!(believed.values().any(|when| *when != When::Open));
                let end = leaving.drain.clone().and_then(|(_, end)| end).unwrap();
                prop_assert!(kill <= end && now >= before(end, secs(70)));
            }
            prop_assert!(state.due(now).is_none_or(|due| due > now));
            for call in state.calls(busy, now) {
                match &call {
                    Call::Complete => prop_assert!(!busy && believed.get(&Source::Group) == Some(&When::Hook)),
                    Call::Heartbeat => prop_assert!(busy && believed.get(&Source::Group) == Some(&When::Hook)),
                    Call::Protect(protect) => prop_assert_eq!(*protect, busy),
                    Call::AskHook | Call::Acknowledge(_) => {}
                }
                state.called(&call, taken, now);
            }
        }
    }
}
