//! Specs with a lifecycle, scopes, gates, groups and conditions that are accepted, and what is read out of them.

use std::time::Duration;

use super::*;
use crate::expression::{Condition, Template};

/// A file of these steps, each a line of flow YAML, with two environments and one variable of each form.
fn with_steps(steps: &str) -> String {
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}, {{name: production}}]\nvariables:\n  region: eu\n  token: {{secret: true}}\n  \
         replicas: {{environments: {{production: 6}}}}\n  ticket: {{prompt: change ticket}}\nsteps:\n{steps}"
    )
}

#[test]
fn the_example_of_the_contract_means_what_its_comments_say() {
    let project = accepted(RELEASES);
    let phase = |name: &str, environment: &str, mode, require| Phase {
        name: name.to_owned(),
        environments: vec![environment.to_owned()],
        mode,
        require,
    };
    assert_eq!(
        project.lifecycle,
        [
            phase("test", "dev", Mode::Automatic, Require::All),
            phase("stage", "staging", Mode::Manual, Require::AtLeast(1)),
            phase("live", "production", Mode::Manual, Require::All),
        ]
    );
    let scoped = Scoped {
        value: Some("1".to_owned()),
        environments: vec![("production".to_owned(), "6".to_owned())],
        steps: Vec::new(),
        channels: Vec::new(),
        pools: Vec::new(),
    };
    assert_eq!(project.variable("replicas"), Some(&Variable::Scoped(scoped)));
    let prompt = Prompt {
        prompt: "change ticket".to_owned(),
        required: true,
        value: None,
        kind: PromptType::Text,
        options: Vec::new(),
    };
    assert_eq!(project.variable("ticket"), Some(&Variable::Prompt(prompt)));
    let names: Vec<_> = project.steps.iter().map(|s| (s.name.as_str(), s.group.as_deref(), s.in_container())).collect();
    let expected = [
        ("go", None, false),
        ("infra", None, true),
        ("a", Some("both"), true),
        ("b", Some("both"), true),
        ("clean", None, true),
        ("flaky", None, true),
        ("up", None, false),
    ];
    assert_eq!(names, expected);
    let approval = Approval {
        teams: vec!["ops".to_owned()],
        needs: 1,
        plan: Some("infra".to_owned()),
        expires: Some(Duration::from_secs(4 * 3600)),
    };
    assert_eq!(project.steps[0].action, Action::Approval(approval));
    assert_eq!(project.steps[4].when, Some(Condition::parse("always()").unwrap()));
    assert_eq!(project.steps[5].retries, Some(Retries { max: 3, backoff: Duration::from_secs(1) }));
    let http = Http { url: Template::literal("https://x"), status: 200, body: Some("ok".to_owned()) };
    assert_eq!(project.steps[6].action, Action::Http(http));
    assert!(project.steps[6].image.is_none() && project.steps[6].retries.is_some());
    assert_eq!(predecessors(&project.steps), [vec![], vec![0], vec![1], vec![1], vec![2, 3], vec![4], vec![5]]);
    assert_eq!(project.before(4), [0, 1, 2, 3]);
}

