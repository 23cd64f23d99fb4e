//! The drill: a scaling group grows from 1 to 20 machines and runs 200 jobs, while machines are scaled in at random, taken away
//! after spot notices, let down by their hook, and vanish. Every job ends exactly once.

use std::collections::{BTreeMap, BTreeSet};

use longshore_tests::docker::TINY;
use longshore_tests::group::{Fate, Group};
use longshore_tests::process::{run, wait_for};
use serde_json::Value;

const MACHINES: usize = 20;
const JOBS: usize = 200;
/// Every twentieth job is longer than any notice: it waits for the end of the drill.
const LONG: usize = 20;
/// The same drill each time.
const SEED: u64 = 0x5ca1_e1e5;

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn spec() -> String {
    let environments: String = (0..JOBS).map(|n| format!("  - name: e{n}\n")).collect();
    format!(
        "version: 1\nproject: drill\nenvironments:\n{environments}variables:\n  turns: {{prompt: \"tenths of a second\", required: true}}\n\
         steps:\n  - name: one\n    image: {TINY}\n    network: none\n    mounts: [state]\n    env:\n      WHO: ${{{{ deployment }}}}\n      \
         TURNS: ${{{{ vars.turns }}}}\n    run: |\n      \
         trap 'echo \"saved $WHO\" >> /state/log; echo the last line; exit 130' INT\n      \
         echo \"start $WHO\" >> /state/log\n      n=0\n      \
         while [ $n -lt $TURNS ] && [ ! -e /state/go ]; do usleep 100000; n=$((n+1)); done\n      \
         echo \"end $WHO\" >> /state/log\n"
    )
}

struct Drill {
    group: Group,
    random: Random,
    /// Long jobs by deployment.
    long: BTreeSet<String>,
    /// Deployments that were ever seen as unknown.
    unknown: BTreeSet<String>,
}

impl Drill {
    fn deploy(&mut self, number: usize) {
        let long = number % LONG == 3;
        let turns = if long { 6000 } else { 1 + self.random.below(5) };
        let (env, var) = (format!("e{number}"), format!("turns={turns}"));
        let made = self.group.fleet.json(&["deploy", "drill", "--env", &env, "--var", &var]);
        let id = made["deployment"].as_str().unwrap().to_owned();
        if long {
            self.long.insert(id);
        }
    }

    /// The state of every deployment. Machines whose time has come are gone afterwards.
    fn look(&mut self) -> BTreeMap<String, String> {
        self.group.pass();
        let list = self.group.fleet.json(&["deployment", "list", "--project", "drill", "--limit", "300"]);
        let rows = list.as_array().or_else(|| list["deployments"].as_array()).unwrap().clone();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let states: BTreeMap<_, _> = rows.iter().map(|row| (text(row, "id"), text(row, "state"))).collect();
        self.unknown.extend(states.iter().filter(|(_, state)| *state == "unknown").map(|(id, _)| id.clone()));
        states
    }

    fn show(&self, id: &str) -> Value {
        self.group.fleet.json(&["deployment", "show", id])
    }

    /// A machine that stays and runs a long job, and that job.
    fn with_long_job(&mut self) -> (usize, String) {
        let found = wait_for("a machine with a long job", || {
            let states = self.look();
            let staying = self.group.staying();
            // Its program has to be under way: between the grant and its first line anything may come.
            let log = std::fs::read_to_string(self.group.fleet.state().join("log")).unwrap_or_default();
            let begun = |id: &&String| count(&log, &format!("start {id}")) == 1;
            self.long
                .iter()
                .filter(begun)
                .filter(|id| states.get(*id).is_some_and(|state| state == "running"))
                .find_map(|id| {
                    let shown = self.show(id);
                    let attempt = shown["steps"][0]["attempts"].as_array()?.last()?.clone();
                    let started = shown["steps"][0]["state"] == "running" && attempt["container"].is_string();
                    let agent = attempt["agent"].as_str().filter(|_| started)?;
                    let index = staying.iter().find(|index| self.group.machines[**index].agent == agent)?;
                    Some((*index, id.clone()))
                })
        });
        // Nobody looks for it again.
        self.long.remove(&found.1);
        found
    }

    fn any(&mut self) -> usize {
        let staying = self.group.staying();
        staying[self.random.below(staying.len())]
    }
}

fn count(log: &str, line: &str) -> usize {
    log.lines().filter(|other| *other == line).count()
}

