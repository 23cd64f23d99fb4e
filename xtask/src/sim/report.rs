//! What a run came to, as text.

use super::trace::Scenario;
use super::world::Outcome;

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    scenario: &'static str,
    policy: &'static str,
    jobs: usize,
    wait: (f64, f64),
    hours: f64,
    most: usize,
    lost: u32,
}

impl Row {
    pub(super) fn new(scenario: &Scenario, policy: &'static str, outcome: &Outcome) -> Self {
        Self {
            scenario: scenario.name,
            policy,
            jobs: outcome.waits.len(),
            wait: (outcome.wait(50), outcome.wait(95)),
            hours: outcome.machine_hours(),
            most: outcome.most,
            lost: outcome.lost,
        }
    }
}

/// The table, in Markdown.
pub(super) fn lines(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![
        "| scenario | policy | jobs | wait p50, s | wait p95, s | machine-hours | most machines | lost jobs |"
            .to_owned(),
        "| --- | --- | --: | --: | --: | --: | --: | --: |".to_owned(),
    ];
    lines.extend(rows.iter().map(|row| {
        let Row { scenario, policy, jobs, wait: (p50, p95), hours, most, lost } = row;
        format!("| {scenario} | {policy} | {jobs} | {p50:.0} | {p95:.0} | {hours:.1} | {most} | {lost} |")
    }));
    lines
}

pub(super) fn table(rows: &[Row]) {
    for line in lines(rows) {
        println!("{line}");
    }
}

/// A combination of settings: seconds idle, slots kept warm, seconds of cool-down, step down.
pub(super) type Knobs = (u64, u32, u64, u32);

/// Each combination with the sums over all scenarios of both percentiles and of machine-hours, and in how many runs it beats
/// target tracking.
pub(super) fn sweep(rows: &[(Knobs, (f64, f64, f64), u32)], runs: usize) {
    println!(
        "| idle, s | warm | cooldown_down, s | max_step_down | sum of p50, s | sum of p95, s | machine-hours | beats target tracking |"
    );
    println!("| --: | --: | --: | --: | --: | --: | --: | --: |");
    for ((idle, warm, down, step), (p50, p95, hours), won) in rows {
        println!("| {idle} | {warm} | {down} | {step} | {p50:.0} | {p95:.0} | {hours:.1} | in {won} of {runs} |");
    }
}
