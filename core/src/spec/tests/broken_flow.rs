//! Specs with a lifecycle, scopes, gates, groups and conditions that are refused.

use super::*;

/// A file with 4 lines before `top`, and one step.
fn with_top(top: &str) -> String {
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}, {{name: test}}, {{name: production}}]\n\n{top}steps: [{{name: one, image: tiny, run: \
         echo}}]\n"
    )
}

#[test]
fn lifecycle() {
    let phases = |phases: &str, expected: Expected<'_>| check(&with_top(&format!("lifecycle:\n{phases}")), expected);
    check(&with_top("lifecycle: []\n"), &[(5, "lifecycle", "at least one phase")]);
    check(&with_top("lifecycle:\n"), &[(5, "lifecycle", "a list is needed")]);
    check(&with_top("phases: []\n"), &[(5, "phases", "did you mean `lifecycle`?")]);
    phases("  - test\n", &[(6, "lifecycle[0]", "a mapping is needed")]);
    phases(
        "  - {}\n",
        &[(6, "lifecycle[0].phase", "write `phase: test`"), (6, "lifecycle[0].environments", "environments: [dev]")],
    );
    phases("  - {name: a, environments: [dev]}\n", &[(6, "lifecycle[0].name", "did you mean `phase`?")]);
    phases("  - {phase: A b, environments: [dev]}\n", &[(6, "lifecycle[0].phase", "for example `a-b`")]);
    phases("  - {phase: a, environments: []}\n", &[(6, "lifecycle[0].environments", "at least one environment")]);
    phases("  - {phase: a, environments: dev}\n", &[(6, "lifecycle[0].environments", "a list is needed")]);
    phases(
        "  - {phase: a, environments: [dve]}\n",
        &[(6, "lifecycle[0].environments[0]", "there is no environment `dve`; did you mean `dev`?")],
    );
    phases(
        "  - {phase: a, environments: [dev, dev]}\n  - {phase: a, environments: [test, dev]}\n",
        &[
            (6, "lifecycle[0].environments[1]", "already in the phase `a`"),
            (7, "lifecycle[1].phase", "already a phase `a`"),
            (7, "lifecycle[1].environments[1]", "already in the phase `a`: it can be in one only"),
        ],
    );
    let one = |more: &str, field: &str, part: &str| {
        let field = format!("lifecycle[0].{field}");
        phases(&format!("  - {{phase: a, environments: [dev, test], {more}}}\n"), &[(6, &field, part)]);
    };
    one("mode: auto", "mode", "write `manual` or `automatic`");
    one("require: 3", "require", "the phase has 2 environments; write `all`");
    one("require: 0", "require", "write `optional`");
    one("require: -1", "require", "write `all`, `optional` or a number");
    one("require: any", "require", "write `all`, `optional` or a number");
    one("require: 99999999999", "require", "write `all`, `optional` or a number");
    one("require: [1]", "require", "not a list");
    one("needs: all", "needs", "unknown field `needs`");
    // An environment that is wrong itself is not missed in the lifecycle too.
    let spec = with_top("lifecycle: [{phase: a, environments: [dev]}]\n").replace("name: dev", "name: Dev");
    check(&spec, &[(3, "environments[0].name", "for example `dev`")]);
}

