//! Specs that are accepted, and what is read out of them.

use std::time::Duration;

use std::collections::BTreeMap;

use super::*;
use crate::expression::Template;
use crate::resources::{Bytes, Cpus, Resources};

fn template(source: &str) -> Template {
    Template::parse(source).unwrap()
}

#[test]
fn the_example_of_the_contract_means_what_its_comments_say() {
    let project = accepted(CONTRACT);
    assert_eq!((project.version, project.name.as_str(), project.pool.as_str()), (1, "shop", "default"));
    let environments = [("dev", false), ("production", true)];
    let expected = environments.map(|(name, protected)| Environment {
        name: name.to_owned(),
        protected,
        pool: None,
        agents: BTreeMap::new(),
        max_queue_wait: None,
    });
    assert_eq!(project.environments, expected);
    assert_eq!(project.variable("region"), Some(&Variable::Plain("eu-west-1".to_owned())));
    assert_eq!(project.variable("passphrase"), Some(&Variable::Secret));
    let infra = Step {
        name: "infra".to_owned(),
        image: Some(template("longshore/pulumi:3.259.0")),
        action: Action::Pulumi(Pulumi {
            operation: Operation::Up,
            stack: Some(template("dev")),
            dir: Some(template("infra")),
            backend: Some(template("file:///state")),
            install: false,
        }),
        mounts: vec!["state".to_owned()],
        accounts: Vec::new(),
        env: vec![
            ("PULUMI_CONFIG_PASSPHRASE".to_owned(), template("${{ secrets.passphrase }}")),
            ("REGION".to_owned(), template("${{ vars.region }}")),
        ],
        timeout: Some(Duration::from_secs(1800)),
        network: Network::Longshore,
        profile: Profile::Standard,
        resources: Resources::default(),
        pull: Default::default(),
        needs: None,
        group: None,
        when: None,
        retries: None,
        skippable: false,
        line: 12,
    };
    assert_eq!(project.steps[0], infra);
    let smoke = &project.steps[1];
    assert_eq!(smoke.action, Action::Run { script: Script::Shell("./smoke.sh\n".to_owned()) });
    assert_eq!((smoke.network, smoke.profile, smoke.timeout, smoke.line), (Network::None, Profile::Locked, None, 25));
}

/// The builder of the acceptance runs (`acceptance/lib.py`), in the forms they use.
#[test]
fn the_specs_of_the_acceptance_are_accepted() {
    let spec = |script: &str, step: &str, top: &str| {
        let script: String = script.lines().map(|line| format!("      {line}\n")).collect();
        format!(
            "version: 1\nproject: codes\nenvironments:\n  - name: dev\n{top}steps:\n  - name: one\n    image: longshore/tiny:1\n    \
             network: none\n    mounts: [state]\n    {step}\n    run: |\n{script}"
        )
    };
    let code = spec("echo out; exit $CODE", "env: {CODE: \"${{ vars.code }}\"}", "variables:\n  code: 0\n");
    let project = accepted(&code);
    assert_eq!(project.variable("code"), Some(&Variable::Plain("0".to_owned())));
    assert_eq!(project.steps[0].env, [("CODE".to_owned(), template("${{ vars.code }}"))]);
    let secret = spec(
        "printf %s \"$TOKEN\"; echo \"${t%\"${t#?}\"}\"",
        "env: {TOKEN: \"${{ secrets.token }}\"}",
        "variables:\n  token: {secret: true}\n",
    );
    let project = accepted(&secret);
    let script = "printf %s \"$TOKEN\"; echo \"${t%\"${t#?}\"}\"\n".to_owned();
    assert_eq!(project.steps[0].action, Action::Run { script: Script::Shell(script) });
    assert_eq!(
        parse(&spec("echo start\ni=0; while true; do :; done", "profile: standard", "")).map(|p| p.steps.len()),
        Ok(1)
    );
}

