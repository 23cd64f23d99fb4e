//! Alert rules and the Grafana board, checked with Prometheus' own tool.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{docker, sh};

/// Where the tool is put when the system has none: only it is taken out of Debian's package, nothing is installed.
const OWN: &str = "target/promtool";

/// Checks rules, their tests, and the expressions of the board.
pub(crate) fn run() -> anyhow::Result<()> {
    let promtool = promtool()?;
    let rules = sh::root().join("packaging/prometheus");
    for args in [["check", "rules", "longshore.rules.yml"], ["test", "rules", "longshore.rules.test.yml"]] {
        let mut command = sh::command(&promtool, &args);
        command.current_dir(&rules);
        sh::output(command)?;
    }
    let file = sh::root().join("target/promtool-board.yml");
    std::fs::write(&file, as_rules(&expressions(&board()?))).context("the expressions cannot be written")?;
    let mut command = sh::command(&promtool, &["check", "rules"]);
    command.arg(&file);
    sh::output(command)?;
    println!("alert rules hold, and every expression of the board is read");
    Ok(())
}

/// The system's tool, or one of ours.
fn promtool() -> anyhow::Result<PathBuf> {
    if sh::succeeds("promtool", &["--version"]) {
        return Ok("promtool".into());
    }
    let own = sh::root().join(OWN);
    let tool = own.join("usr/bin/promtool");
    if tool.exists() {
        return Ok(tool);
    }
    if !docker::is_debian() {
        bail!("`promtool` is not there; install Prometheus, which brings it");
    }
    println!("taking `promtool` out of the distribution's package `prometheus` into {OWN}");
    std::fs::create_dir_all(&own).with_context(|| format!("`{OWN}` cannot be made"))?;
    let download = || -> anyhow::Result<String> {
        let mut get = sh::command("apt-get", &["download", "-q", "prometheus"]);
        get.current_dir(&own);
        sh::output(get)
    };
    if download().is_err() {
        sh::output(sh::command("apt-get", &["update", "-q"]))?;
        download()?;
    }
    let mut unpack = sh::command(
        "sh",
        &["-c", "dpkg --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb"],
    );
    unpack.current_dir(&own);
    sh::output(unpack)?;
    Ok(tool)
}

fn board() -> anyhow::Result<Value> {
    let path = sh::root().join("packaging/grafana/longshore.json");
    serde_json::from_str(&std::fs::read_to_string(path)?).context("the board is no JSON")
}

/// Every expression of a panel.
fn expressions(board: &Value) -> BTreeSet<String> {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let targets = list(board, "panels").into_iter().flat_map(|panel| list(&panel, "targets"));
    targets.filter_map(|target| Some(target.get("expr")?.as_str()?.to_owned())).collect()
}

/// As recording rules, which Prometheus can check. What Grafana puts in is put in.
fn as_rules(expressions: &BTreeSet<String>) -> String {
    let mut text = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (at, expression) in expressions.iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".+").replace("$pool", ".+");
        text.push_str(&format!("      - record: board:{at}\n        expr: {}\n", Value::String(expression)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of metrics in a text: words that begin as ours do. What Prometheus makes of a histogram counts as it.
    fn names(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let ours = words.filter(|word| word.starts_with("longshore_"));
        ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
    }

    /// First column of the tables of the page.
    fn listed() -> BTreeSet<String> {
        let page = std::fs::read_to_string(sh::root().join("docs/metrics.md")).unwrap();
        let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        cells.map(|(name, _)| name.to_owned()).collect()
    }

    /// Names that the controller's sources give to the registry.
    fn registered(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                registered(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for opening in ["counter!(", "gauge!(", "histogram!(", "gauge(", "put("] {
                let after =
                    text.split(opening).skip(1).filter_map(|rest| rest.trim_start().strip_prefix("\"longshore_"));
                found.extend(after.filter_map(|rest| Some(format!("longshore_{}", rest.split_once('"')?.0))));
            }
        }
    }

    #[test]
    fn the_page_lists_what_is_registered_and_nothing_else() {
        let mut found = BTreeSet::new();
        registered(&sh::root().join("controller/src"), &mut found);
        assert!(found.len() > 20, "{found:?}");
        assert_eq!(listed(), found, "docs/metrics.md and the sources do not have the same metrics");
    }

    #[test]
    fn rules_and_board_use_only_what_is_measured() {
        let (listed, board) = (listed(), board().unwrap());
        let shown: BTreeSet<String> = expressions(&board).iter().flat_map(|text| names(text)).collect();
        let unknown: Vec<_> = shown.difference(&listed).collect();
        assert!(unknown.is_empty(), "the board asks for {unknown:?}");
        assert!(shown.len() > 20, "{shown:?}");
        for file in ["longshore.rules.yml", "longshore.rules.test.yml"] {
            let text = std::fs::read_to_string(sh::root().join("packaging/prometheus").join(file)).unwrap();
            let mut unknown = names(&text);
            unknown.retain(|name| !listed.contains(name));
            assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
        }
    }

    #[test]
    fn every_rule_has_a_test_that_sees_it_come_and_one_that_sees_it_stay_away() {
        let read = |file: &str| std::fs::read_to_string(sh::root().join("packaging/prometheus").join(file)).unwrap();
        let (rules, tests) = (read("longshore.rules.yml"), read("longshore.rules.test.yml"));
        let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert!(alerts.len() > 8);
        for alert in alerts {
            let comes = tests.contains(&format!("alertname: {alert}\n        exp_alerts:"));
            let stays = tests.contains(&format!("alertname: {alert}}}\n"));
            assert!(comes && stays, "{alert}");
        }
    }
}