#[test]
fn channels() {
    let channels =
        |channels: &str, expected: Expected<'_>| check(&with_top(&format!("channels:\n{channels}")), expected);
    check(&with_top("channels: []\n"), &[(5, "channels", "at least one channel")]);
    check(&with_top("channels: beta\n"), &[(5, "channels", "a list is needed")]);
    check(&with_top("channel: []\n"), &[(5, "channel", "did you mean `channels`?")]);
    channels("  - {}\n", &[(6, "channels[0].name", "write `name: stable`")]);
    channels(
        "  - {name: a, default: true}\n  - {name: a}\n  - {name: b, default: true}\n",
        &[
            (7, "channels[1].name", "already a channel `a`"),
            (8, "channels[2].default", "channel `a` is the default already"),
        ],
    );
    let one = |more: &str, field: &str, part: &str| {
        channels(&format!("  - {{name: a, {more}}}\n"), &[(6, &format!("channels[0].{field}"), part)]);
    };
    one("version: '<1.0.0'", "version", "did you mean `versions`?");
    one("versions: ^1.0.0", "versions", "`^1.0.0` does not begin with a comparison: write comparisons");
    one("versions: '>=1.0'", "versions", "such as `>=1.0.0 <2.0.0`");
    one("versions: '>=2.0.0 <1.0.0'", "versions", "no version is in `>=2.0.0 <1.0.0`");
    one("versions: '>=1.0.0-a <1.0.0-b', prerelease: none", "versions", "leave `prerelease: none` out");
    one("versions: ['<1.0.0']", "versions", "not a list");
    one("prerelease: []", "prerelease", "nothing could be in this channel");
    one("prerelease: 'r*c'", "prerelease", "`r*c` is no rule");
    one("prerelease: beta.1", "prerelease", "`beta.1` is no rule");
    one("prerelease: ^$", "prerelease", "write `none`, `any`");
    one("prerelease: [rc, any]", "prerelease[1]", "`any` stands alone");
    one("prerelease: [rc, rc]", "prerelease[1]", "already there");
    one("prerelease: {a: b}", "prerelease", "not a mapping");
    one("default: yes", "default", "write `true` or `false`");
    one("lifecycle: []", "lifecycle", "at least one phase");
    one(
        "lifecycle: [{phase: x, environments: [dve]}]",
        "lifecycle[0].environments[0]",
        "there is no environment `dve`; did you mean `dev`?",
    );
    let spec =
        |channels: &str, variable: &str| with_top(&format!("channels: {channels}\nvariables: {{a: {variable}}}\n"));
    check(
        &spec("[{name: beta}]", "{channels: {bata: 1}}"),
        &[(6, "variables.a.channels.bata", "there is no channel `bata`; did you mean `beta`?")],
    );
    check(
        &with_top("variables: {a: {channels: {beta: 1}}}\n"),
        &[(5, "variables.a.channels.beta", "there is no channel `beta`")],
    );
    // A channel that is wrong itself is not missed in a scope too.
    check(&spec("[{name: Beta}]", "{channels: {beta: 1}}"), &[(5, "channels[0].name", "for example `beta`")]);
}

#[test]
fn variables_with_scopes() {
    let variable = |variable: &str, field: &str, part: &str| {
        let field = if field.is_empty() { "variables.a".to_owned() } else { format!("variables.a.{field}") };
        check(&with_top(&format!("variables:\n  a: {variable}\n")), &[(6, &field, part)]);
    };
    variable("{environments: {}}", "", "at least one value");
    variable("{environments: {}, steps: {}, pools: {}}", "", "at least one value");
    variable("{environments: {prod: 1}}", "environments.prod", "there is no environment `prod`");
    variable("{environments: {tset: 1}}", "environments.tset", "did you mean `test`?");
    variable("{steps: {on: 1}}", "steps.on", "there is no step `on`; did you mean `one`?");
    variable("{pools: {A: 1}}", "pools.A", "is no name");
    variable("{environments: [dev]}", "environments", "a mapping is needed");
    variable("{environments: {dev: }}", "environments.dev", "a value is missing");
    variable("{environments: {dev: [1]}}", "environments.dev", "not a list");
    variable("{environments: {dev: 1, dev: 2}}", "environments.dev", "already there");
    variable("{value: {b: 1}}", "value", "not a mapping");
    variable("{value: '${{ vars.b }}'}", "value", "is not expanded");
    variable("{steps: {one: \"\\0\"}}", "steps.one", "a NUL character");
    variable("{valeu: 1}", "valeu", "did you mean `value`?");
    variable("{color: red}", "color", "unknown field `color`");
    variable("{secret: true, environments: {dev: 1}}", "environments", "`--env E` for one environment");
    variable("{secret: true, prompt: x}", "prompt", "nothing but `secret: true`");
    check(
        &with_top("variables:\n  a:\n    value: 1\n    environments:\n      dev: 2\n      nowhere: 3\n"),
        &[(10, "variables.a.environments.nowhere", "there is no environment `nowhere`")],
    );
    // A step that is wrong itself is not missed in a scope too.
    let spec = with_top("variables: {a: {steps: {two: 1}}}\n").replace("name: one", "name: Two");
    check(&spec, &[(6, "steps[0].name", "for example `two`")]);
}