#[test]
fn every_job_ends_exactly_once_while_machines_come_and_go() {
    let mut drill =
        Drill { group: Group::start(), random: Random(SEED), long: BTreeSet::new(), unknown: BTreeSet::new() };
    drill.group.fleet.apply(&spec());

    // It grows from one machine while jobs come.
    for (batch, size) in [1, 4, 12, MACHINES].into_iter().enumerate() {
        let there = drill.group.machines.len();
        drill.group.grow(size - there);
        for number in batch * JOBS / 4..(batch + 1) * JOBS / 4 {
            drill.deploy(number);
        }
    }

    // Notices that are shorter than the job: canceled in time, by the agent, with the reason.
    let mut canceled = Vec::new();
    for notice in [10, 20] {
        let (index, job) = drill.with_long_job();
        drill.group.spot(index, notice);
        canceled.push((job, "spot notice: terminate at "));
        let other = drill.any();
        drill.group.spot(other, notice);
    }
    let (index, job) = drill.with_long_job();
    drill.group.scale_in_in_vain(index);
    canceled.push((job, "the scaling group terminates this instance"));

    // The hook is kept alive for as long as the job takes; it is shown.
    let (kept, patient) = drill.with_long_job();
    drill.group.scale_in(kept);
    let name = drill.group.machines[kept].agent.clone();
    wait_for("the drain to be shown", || {
        let shown = drill.group.fleet.cli(&["agent", "show", &name]).ok().text();
        let words = "draining: 1 job, 59 min left, because the scaling group terminates this instance";
        shown.contains(words).then_some(())
    });
    for _ in 0..3 {
        let any = drill.any();
        drill.group.scale_in(any);
    }

    // One is gone without a word, in the middle of a job.
    let (gone, lost) = drill.with_long_job();
    drill.group.vanish(gone);
    drill.group.grow(4);

    for (job, _) in &canceled {
        wait_for("a cancel", || drill.look().get(job).filter(|state| *state == "canceled").cloned());
    }
    std::fs::write(drill.group.fleet.state().join("go"), "").unwrap();

    // Everything ends but what vanished.
    let ended = |state: &str| matches!(state, "succeeded" | "failed" | "canceled" | "lost");
    while drill.look().iter().any(|(id, state)| !ended(state) && *id != lost) {
        let _paced = run(&mut std::process::Command::new("true"), b"");
    }
    wait_for("the vanished one's job to be unknown", || {
        drill.look().get(&lost).filter(|state| *state == "unknown").cloned()
    });
    assert_eq!(drill.unknown.iter().collect::<Vec<_>>(), [&lost], "only where a machine really vanished");

    // Until there is proof: the machine's disk comes back, and its engine has no such container.
    let back = drill.group.machines[gone].name.clone();
    drill.group.fleet.start_agent(&back);
    wait_for("proof", || drill.look().get(&lost).filter(|state| *state == "lost").cloned());
    check(&mut drill, &canceled, &lost);
    assert_eq!(drill.look()[&patient], "succeeded");
    wait_for("every hook to be done", || {
        let _states = drill.look();
        drill.group.machines.iter().all(|machine| matches!(machine.fate, Fate::Stays | Fate::Gone)).then_some(())
    });
    assert_eq!(drill.group.machines.iter().filter(|machine| machine.fate == Fate::Gone).count(), 10);
    let heartbeats = drill.group.machines[kept].cloud.with(|cloud| cloud.heartbeats);
    assert!(heartbeats > 0, "the hook was kept alive");
}

/// Every job ended once, and the world outside saw it once.
fn check(drill: &mut Drill, canceled: &[(String, &str)], lost: &str) {
    let states = drill.look();
    assert_eq!(states.len(), JOBS);
    let log = std::fs::read_to_string(drill.group.fleet.state().join("log")).unwrap();
    let mut by_state = BTreeMap::<&str, usize>::new();
    for (id, state) in &states {
        *by_state.entry(state).or_default() += 1;
        let seen = ["start", "saved", "end"].map(|what| count(&log, &format!("{what} {id}")));
        match state.as_str() {
            "succeeded" => assert_eq!(seen, [1, 0, 1], "{id}"),
            "canceled" => {
                let shown = drill.show(id);
                let reason = shown["steps"][0]["reason"].as_str().unwrap_or_default();
                assert!(reason.starts_with("canceled by its agent ("), "{id}: {shown:#}");
                if canceled.iter().any(|(one, _)| one == id) {
                    assert_eq!(seen, [1, 1, 0], "{id}: {reason}");
                    let log = drill.group.fleet.cli(&["logs", id, "--raw"]).stdout;
                    assert!(log.ends_with(b"the last line\n"), "{id}: {:?}", String::from_utf8_lossy(&log));
                } else {
                    // It may have been canceled before its program could say anything.
                    assert!(seen[0] <= 1 && seen[1] <= seen[0] && seen[2] == 0, "{id}: {seen:?}, {reason}");
                }
            }
            "lost" => assert_eq!((id.as_str(), seen), (lost, [1, 0, 0])),
            other => panic!("{id} is {other}: {:#}", drill.show(id)),
        }
    }
    for (id, why) in canceled {
        let shown = drill.show(id);
        let reason = shown["steps"][0]["reason"].as_str().unwrap_or_default();
        assert!(states[id] == "canceled" && reason.contains(why), "{id}: {shown:#}");
    }
    println!("{by_state:?}");
}