/// The specs of the acceptance runs (`acceptance/releases.py`), in the forms they use.
#[test]
fn the_specs_of_the_acceptance_are_accepted() {
    let head =
        "version: 1\nproject: p\nenvironments: [{name: dev}, {name: staging}, {name: production, protected: true}]\n";
    let step = |name: &str, script: &str, extra: &str| {
        format!(
            "  - name: {name}\n    image: t:1\n    network: none\n    mounts: [state]\n{extra}    run: |\n      {script}\n"
        )
    };
    let phases = "lifecycle:\n  - {phase: test, environments: [dev], mode: automatic}\n  - {phase: live, environments: [production]}\n";
    accepted(&format!(
        "{head}{phases}steps:\n{}",
        step("one", "echo $WHERE", "    env: {WHERE: \"${{ environment }}\"}\n")
    ));
    accepted(&format!(
        "{head}steps:\n  - {{name: go, approval: {{teams: [ops], needs: 1}}}}\n{}",
        step("one", "true", "")
    ));
    let variables = "variables:\n  n: {value: 1, environments: {production: 6}}\n  ticket: {prompt: 'change ticket', required: true}\n";
    let env = "    env: {N: \"${{ vars.n }}\", T: \"${{ vars.ticket }}\"}\n";
    accepted(&format!("{head}{variables}steps:\n{}", step("one", "echo n=$N", env)));
    let outputs = "    env: {URL: \"${{ steps.make.outputs.url }}\", PW: \"${{ steps.make.outputs.pw }}\"}\n";
    accepted(&format!(
        "{head}steps:\n{}{}",
        step("make", "echo >> $LONGSHORE_OUTPUT", ""),
        step("use", "true", outputs)
    ));
    let indented: String = step("a", "true", "").lines().map(|line| format!("  {line}\n")).collect();
    let flow = format!(
        "{head}pool: gpu\nsteps:\n  - name: both\n    parallel:\n{indented}{}{}{}",
        step("flaky", "true", "    retries: {max: 3, backoff: 200ms}\n"),
        step("onfail", "true", "    when: failure()\n"),
        step("last", "true", "    when: always()\n"),
    );
    assert_eq!(accepted(&flow).steps[1].retries, Some(Retries { max: 3, backoff: Duration::from_millis(200) }));
}

#[test]
fn a_lifecycle_may_leave_environments_out() {
    let spec = RELEASES.replace("  - {phase: live, environments: [production]}\n", "");
    assert_eq!(accepted(&spec).lifecycle.len(), 2);
    let spec = RELEASES.replace("[production]}", "[production], require: optional, mode: manual}");
    assert_eq!(accepted(&spec).lifecycle[2].require, Require::Optional);
    assert_eq!(accepted(&with_steps("  - {name: a, image: i, run: x}\n")).lifecycle, []);
}

#[test]
fn channels_have_rules_and_phases_of_their_own() {
    let channels = "channels:\n  - {name: stable, versions: '>= 1.0.0, <2.0.0', prerelease: none, default: true}\n  \
                    - {name: beta, prerelease: [beta, 'rc*', 7, none], lifecycle: [{phase: try, environments: [dev]}]}\n  \
                    - {name: all, prerelease: any}\n  - {name: one, prerelease: '*', default: false}\nsteps:";
    let spec = RELEASES.replacen("{value: 1, environments", "{value: 1, channels: {beta: 2}, environments", 1);
    let project = accepted(&spec.replacen("steps:", channels, 1));
    let rules = |at: usize| project.channels[at].prerelease.join(" ");
    assert_eq!([rules(0), rules(1), rules(2), rules(3)], ["none", "beta rc* 7 none", "", "*"]);
    assert_eq!(project.channels[0].versions.as_ref().unwrap().to_string(), ">=1.0.0 <2.0.0");
    assert_eq!(project.default_channel().map(|channel| channel.name.as_str()), Some("stable"));
    let names: Vec<_> = project.lifecycle_of("beta").iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["try"]);
    assert_eq!(project.lifecycle_of("stable"), project.lifecycle);
    let Some(Variable::Scoped(scoped)) = project.variable("replicas") else { panic!("{project:?}") };
    assert_eq!(scoped.channels, [("beta".to_owned(), "2".to_owned())]);
    let stored = serde_json::to_string(&project).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&stored).unwrap(), project);
    assert!(!serde_json::to_string(&accepted(RELEASES)).unwrap().contains("channels"), "stored as before");
}