#[test]
fn variables_that_are_asked_for() {
    let variable = |variable: &str, field: &str, part: &str| {
        check(&with_top(&format!("variables:\n  a: {variable}\n")), &[(6, &format!("variables.a.{field}"), part)]);
    };
    variable("{required: true}", "prompt", "write `prompt: QUESTION`");
    variable("{prompt: ''}", "prompt", "nothing to ask");
    variable("{prompt: '${{ vars.a }}'}", "prompt", "expressions are not allowed");
    variable("{prompt: x, required: maybe}", "required", "write `true` or `false`");
    variable("{prompt: x, environments: {dev: 1}}", "environments", "leave `environments` out");
    variable("{prompt: x, value: [1]}", "value", "not a list");
    let spec = with_top("variables: {a: {prompt: x}, b: {value: 1}}\n");
    let spec = spec.replace("run: echo", "run: echo, env: {A: '${{ secrets.a }}', B: '${{ secrets.b }}'}");
    check(
        &spec,
        &[
            (6, "steps[0].env.A", "`a` is no secret: write `${{ vars.a }}`"),
            (6, "steps[0].env.B", "`b` is no secret: write `${{ vars.b }}`"),
        ],
    );
}

/// Steps from line 6 on, each in one line of flow YAML.
fn steps(steps: &[&str], expected: Expected<'_>) {
    let steps: String = steps.iter().map(|step| format!("  - {{{step}}}\n")).collect();
    let variables = "variables: {region: eu, token: {secret: true}}";
    check(&format!("version: 1\nproject: shop\nenvironments: [{{name: dev}}]\n{variables}\nsteps:\n{steps}"), expected);
}

/// A step that comes last and runs.
const RUN: &str = "name: z, image: i, run: x";