#[test]
fn values_keep_their_text() {
    let texts = [
        ("0", "0"),
        ("1.10", "1.10"),
        ("yes", "yes"),
        ("true", "true"),
        ("0x1F", "0x1F"),
        ("2026-01-01", "2026-01-01"),
        ("\"null\"", "null"),
        ("''", ""),
        ("!!str 010", "010"),
        ("!!str ~", "~"),
        (" spaced  ", "spaced"),
        ("a $${{ b }}", "a ${{ b }}"),
        ("|\n    two\n    lines", "two\nlines\n"),
    ];
    for (written, value) in texts {
        let spec = with_step("run: echo").replace("region: eu, token: {secret: true}", "token: x");
        let spec = spec.replace("variables: {token: x}", &format!("variables:\n  x: {written}"));
        let project = accepted(&spec);
        assert_eq!(project.variable("x"), Some(&Variable::Plain(value.to_owned())), "{written}");
    }
}

#[test]
fn both_forms_of_run_are_read() {
    let script = |step: &str| match accepted(&with_step(step)).steps.remove(1).action {
        Action::Run { script } => script,
        other => panic!("no `run`: {other:?}"),
    };
    assert_eq!(script("run: echo ${HOME}"), Script::Shell("echo ${HOME}".to_owned()));
    let exec = ["sleep", "10", ""].map(str::to_owned).to_vec();
    assert_eq!(script("run: [sleep, 10, '']"), Script::Exec(exec));
}

#[test]
fn a_step_without_more_has_the_defaults() {
    let project = accepted(&with_step("run: echo"));
    let step = project.step("one").unwrap();
    assert_eq!((step.network, step.profile, step.timeout), (Network::Longshore, Profile::Standard, None));
    assert!(step.mounts.is_empty() && step.env.is_empty());
    assert_eq!(project.pool, DEFAULT_POOL);
}

#[test]
fn a_stack_is_written_by_all_operations_but_preview() {
    for (operation, writes) in [("preview", false), ("up", true), ("refresh", true), ("destroy", true)] {
        let step = format!("pulumi: {{operation: {operation}}}");
        let project = accepted(&with_step(&step));
        let step = project.step("one").unwrap();
        assert_eq!(step.holds_stack(), writes, "{operation}");
        assert_eq!(step.pulumi_stack_template().unwrap().source(), "${{ environment }}");
    }
    let project = accepted(&with_step("pulumi: {operation: up, stack: 'acme/shop/${{ vars.region }}'}"));
    assert_eq!(project.steps[1].pulumi_stack_template(), Some(template("acme/shop/${{ vars.region }}")));
    let run = accepted(&with_step("run: echo"));
    assert!(!run.steps[1].holds_stack() && run.steps[1].pulumi_stack_template().is_none());
}

#[test]
fn anchors_tags_and_a_byte_order_mark_are_yaml() {
    let spec = with_step("run: echo\nenv: &e {A: b}")
        .replace("    pulumi: {operation: up}\n", "    pulumi: {operation: !!str up}\n");
    let more = "  - name: two\n    image: tiny\n    run: echo\n    env: *e\n";
    let project = accepted(&format!("\u{feff}---\n{spec}{more}...\n"));
    assert_eq!(project.steps[2].env, project.steps[1].env);
}

#[test]
fn line_ends_of_windows_change_nothing_but_are_no_part_of_values() {
    let project = accepted(&CONTRACT.replace('\n', "\r\n"));
    assert_eq!(project, accepted(CONTRACT));
}

#[test]
fn a_project_survives_json() {
    for spec in [CONTRACT.to_owned(), with_step("run: [a, b]\ntimeout: 1h30m")] {
        let project = accepted(&spec);
        let json = serde_json::to_string(&project).unwrap();
        assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), project);
    }
    let json = serde_json::to_value(accepted(CONTRACT)).unwrap();
    assert_eq!(json["steps"][0]["timeout"], "30m");
    assert_eq!(json["steps"][0]["env"][1], serde_json::json!(["REGION", "${{ vars.region }}"]));
    assert_eq!(json["variables"][1], serde_json::json!(["passphrase", "secret"]));
}