#[test]
fn variables_have_scopes_or_are_asked_for() {
    let spec =
        with_steps("  - {name: infra, image: i, run: x, env: {R: '${{ vars.replicas }}', T: '${{ vars.ticket }}'}}\n");
    let project = accepted(&spec.replace(
        "{environments: {production: 6}}",
        "{steps: {infra: '7'}, channels: {default: 9}, pools: {gpu: 8}, environments: {production: 6, dev: \"$${{ x }}\"}}",
    ));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let scoped = Scoped {
        value: None,
        environments: vec![pair("production", "6"), pair("dev", "${{ x }}")],
        steps: vec![pair("infra", "7")],
        channels: vec![pair("default", "9")],
        pools: vec![pair("gpu", "8")],
    };
    assert_eq!(project.variable("replicas"), Some(&Variable::Scoped(scoped)));
    let prompt = Prompt {
        prompt: "change ticket".to_owned(),
        required: false,
        value: None,
        kind: PromptType::Text,
        options: Vec::new(),
    };
    assert_eq!(project.variable("ticket"), Some(&Variable::Prompt(prompt)));
    let project = accepted(&spec.replace("{prompt: change ticket}", "{prompt: q, required: true, value: ''}"));
    let prompt = Prompt {
        prompt: "q".to_owned(),
        required: true,
        value: Some(String::new()),
        kind: PromptType::Text,
        options: Vec::new(),
    };
    assert_eq!(project.variable("ticket"), Some(&Variable::Prompt(prompt)));
}

#[test]
fn steps_without_a_container_have_defaults() {
    let project = accepted(&with_steps(
        "  - {name: go, approval: {}}\n  - {name: make, image: i, run: x}\n  \
         - {name: up, http: {url: '${{ steps.make.outputs.url }}/health'}, timeout: 30s, when: vars.region == 'eu', retries: {max: 1}}\n  \
         - {name: next, deploy-release: {project: other}, skippable: true}\n  \
         - {name: more, deploy-release: {project: other, version: '${{ vars.region }}'}}\n",
    ));
    let approval = Approval { teams: Vec::new(), needs: 1, plan: None, expires: None };
    assert_eq!(project.steps[0].action, Action::Approval(approval));
    let Action::Http(http) = &project.steps[2].action else { panic!("no http") };
    assert_eq!((http.status, &http.body, project.steps[2].timeout), (200, &None, Some(Duration::from_secs(30))));
    let other = |version| Action::DeployRelease(DeployRelease { project: "other".to_owned(), channel: None, version });
    assert_eq!(project.steps[3].action, other(None));
    assert!(project.steps[3].skippable && !project.steps[4].skippable);
    assert_eq!(project.steps[4].action, other(Some(Template::parse("${{ vars.region }}").unwrap())));
    assert_eq!(project.steps[2].retries, Some(Retries { max: 1, backoff: Duration::from_secs(1) }));
}

#[test]
fn members_of_a_group_have_what_the_group_says() {
    let project = accepted(&with_steps(
        "  - {name: a, image: i, run: x}\n  - {name: b, image: i, run: x}\n  - name: both\n    needs: [a]\n    when: failure()\n    parallel:\n      \
         - {name: c, image: i, run: x}\n      - {name: d, image: i, run: x, needs: [], when: always()}\n      \
         - {name: e, image: i, run: x, needs: [b]}\n  - {name: f, image: i, run: x, needs: [both, b]}\n",
    ));
    let own = |name: &str| {
        let step = project.step(name).unwrap();
        (step.needs.clone().map(|needs| needs.join(" ")), step.when.as_ref().map(Condition::source), step.line)
    };
    assert_eq!(own("c"), (Some("a".to_owned()), Some("failure()"), 16));
    assert_eq!(own("d"), (Some(String::new()), Some("always()"), 17));
    assert_eq!(own("e"), (Some("b".to_owned()), Some("failure()"), 18));
    assert_eq!(own("f"), (Some("both b".to_owned()), None, 19));
    assert_eq!(predecessors(&project.steps), [vec![], vec![0], vec![0], vec![], vec![1], vec![1, 2, 3, 4]]);
}