#[test]
fn approvals() {
    let approval = |approval: &str, field: &str, part: &str| {
        let field = if field.is_empty() { String::new() } else { format!(".{field}") };
        steps(&[&format!("name: go, approval: {approval}"), RUN], &[(6, &format!("steps[0].approval{field}"), part)]);
    };
    approval("", "", "a mapping is needed");
    approval("ops", "", "a mapping is needed");
    approval("{team: ops}", "team", "did you mean `teams`?");
    approval("{teams: ops}", "teams", "a list is needed");
    approval("{teams: []}", "teams", "leave it out for everyone who may");
    approval("{teams: [ops, ops]}", "teams[1]", "`ops` is already there");
    approval("{teams: [Ops]}", "teams[0]", "for example `ops`");
    approval("{needs: 0}", "needs", "write a number from 1 to 100");
    approval("{needs: two}", "needs", "write a number from 1 to 100");
    approval("{expires: 4}", "expires", "`4` is no duration");
    approval("{expires: 0s}", "expires", "from `1s` to `365d`");
    approval("{plan: nothing}", "plan", "there is no step `nothing`");
    approval("{plan: z}", "plan", "`z` has no plan: only `pulumi` steps do");
    approval("{plan: go}", "plan", "runs earlier");
    let up = "name: infra, image: i, pulumi: {operation: up}";
    let destroy = up.replace("operation: up", "operation: destroy");
    steps(
        &["name: go, approval: {plan: infra}", &destroy],
        &[(7, "steps[1].pulumi.operation", "`go` shows the plan of this step, and `destroy` has none: only `up` does")],
    );
    steps(
        &[up, "name: go, approval: {plan: infra}"],
        &[(7, "steps[1].approval.plan", "runs earlier: an approval stands")],
    );
    steps(
        &["name: go, approval: {plan: infra}", &format!("{up}, needs: []")],
        &[(6, "steps[0].approval.plan", "does not wait for this approval: add `go` to its `needs`")],
    );
    steps(
        &["name: go, approval: {plan: infra}", RUN, &format!("{up}, env: {{A: '${{{{ steps.z.outputs.x }}}}'}}")],
        &[(8, "steps[2].env.A", "is made for the approval `go`, before `z` has run: put `z` before `go`")],
    );
    for (field, part) in [
        ("image: i", "an approval runs no container: leave `image` out"),
        ("mounts: [a]", "an approval runs no container: leave `mounts` out"),
        ("env: {A: '${{ vars.nowhere }}'}", "an approval runs no container"),
        ("network: none", "an approval runs no container"),
        ("profile: locked", "an approval runs no container"),
        ("pull: always", "an approval runs no container"),
        ("timeout: 1h", "as long as its `expires` says"),
        ("skippable: true", "guards nothing: leave `skippable` out"),
        ("retries: {max: 1}", "asked for once: leave `retries` out"),
    ] {
        let name = field.split(':').next().unwrap();
        steps(&[&format!("name: go, approval: {{}}, {field}"), RUN], &[(6, &format!("steps[0].{name}"), part)]);
    }
}

#[test]
fn http_checks() {
    let http = |http: &str, field: &str, part: &str| {
        steps(&[RUN, &format!("name: up, http: {http}")], &[(7, &format!("steps[1].http{field}"), part)]);
    };
    http("https://x", "", "a mapping is needed");
    http("{}", ".url", "`url` is missing");
    http("{url: x.test}", ".url", "begins with `http://` or `https://`");
    http("{url: 'http://me:pw@x'}", ".url", "holds a user or a password");
    http("{url: 'http://x/${{ secrets.token }}'}", ".url", "a secret would be shown");
    http("{url: 'http://x/${{ steps.up.outputs.a }}'}", ".url", "its own outputs");
    http("{url: 'http://x', expects: {}}", ".expects", "did you mean `expect`?");
    http("{url: 'http://x', expect: 200}", ".expect", "a mapping is needed");
    http("{url: 'http://x', expect: {status: 99}}", ".expect.status", "a number from 100 to 599");
    http("{url: 'http://x', expect: {status: 600}}", ".expect.status", "a number from 100 to 599");
    http("{url: 'http://x', expect: {body: ''}}", ".expect.body", "leave `body` out");
    http("{url: 'http://x', expect: {body: '${{ vars.region }}'}}", ".expect.body", "expressions are not allowed");
    let more = |more: &str, field: &str, part: &str| {
        steps(&[&format!("name: up, http: {{url: 'http://x'}}, {more}")], &[(6, &format!("steps[0].{field}"), part)]);
    };
    more("image: i", "image", "an http check runs no container, the controller asks the address: leave `image` out");
    more("timeout: 0s", "timeout", "from `1s` to `7d`");
    more("run: x", "run", "a step does one thing: write `run` or `http`");
}