#[test]
fn what_means_the_same_has_the_same_digest() {
    let digest = |spec: &str| accepted(spec).digest_input();
    let same = [
        CONTRACT.replace("# plain", ""),
        CONTRACT.replace("version: 1\n", "version: 1\n\n\n"),
        CONTRACT.replace("project: shop", "project: \"shop\""),
        CONTRACT.replace("timeout: 30m", "timeout: 1800s"),
        CONTRACT.replace("pool: default                      # optional\n", ""),
        CONTRACT.replace("[state]", "\n      - state"),
        CONTRACT
            .replace("      REGION: ${{ vars.region }}\n", "")
            .replace("    env:\n", "    env:\n      REGION: ${{ vars.region }}\n"),
    ];
    for spec in same {
        assert_eq!(digest(&spec), digest(CONTRACT), "{spec}");
    }
    let other = [
        CONTRACT.replace("eu-west-1", "eu-west-2"),
        CONTRACT.replace("timeout: 30m", "timeout: 31m"),
        CONTRACT.replace("./smoke.sh", "./smoke.sh "),
        CONTRACT.replace("    protected: true\n", ""),
        CONTRACT.replace("passphrase: {secret: true}", "passphrase: {secret: true}\n  more: x"),
    ];
    for spec in other {
        assert_ne!(digest(&spec), digest(CONTRACT), "{spec}");
    }
}

#[test]
fn an_environment_may_have_its_own_pool_and_more_labels() {
    let project = accepted(
        "version: 1\nproject: shop\npool: small\nagents: {os: debian, zone: a}\nenvironments:\n  - name: dev\n  \
         - {name: live, pool: large, agents: {zone: b, gen: 2}}\nvariables: {n: {value: 0, pools: {small: 1, large: 2}}}\n\
         steps: [{name: one, image: i, run: x}]\n",
    );
    assert_eq!(
        (project.pool_of("dev"), project.pool_of("live"), project.pool_of("other")),
        ("small", "large", "small")
    );
    let labels =
        |of: &[(&str, &str)]| of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(project.agents_of("dev"), labels(&[("os", "debian"), ("zone", "a")]));
    assert_eq!(project.agents_of("live"), labels(&[("gen", "2"), ("os", "debian"), ("zone", "b")]));
    let value = |environment: &str| {
        let given = BTreeMap::new();
        let place = crate::variables::Place { environment, channel: "default", step: None, given: &given };
        crate::variables::resolve(&project, &[], &place).variables["n"].clone()
    };
    assert_eq!(
        (value("dev"), value("live")),
        ("1".to_owned(), "2".to_owned()),
        "values go by the pool that counts there"
    );
}

#[test]
fn what_is_asked_for_has_a_type() {
    let project = accepted(
        "version: 1\nproject: shop\nenvironments: [{name: dev}]\nvariables:\n  n: {prompt: how many, type: number, options: [1, 2.5]}\n  \
         b: {prompt: really, type: boolean, value: false}\nsteps: [{name: one, image: i, run: x}]\n",
    );
    let check = |name: &str, value: &str| match project.variable(name) {
        Some(Variable::Prompt(prompt)) => prompt.check(value).is_ok(),
        other => panic!("{other:?}"),
    };
    assert!(["1", "2.5", ""].iter().all(|value| check("n", value)));
    assert!(!["2", "x", "1e0", "+1", "1.", "-"].iter().any(|value| check("n", value)));
    assert!(check("b", "true") && !check("b", "True"));
    let json = serde_json::to_string(&project).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), project);
}

#[test]
fn jobs_say_what_they_ask_of_their_host_and_how_long_they_wait() {
    let text = "version: 1\nproject: shop\nresources: {cpus: 0.5, memory: 512MiB}\nmax_running: 3\nmax_queue_wait: 2h\n\
        environments: [{name: dev, max_queue_wait: 10m}, {name: live}]\n\
        steps:\n  - {name: one, image: i, run: 'true', resources: {cpus: 1.5, disk: 5GiB}}\n  - {name: two, image: i, run: 'true'}\n";
    let project = accepted(text);
    let (half, memory) = (Cpus(500), Bytes(512 << 20));
    assert_eq!(project.resources, Resources { cpus: half, memory, ..Resources::default() });
    let of = |step: usize| project.resources_of(&project.steps[step]);
    assert_eq!(of(0), Resources { cpus: Cpus(1_500), memory, disk: Bytes(5 << 30) });
    assert_eq!(of(1), project.resources);
    assert_eq!(project.max_running, Some(3));
    assert_eq!(project.queue_wait_of("dev"), Some(Duration::from_secs(600)));
    assert_eq!(project.queue_wait_of("live"), Some(Duration::from_secs(7_200)));
    let json = serde_json::to_string(&project).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), project);
}