#[test]
fn outputs_of_what_certainly_came_before_may_be_used() {
    accepted(&with_steps(
        "  - {name: a, image: i, run: x}\n  - {name: b, image: i, run: x, needs: [], when: always()}\n  \
         - {name: c, image: i, pulumi: {operation: up}, needs: [a, b], env: {A: '${{ steps.a.outputs.x }}'}}\n  \
         - {name: d, image: i, run: x, when: \"steps.b.outputs.y != '' && failure()\", env: {C: '${{ steps.c.outputs.z }}'}}\n",
    ));
    // What the plan of a step uses was there before the approval.
    accepted(&with_steps(
        "  - {name: a, image: i, run: x}\n  - {name: go, approval: {plan: c}}\n  - {name: b, image: i, run: x}\n  \
         - {name: c, image: i, pulumi: {operation: up}, env: {A: '${{ steps.a.outputs.x }}'}}\n",
    ));
}

#[test]
fn the_longest_process_is_read() {
    let step = |i: usize| format!("  - {{name: s{i}, image: i, run: x, when: always()}}\n");
    let steps: String = (0..MAX).map(step).collect();
    assert_eq!(accepted(&with_steps(&steps)).steps.len(), MAX);
    let errors = parse(&with_steps(&format!("{steps}{}", step(MAX)))).unwrap_err();
    assert!(errors[0].message.contains("at most 999"), "{errors:?}");
    let grouped = steps.replacen("  - {name: s0, image: i, run: x, when: always()}\n", "", 1);
    let group = "  - {name: both, parallel: [{name: x, image: i, run: x}, {name: y, image: i, run: x}]}\n";
    let errors = parse(&with_steps(&format!("{grouped}{group}"))).unwrap_err();
    assert_eq!(
        (errors[0].field.as_str(), errors[0].message.as_str()),
        ("steps", "1000 steps are too many: at most 999")
    );
}

const MAX: usize = 999;

#[test]
fn all_of_it_survives_json_and_is_part_of_the_digest() {
    let digest = |spec: &str| accepted(spec).digest_input();
    let json = serde_json::to_string(&accepted(RELEASES)).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), accepted(RELEASES));
    for (from, to) in [
        ("mode: automatic", "mode: manual"),
        ("require: 1", "require: optional"),
        ("phase: live", "phase: life"),
        ("{value: 1, env", "{value: 2, env"),
        ("{production: 6}", "{production: 7}"),
        ("{production: 6}", "{staging: 6}"),
        ("change ticket", "ticket"),
        ("required: true", "required: false"),
        ("teams: [ops]", "teams: [dev]"),
        ("needs: 1", "needs: 2"),
        (", plan: infra", ""),
        ("expires: 4h", "expires: 5h"),
        ("name: both", "name: pair"),
        ("when: always()", "when: failure()"),
        ("max: 3", "max: 4"),
        ("backoff: 2s", "backoff: 3s"),
        ("status: 200", "status: 204"),
        ("body: \"ok\"", "body: \"fine\""),
        ("url: \"https://x\"", "url: \"https://y\""),
        ("when: always()", "when: always(), needs: [a]"),
    ] {
        assert!(RELEASES.contains(from), "{from}");
        assert_ne!(digest(&RELEASES.replace(from, to)), digest(RELEASES), "{from} {to}");
    }
    let order = |spec: &str, from: &str, to: &str| {
        assert!(spec.contains(from), "{from}");
        assert_eq!(digest(&spec.replace(from, to)), digest(spec), "{from}");
    };
    let spec = RELEASES.replace("{production: 6}", "{production: 6, dev: 7}").replace("[ops]", "[ops, admins]");
    let spec = spec.replace("when: always()", "when: always(), needs: [a, b]");
    order(&spec, "{production: 6, dev: 7}", "{dev: 7, production: 6}");
    order(&spec, "[ops, admins]", "[admins, ops]");
    order(&spec, "needs: [a, b]", "needs: [b, a]");
    order(&spec, "expires: 4h", "expires: 240m");
}