#[test]
fn releases_of_other_projects() {
    let deploy = |deploy: &str, field: &str, part: &str| {
        let step = format!("name: other, deploy-release: {deploy}");
        steps(&[RUN, &step], &[(7, &format!("steps[1].deploy-release{field}"), part)]);
    };
    deploy("other", "", "a mapping is needed");
    deploy("{version: 1.0.0}", ".project", "write `project: NAME`");
    deploy("{project: shop}", ".project", "a project cannot deploy itself");
    deploy("{project: Other}", ".project", "for example `other`");
    deploy("{project: other, version: '1 0'}", ".version", "such as `1.4.0`");
    deploy("{project: other, version: '${{ secrets.token }}'}", ".version", "a secret would be shown");
    deploy("{project: other, version: '${{ steps.z.outputs.v }}'}", ".version", "before any step runs");
    deploy("{project: other, channel: Beta}", ".channel", "for example `beta`");
    deploy("{project: other, channel: beta, version: 1.0.0}", ".channel", "leave `channel` or `version` out");
    deploy("{project: other, environment: dev}", ".environment", "unknown field `environment`");
    let other = "name: other, deploy-release: {project: other}";
    steps(
        &[&format!("{other}, image: i")],
        &[(6, "steps[0].image", "the other project's steps do: leave `image` out")],
    );
    steps(&[&format!("{other}, retries: {{max: 1}}")], &[(6, "steps[0].retries", "tried again by their own")]);
    steps(&[&format!("{other}, timeout: 1h")], &[(6, "steps[0].timeout", "time limits of their own")]);
}

#[test]
fn retries() {
    let retries = |retries: &str, field: &str, part: &str| {
        steps(&[&format!("{RUN}, retries: {retries}")], &[(6, &format!("steps[0].retries{field}"), part)]);
    };
    steps(&[&format!("{RUN}, skippable: 1")], &[(6, "steps[0].skippable", "write `true` or `false`")]);
    retries("3", "", "write `retries: {max: 3, backoff: 1s}`");
    retries("{}", ".max", "write `max: 3`");
    retries("{max: 0}", ".max", "write a number from 1 to 100");
    retries("{max: 101}", ".max", "write a number from 1 to 100");
    retries("{max: 1, backoff: 2}", ".backoff", "is no duration");
    retries("{max: 1, backoff: 61m}", ".backoff", "from `0s` to `1h`");
    retries("{max: 1, delay: 1s}", ".delay", "unknown field");
    steps(&[&format!("{RUN}, retry: {{max: 1}}")], &[(6, "steps[0].retry", "did you mean `retries`?")]);
}

#[test]
fn needs() {
    let a = "name: a, image: i, run: x";
    let needs = |needs: &str, field: &str, part: &str| {
        let b = format!("name: b, image: i, run: x, needs: {needs}");
        steps(&[a, &b, RUN], &[(7, &format!("steps[1].needs{field}"), part)]);
    };
    needs("a", "", "a list is needed");
    needs("[aa]", "[0]", "there is no step or group `aa`");
    steps(
        &["name: make, image: i, run: x", "name: b, image: i, run: x, needs: [mkae]"],
        &[(7, "steps[1].needs[0]", "there is no step or group `mkae`; did you mean `make`?")],
    );
    needs("[z]", "[0]", "`z` stands later in the file");
    needs("[a, b]", "[1]", "it cannot wait for itself");
    needs("[a, a]", "[1]", "`a` is already there");
    needs("['${{ vars.region }}']", "[0]", "expressions are not allowed");
    steps(&[a, &format!("{RUN}, depends_on: [a]")], &[(7, "steps[1].depends_on", "did you mean `needs`?")]);
    // Outputs of what does not certainly come before.
    let uses =
        |needs: &str| format!("name: c, image: i, run: x, needs: {needs}, env: {{A: '${{{{ steps.a.outputs.x }}}}'}}");
    let b = "name: b, image: i, run: x, needs: []";
    steps(
        &[a, b, &uses("[]")],
        &[(8, "steps[2].env.A", "`a` may still run when this one starts: add `a` to its `needs`")],
    );
    steps(&[a, b, &uses("[b]")], &[(8, "steps[2].env.A", "add `a` to its `needs`")]);
    let last = uses("[]").replace(", needs: []", "");
    steps(&[a, b, &last], &[(8, "steps[2].env.A", "add `a` to its `needs`")]);
}

