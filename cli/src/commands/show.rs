//! A deployment as people read it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::package::source;
use crate::client::model::{Deployment, Local, Step};
use crate::output::paint::Paint;
use crate::output::table::{Cell, one_line, table};
use crate::output::time::{between, moment, size};

/// Operations in the order people care about; others follow.
const OPERATIONS: [&str; 7] = ["create", "update", "replace", "delete", "refresh", "read", "same"];

/// The whole of `deployment show`.
pub(super) fn deployment(deployment: &Deployment, paint: Paint) -> String {
    let mut text = format!(
        "{}  {} -> {}  {}",
        paint.bold(&deployment.id),
        deployment.project,
        deployment.environment,
        paint.state(&deployment.state)
    );
    field(
        &mut text,
        "operation",
        deployment.operation.as_ref().map(|done| format!("{} of step {}", done.kind, done.step)),
    );
    field(&mut text, "created", deployment.created_at.as_deref().map(moment));
    field(&mut text, "took", between(deployment.created_at.as_deref(), deployment.ended_at.as_deref()));
    field(&mut text, "reason", deployment.reason.clone());
    field(&mut text, "local", deployment.local.as_ref().map(local));
    field(&mut text, "begun by", deployment.parent.clone());
    field(&mut text, "source", deployment.source.as_ref().and_then(source));
    field(&mut text, "waits for", deployment.waits_for());
    if !deployment.steps.is_empty() {
        let _never_fails = write!(text, "\n\n{}", steps(&deployment.steps, paint));
    }
    text.push_str(&details(deployment, paint));
    text
}

/// `spec 0123456789ab, commit 0123456789ab with changes`
fn local(local: &Local) -> String {
    let short = |text: &str| text.get(..12).unwrap_or(text).to_owned();
    let changes = if local.dirty == Some(true) { " with changes" } else { "" };
    let commit = local.commit.as_ref().map(|commit| format!(", commit {}{changes}", short(commit))).unwrap_or_default();
    format!("of a working tree: spec {}{commit}", short(&local.spec))
}

fn field(text: &mut String, name: &str, value: Option<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        let _never_fails = write!(text, "\n{:<11}{}", format!("{name}:"), one_line(&value));
    }
}

/// The table of steps.
pub(super) fn steps(steps: &[Step], paint: Paint) -> String {
    let rows: Vec<_> = steps.iter().map(row).collect();
    table(["STEP", "STATE", "EXIT", "TOOK", "RESOURCES", "LOG", "AGENT"], &rows, paint)
}

fn row(step: &Step) -> [Cell; 7] {
    let last = step.attempts.last();
    let exit = match (step.exit_code, step.signal) {
        (_, Some(signal)) => Some(format!("signal {signal}")),
        (Some(code), None) => Some(code.to_string()),
        (None, None) => None,
    };
    let took = last.and_then(|attempt| between(attempt.started_at.as_deref(), attempt.ended_at.as_deref()));
    let log = step
        .log
        .as_ref()
        .and_then(|log| log.bytes.map(|bytes| format!("{}{}", size(bytes), if log.truncated { " (cut)" } else { "" })));
    [
        step.name.as_str().into(),
        Cell::state(&step.state),
        Cell::optional(exit),
        Cell::optional(took),
        Cell::optional(step.resources.as_ref().filter(|counts| !counts.is_empty()).map(resources)),
        Cell::optional(log),
        Cell::optional(last.map(|attempt| attempt.agent.clone())),
    ]
}

