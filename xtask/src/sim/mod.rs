//! `cargo xtask sim scaling`: what the scaler's decision does to waits and machine-hours, against a fixed fleet and
//! plain target tracking.
//!
//! The decision is the one that the controller makes (`longshore_core::scaling::decide`); jobs, machines and the group are
//! simulated second by second. Everything random comes from one seed, so a run prints what the last one printed.

mod group;
mod policy;
mod report;
mod trace;
mod world;

use longshore_core::scaling::Settings;

use policy::{Fixed, Ours, Tracking};
use report::Row;
use trace::Scenario;
use world::Outcome;

/// Of every random number here.
const SEED: u64 = 5;
/// Of the runs of a sweep.
const SEEDS: [u64; 3] = [5, 17, 29];

/// Runs; `false` when an argument is not known.
pub(crate) fn run(args: &[String]) -> bool {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["scaling"] => report::table(&Scenario::all().iter().flat_map(compare).collect::<Vec<_>>()),
        ["scaling", "--sweep"] => sweep(),
        _ => return false,
    }
    true
}

fn settings(scenario: &Scenario) -> Settings {
    let target = longshore_core::scaling::Target::Command { name: "simulated".to_owned() };
    let new = Settings::new(scenario.max, target);
    Settings { min: scenario.min, slots_per_agent: scenario.slots, ..new }
}

/// The policies in one scenario: ours, target tracking, a fleet as dear as ours, and one of the most machines that the
/// others may have.
fn compare(scenario: &Scenario) -> Vec<Row> {
    let ours = world::run(scenario, SEED, &mut Ours::new(settings(scenario)));
    let tracking = world::run(scenario, SEED, &mut Tracking::new(scenario));
    let equal = ours.mean_machines().ceil().max(1.0);
    let equal = world::run(scenario, SEED, &mut Fixed::new(equal));
    let most = world::run(scenario, SEED, &mut Fixed::new(f64::from(scenario.max)));
    vec![
        Row::new(scenario, "longshore", &ours),
        Row::new(scenario, "target tracking", &tracking),
        Row::new(scenario, "fixed, as many hours", &equal),
        Row::new(scenario, "fixed, `max` machines", &most),
    ]
}

/// Settings around the defaults, each over all scenarios with several seeds: where the defaults come from.
fn sweep() {
    let mut rows = Vec::new();
    for idle in [60, 120, 180, 300] {
        for (warm, down, step) in [(0, 60, 4), (1, 60, 1), (1, 60, 4), (2, 30, 4), (2, 60, 4), (2, 300, 4), (3, 60, 4)]
        {
            let (mut sums, mut won) = ((0.0, 0.0, 0.0), 0);
            for (scenario, seed) in Scenario::all().iter().flat_map(|scenario| SEEDS.map(|seed| (scenario, seed))) {
                let with = Settings {
                    idle: std::time::Duration::from_secs(idle),
                    cooldown_down: std::time::Duration::from_secs(down),
                    max_step_down: step,
                    warm,
                    ..settings(scenario)
                };
                let outcome = world::run(scenario, seed, &mut Ours::new(with));
                let tracking = world::run(scenario, seed, &mut Tracking::new(scenario));
                sums = (sums.0 + outcome.wait(50), sums.1 + outcome.wait(95), sums.2 + outcome.machine_hours());
                won += u32::from(beats(&outcome, &tracking));
            }
            rows.push(((idle, warm, down, step), sums, won));
        }
    }
    report::sweep(&rows, Scenario::all().len() * SEEDS.len());
}

/// Whether one waits no longer at the 95th percentile, for no more machine-hours.
fn beats(one: &Outcome, other: &Outcome) -> bool {
    one.wait(95) <= other.wait(95) && one.machine_hours() <= other.machine_hours()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `docs/scaling.md` says of the defaults.
    #[test]
    fn the_defaults_wait_less_than_target_tracking_for_no_more_machine_hours() {
        for scenario in Scenario::all() {
            let ours = world::run(&scenario, SEED, &mut Ours::new(settings(&scenario)));
            let tracking = world::run(&scenario, SEED, &mut Tracking::new(&scenario));
            assert!(beats(&ours, &tracking), "{}: {ours:?} {tracking:?}", scenario.name);
        }
    }

    #[test]
    fn a_seed_gives_the_same_run() {
        let scenario = &Scenario::all()[0];
        let run = || world::run(scenario, SEED, &mut Ours::new(settings(scenario)));
        assert_eq!(format!("{:?}", run()), format!("{:?}", run()));
    }

    /// The table in the page is the one that is printed.
    #[test]
    fn the_page_has_the_table() {
        let rows: Vec<Row> = Scenario::all().iter().flat_map(compare).collect();
        let page = std::fs::read_to_string(crate::sh::root().join("docs/scaling.md")).unwrap();
        for line in report::lines(&rows) {
            assert!(
                page.contains(&line),
                "docs/scaling.md lacks the line that `cargo xtask sim scaling` prints:\n{line}"
            );
        }
    }
}