#[test]
fn groups() {
    let member = |name: &str, more: &str| format!("{{name: {name}, image: i, run: x{more}}}");
    let group = |members: &[String]| format!("name: both, parallel: [{}]", members.join(", "));
    let (a, b) = (member("a", ""), member("b", ""));
    let pair = group(&[a.clone(), b.clone()]);
    steps(&["name: both, parallel: []"], &[(6, "steps[0].parallel", "at least one step")]);
    steps(&["name: both, parallel: x"], &[(6, "steps[0].parallel", "a list is needed")]);
    steps(&["name: both, parralel: [{name: a}]"], &[(6, "steps[0].parralel", "did you mean `parallel`?")]);
    steps(&[&pair.replace("name: both, ", "")], &[(6, "steps[0].name", "write `name: NAME`")]);
    steps(
        &[&format!("{pair}, image: i, retries: {{max: 1}}")],
        &[
            (6, "steps[0].image", "a group runs nothing itself: write `image` in the steps under `parallel`"),
            (6, "steps[0].retries", "a group runs nothing itself"),
        ],
    );
    steps(&[&pair, "name: both, image: i, run: x"], &[(7, "steps[1].name", "already a group `both`")]);
    steps(&[&group(&[a.clone(), a.clone()])], &[(6, "steps[0].parallel[1].name", "already a step `a`")]);
    steps(&[&pair.replace("name: both", "name: b")], &[(6, "steps[0].parallel[1].name", "already a group `b`")]);
    steps(
        &[&group(&[a.clone(), format!("{{name: c, parallel: [{b}]}}")])],
        &[(6, "steps[0].parallel[1].parallel", "a group cannot stand in a group")],
    );
    steps(
        &[&group(&[a.clone(), "{name: go, approval: {}}".to_owned()])],
        &[(6, "steps[0].parallel[1].approval", "write it before the group")],
    );
    steps(&[&group(&["{name: c}".to_owned()])], &[(6, "steps[0].parallel[0]", "the step does nothing")]);
    steps(
        &[&group(&[a.clone(), member("b", ", needs: [a]")])],
        &[(6, "steps[0].parallel[1].needs[0]", "steps of one group do not wait for each other: write `a` before")],
    );
    steps(
        &[&group(&[a.clone(), member("b", ", needs: [both]")])],
        &[(6, "steps[0].parallel[1].needs[0]", "it cannot wait for itself")],
    );
    steps(&[&format!("{pair}, needs: [z]"), RUN], &[(6, "steps[0].needs[0]", "`z` stands later")]);
    steps(&[&format!("{pair}, needs: [a]"), RUN], &[(6, "steps[0].needs[0]", "do not wait for each other")]);
    let uses = ", env: {A: '${{ steps.a.outputs.x }}'}";
    steps(&[&group(&[a, member("b", uses)])], &[(6, "steps[0].parallel[1].env.A", "step `a` runs at the same time")]);
    steps(
        &[&pair, &format!("{RUN}, env: {{A: '${{{{ steps.both.outputs.x }}}}'}}")],
        &[(7, "steps[1].env.A", "`both` is a group: write the name of one of its steps")],
    );
}

#[test]
fn a_step_that_is_wrong_itself_is_not_missed_elsewhere() {
    let uses =
        format!("{RUN}, needs: [a], env: {{A: '${{{{ steps.a.outputs.x }}}}'}}, when: \"steps.a.outputs.y == ''\"");
    for (wrong, field, part) in [
        ("name: A, image: i, run: x", ".name", "for example `a`"),
        ("name: both, parralel: [{name: a, image: i, run: x}]", ".parralel", "did you mean `parallel`?"),
        ("name: both, parallel: {name: a, image: i, run: x}", ".parallel", "a list is needed"),
        (
            "name: both, parallel: [{name: c, parallel: [{name: a, image: i, run: x}]}]",
            ".parallel[0].parallel",
            "a group cannot stand in a group",
        ),
    ] {
        steps(&["name: go, approval: {plan: b}", wrong, &uses], &[(7, &format!("steps[1]{field}"), part)]);
    }
}