/// `create 3, same 2`
pub(super) fn resources(counts: &Map<String, Value>) -> String {
    let rank = |name: &str| OPERATIONS.iter().position(|known| *known == name).unwrap_or(OPERATIONS.len());
    let mut parts: Vec<_> = counts.iter().filter(|(_, count)| count.as_u64() != Some(0)).collect();
    parts.sort_by_key(|(name, _)| (rank(name), (*name).clone()));
    let parts: Vec<String> = parts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// Outputs, reasons, earlier attempts and downloads: what does not fit into a row.
pub(super) fn details(deployment: &Deployment, paint: Paint) -> String {
    let mut text = String::new();
    for step in &deployment.steps {
        let reason = step.reason.as_ref().filter(|reason| deployment.reason.as_ref() != Some(reason));
        if let Some(reason) = reason {
            let _never_fails = write!(text, "\n{}: {}", step.name, one_line(reason));
        }
        if let Some(child) = &step.child {
            let _never_fails = write!(text, "\n{}: is deployment {}", step.name, one_line(child));
        }
        let downloads = step.plugin_downloads.unwrap_or(0);
        if downloads > 0 {
            let found = step.plugin_hits.filter(|hits| *hits > 0).map(|hits| format!(", {hits} were there"));
            let _never_fails =
                write!(text, "\n{}: {downloads} plugins were downloaded{}", step.name, found.unwrap_or_default());
        }
        let files = step.artifacts.as_ref().filter(|files| files.kept + files.left_out > 0);
        if let Some(files) = files {
            let left = if files.left_out > 0 { format!(", {} left out", files.left_out) } else { String::new() };
            let _never_fails =
                write!(text, "\n{}: {} files kept{left} (`longshore artifact list`)", step.name, files.kept);
        }
        if step.attempts.len() > 1 {
            let _never_fails = write!(text, "\n{}: {} attempts", step.name, step.attempts.len());
        }
        let outputs = step.outputs.iter().flatten();
        for (index, (name, value)) in outputs.enumerate() {
            if index == 0 {
                let _never_fails = write!(text, "\n{}", paint.dim(&format!("outputs of {}", step.name)));
            }
            let _never_fails = write!(text, "\n  {} = {}", one_line(name), output_value(value));
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn output_value(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "id": "dep_019", "project": "shop", "environment": "dev", "state": "failed", "reason": "step `smoke` exited with 7", "waiting_for": null,
            "created_at": "2026-11-21T10:00:00.000Z", "ended_at": "2026-11-21T10:00:12.300Z", "release": "1.4.0",
            "steps": [
                {"name": "infra", "state": "succeeded", "exit_code": 0, "signal": null, "outputs": {"url": "http://x", "password": "[secret]", "ports": [1, 2]},
                 "resources": {"same": 0, "create": 3, "weird": 1}, "plugin_downloads": 0, "artifacts": {"kept": 2, "left_out": 1}, "log": {"bytes": 1434, "sha256": "00", "truncated": false},
                 "attempts": [{"id": "att_1", "agent": "agt_1", "container": "c", "state": "succeeded", "started_at": "2026-11-21T10:00:01.000Z", "ended_at": "2026-11-21T10:00:09.000Z"}]},
                {"name": "smoke", "state": "failed", "exit_code": 7, "signal": null, "outputs": {}, "resources": null, "plugin_downloads": null, "log": null, "attempts": []}
            ]
        })
    }

    #[test]
    fn everything_is_on_one_page() {
        let shown = deployment(&Deployment::read(&sample()).unwrap(), Paint::new(false));
        let expected = "\
dep_019  shop -> dev  failed
created:   2026-11-21 10:00:00Z
took:      12.3s
reason:    step `smoke` exited with 7

STEP   STATE      EXIT  TOOK  RESOURCES          LOG      AGENT
infra  succeeded  0     8.0s  create 3, weird 1  1.4 KiB  agt_1
smoke  failed     7     -     -                  -        -

infra: 2 files kept, 1 left out (`longshore artifact list`)
outputs of infra
  password = [secret]
  ports = [1,2]
  url = http://x";
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let mut waiting = sample();
        waiting["waiting_for"] = json!({"kind": "lock", "message": "attempt att_1 holds stack shop/dev"});
        let shown = deployment(&Deployment::read(&waiting).unwrap(), Paint::new(false));
        waiting["parent"] = json!("dep_9");
        waiting["steps"][1]["child"] = json!("dep_7");
        let family = deployment(&Deployment::read(&waiting).unwrap(), Paint::new(false));
        assert!(family.contains("\nbegun by:  dep_9\n") && family.contains("\nsmoke: is deployment dep_7"), "{family}");
        assert!(shown.contains("\nwaits for: attempt att_1 holds stack shop/dev\n"), "{shown}");
    }

    #[test]
    fn another_answer_is_no_deployment() {
        assert!(Deployment::read(&json!({"hello": 1})).is_none());
    }
}
