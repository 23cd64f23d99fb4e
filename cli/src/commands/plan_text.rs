//! An approval and its plan as people read them.

use std::fmt::Write as _;

use serde_json::Value;

use super::approval::counts;
use super::text;
use crate::output::paint::Paint;
use crate::output::table::one_line;
use crate::output::time::moment;

/// The whole of `approval show`.
pub(super) fn approval(shown: &Value, paint: Paint) -> String {
    let of = |name: &str| text(shown, name).map(|text| one_line(&text)).unwrap_or_default();
    let mut out =
        format!("{}  {} -> {}  {}", paint.bold(&of("id")), of("project"), of("environment"), paint.state(&of("state")));
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            let _never_fails = write!(out, "\n{:<12}{value}", format!("{name}:"));
        }
    };
    field("deployment", of("deployment"));
    field("release", of("release"));
    field("step", of("step"));
    field("needs", shown.get("needs").map(Value::to_string).unwrap_or_default());
    field("teams", listed(shown, "teams"));
    field("granted by", listed(shown, "granted_by"));
    field("rejected by", listed(shown, "rejected_by"));
    field("comments", listed(shown, "comments"));
    field("void", of("void_reason"));
    field("expires", text(shown, "expires_at").map(|at| moment(&at)).unwrap_or_default());
    if let Some(plan) = shown.get("plan").filter(|plan| plan.is_object()) {
        field("plan", counts(plan).unwrap_or_default());
        field("digest", text(plan, "digest").unwrap_or_default());
        changes(&mut out, plan, paint);
    }
    out
}

fn listed(shown: &Value, name: &str) -> String {
    let items = shown.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    items.map(one_line).collect::<Vec<_>>().join(", ")
}

/// Each resource that is not left as it is, with its properties below it.
fn changes(out: &mut String, plan: &Value, paint: Paint) {
    for change in plan.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let op = text(change, "op").unwrap_or_default();
        // Its two halves say nothing that the replacement does not.
        if matches!(op.as_str(), "create-replacement" | "delete-replaced") {
            continue;
        }
        let urn = one_line(&text(change, "urn").unwrap_or_default());
        let _never_fails = write!(out, "\n\n{} {} {urn}", sign(&op), paint.bold(&op));
        let values = change.get("values").and_then(Value::as_array);
        match values.filter(|values| !values.is_empty()) {
            Some(values) => values.iter().for_each(|value| property(out, value, paint)),
            None => {
                for name in change.get("properties").and_then(Value::as_array).into_iter().flatten() {
                    let _never_fails = write!(out, "\n    ~ {}", one_line(name.as_str().unwrap_or_default()));
                }
            }
        }
        if let Some(more) = change.get("values_left_out").and_then(Value::as_u64).filter(|more| *more > 0) {
            let _never_fails = write!(out, "\n    ... and {more} more, which are not shown");
        }
    }
}

fn sign(op: &str) -> &'static str {
    match op {
        "create" | "import" => "+",
        "delete" => "-",
        "replace" => "+-",
        _ => "~",
    }
}

/// `~ size: 1 => 2 (replaces)`
fn property(out: &mut String, value: &Value, paint: Paint) {
    let of = |name: &str| text(value, name).map(|text| one_line(&text));
    let (old, new) = (of("old"), of("new"));
    let (sign, what) = match (of("kind").as_deref(), old, new) {
        (Some("add"), _, new) => ('+', new),
        (Some("delete"), old, _) => ('-', old),
        (_, Some(old), Some(new)) => ('~', Some(format!("{old} => {new}"))),
        (_, Some(old), None) => ('~', Some(format!("{old} => (not told)"))),
        (_, None, Some(new)) => ('~', Some(format!("(not told) => {new}"))),
        (_, None, None) => ('~', None),
    };
    let name = of("property").unwrap_or_default();
    let replaces = if value.get("replaces").and_then(Value::as_bool) == Some(true) { " (replaces)" } else { "" };
    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
    let line = paint.change(sign, &format!("    {sign} {name}{what}{replaces}"));
    let _never_fails = write!(out, "\n{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_reads_as_what_would_change() {
        let value = |kind: &str, name: &str, old: Option<&str>, new: Option<&str>, replaces: bool| json!({ "kind": kind, "property": name, "old": old, "new": new, "replaces": replaces });
        let plan = json!({ "digest": "ab", "resources": { "update": 1, "same": 3 }, "changes": [
            { "urn": "urn:one", "op": "update", "properties": ["a"], "values_left_out": 2, "values": [
                value("update", "a", Some("\"x\""), Some("[unknown]"), false), value("add", "b", None, Some("[secret]"), false),
                value("delete", "c", Some("1\u{1b}[2J"), None, true), value("update", "d", None, Some("2"), false),
                value("other", "e", None, None, false)] },
            { "urn": "urn:two", "op": "create-replacement", "properties": ["name"], "values": [] },
            { "urn": "urn:two", "op": "replace", "properties": ["name"] },
        ] });
        let shown = json!({ "id": "apr_1", "project": "shop", "environment": "dev", "state": "pending", "deployment": "dep_1",
            "needs": 2, "granted_by": ["bob"], "plan": plan });
        assert_eq!(
            approval(&shown, Paint::new(false)),
            "apr_1  shop -> dev  pending\ndeployment: dep_1\nneeds:      2\ngranted by: bob\nplan:       1 update\ndigest:     ab\n\n\
             ~ update urn:one\n    ~ a: \"x\" => [unknown]\n    + b: [secret]\n    - c: 1 [2J (replaces)\n    ~ d: (not told) => 2\n    \
             ~ e\n    ... and 2 more, which are not shown\n\n+- replace urn:two\n    ~ name"
        );
    }
}