#[test]
fn conditions() {
    let when = |when: &str, part: &str| steps(&[&format!("{RUN}, when: \"{when}\"")], &[(6, "steps[0].when", part)]);
    when("", "the condition is empty");
    when("sucess()", "did you mean `success`?");
    when(
        "vars.regoin == 'eu'",
        "`regoin` is not defined: add `regoin: VALUE` under `variables`; did you mean `region`?",
    );
    when("vars.token == 'x'", "`token` is a secret and cannot be compared");
    when("secrets.token == 'x'", "`secrets.token` cannot be compared");
    when("steps.a.outputs.x == ''", "there is no step `a`");
    when("steps.z.outputs.x == ''", "its own outputs");
    when("vars.region", "compare it, for example `vars.region == 'true'`");
    steps(&[&format!("{RUN}, when: [a]")], &[(6, "steps[0].when", "not a list")]);
    steps(&[&format!("{RUN}, if: always()")], &[(6, "steps[0].if", "did you mean `when`?")]);
    steps(
        &["name: go, approval: {}", &format!("{RUN}, when: \"steps.go.outputs.x == ''\"")],
        &[(7, "steps[1].when", "step `go` has no outputs: only `run` and `pulumi` steps do")],
    );
    // A condition of a group is checked once, not for each member.
    steps(
        &["name: both, when: maybe(), parallel: [{name: a, image: i, run: x}, {name: b, image: i, run: x}]"],
        &[(6, "steps[0].when", "there is no function `maybe`")],
    );
    let own = "when: always(), image: i, run: x";
    steps(
        &[&format!("name: both, when: maybe(), parallel: [{{name: a, {own}}}, {{name: b, {own}}}]")],
        &[(6, "steps[0].when", "there is no function `maybe`")],
    );
    // Each member may come after other steps, so what a condition of the group may name depends on the member.
    let uses = "when: \"steps.a.outputs.x == ''\"";
    steps(
        &[
            "name: a, image: i, run: x",
            &format!(
                "name: both, {uses}, parallel: [{{name: b, image: i, run: x}}, {{name: c, image: i, run: x, needs: []}}]"
            ),
        ],
        &[(7, "steps[1].when", "step `a` may still run when this one starts")],
    );
    let spec = with_step("run: echo\nwhen: !failure()");
    assert!(parse(&spec).unwrap_err()[0].message.contains("put a text that begins with `!` in quotes"));
}

#[test]
fn requests_and_limits() {
    let top = |text: &str, field: &str, part: &str| check(&with_top(&format!("{text}\n")), &[(5, field, part)]);
    top("resources: 2", "resources", "write `resources: {cpus: 1.5");
    top("resources: {cpu: 2}", "resources.cpu", "did you mean `cpus`?");
    top("resources: {cpus: 0}", "resources.cpus", "is no number of processors");
    top("resources: {memory: 2}", "resources.memory", "write a whole number with its unit");
    top("resources: {memory: 1MiB}", "resources.memory", "write at least 6MiB");
    top("resources: {disk: 1.5GiB}", "resources.disk", "is no size");
    top("max_running: 0", "max_running", "write a number from 1");
    top("max_queue_wait: 8d", "max_queue_wait", "write a time from `1s` to `7d`");
    top("max_queue_wait: soon", "max_queue_wait", "is no duration");
    let spec =
        with_top("").replace("{name: one, image: tiny, run: echo}", "{name: one, approval: {}, resources: {cpus: 1}}");
    check(&spec, &[(5, "steps[0].resources", "an approval runs no container: leave `resources` out")]);
}
