//! Specs that are refused: the line, the field and the advice of every mistake in them.

use super::*;

#[test]
fn the_file_as_a_whole() {
    let whole: &[(&str, Expected<'_>)] = &[
        ("", &[(1, "", "the file is empty")]),
        ("# nothing\n", &[(1, "", "the file is empty")]),
        ("~", &[(1, "", "the file is empty")]),
        ("just text", &[(1, "", "a mapping is needed")]),
        ("- a\n", &[(1, "", "a mapping is needed")]),
        ("{", &[(1, "", "this is not YAML")]),
        ("version: 1\n\tproject: x\n", &[(2, "", "indent with spaces")]),
        ("steps:\n  - name: x\n  \timage: y\n", &[(3, "", "indent with spaces")]),
        ("version: 1\nproject: \"x\n", &[(2, "", "a quote is opened here")]),
        ("version: 1\nproject: 'x\n\npool: y\n", &[(2, "", "a quote is opened here")]),
        ("version: 1\nproject: 'x' y\n", &[(2, "", "put the whole value in quotes")]),
        ("version: 1\nrun: echo: hi\n", &[(2, "", "put the value in quotes, or check how far")]),
        ("steps:\n  - name: x\n   image: y\n", &[(3, "", "not indented like")]),
        ("steps:\n    - name: x\n  - name: y\n", &[(3, "", "not indented like")]),
        ("version: 1\nproject\n", &[(2, "", "no `name: value`")]),
        ("version: 1\nenv: {A: ${{ vars.x }}}\n", &[(2, "", "put an expression in quotes")]),
        ("version: 1\nproject: @x\n", &[(2, "", "cannot begin with this character")]),
        ("version: 1\nproject: \"\\q\"\n", &[(2, "", "this is not YAML")]),
        ("version: 1\n---\nversion: 1\n", &[(2, "", "a second document")]),
        ("%YAML 1.2\n---\nversion: 1\n", &[(1, "", "this is not YAML")]),
        ("version: 1\nproject: *nowhere\n", &[(2, "", "this is not YAML")]),
        ("version: 1\nproject: !secret x\n", &[(2, "", "the tag `!secret`")]),
        ("version: 1\n? [a]\n: b\n", &[(2, "", "a name before `:`")]),
        ("version: 1\n: b\n", &[(2, "", "a name is missing")]),
    ];
    for (spec, expected) in whole {
        check(spec, expected);
    }
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    check(
        "pool: default\n",
        &[
            (1, "version", "write `version: 1`"),
            (1, "project", "write `project: NAME`"),
            (1, "environments", "environments: [{name: dev}]"),
            (1, "steps", "steps: ["),
        ],
    );
}

#[test]
fn the_top_of_the_file() {
    let spec = with_step("run: echo");
    let changed = |from: &str, to: &str| {
        assert!(spec.contains(from), "{from}");
        spec.replace(from, to)
    };
    check(&changed("version: 1", "version: 2"), &[(1, "version", "write `version: 1`")]);
    check(&changed("version: 1", "version:"), &[(1, "version", "a value is missing")]);
    check(&changed("project: shop", "project: My Shop"), &[(2, "project", "for example `my-shop`")]);
    check(&changed("project: shop", "project: [shop]"), &[(2, "project", "not a list")]);
    check(&changed("project: shop", "name: shop"), &[(2, "name", "did you mean `project`")]);
    check(&changed("project: shop", "project: shop\npool: 'A b'"), &[(3, "pool", "is no name")]);
    check(&changed("project: shop", "project: shop\nproject: two"), &[(3, "project", "already there on line 2")]);
    check(&changed("project: shop", "project: shop\nstages: []"), &[(3, "stages", "unknown field")]);
    check(&changed("project: shop", "project: ${{ vars.region }}"), &[(2, "project", "expressions are not allowed")]);
    check(&changed("[{name: dev}]", "[]"), &[(3, "environments", "at least one")]);
    check(&changed("[{name: dev}]", "dev"), &[(3, "environments", "a list is needed")]);
    check(&changed("[{name: dev}]", "[dev]"), &[(3, "environments[0]", "a mapping is needed")]);
    check(&changed("[{name: dev}]", "[{}]"), &[(3, "environments[0].name", "is missing")]);
    check(
        &changed("[{name: dev}]", "\n  - name: dev\n  - name: dev\n    protected: yes\n    color: red"),
        &[
            (5, "environments[1].name", "already an environment `dev`"),
            (6, "environments[1].protected", "write `true` or `false`"),
            (7, "environments[1].color", "known here: `name`, `protected`, `pool`, `agents` and `max_queue_wait`"),
        ],
    );
    let steps = spec.split_inclusive("steps:\n").next().unwrap();
    check(steps, &[(5, "steps", "a list is needed")]);
    check(&steps.replace("steps:", "steps: []"), &[(5, "steps", "at least one")]);
}

#[test]
fn variables() {
    let variables = |text: &str| {
        let steps = "steps: [{name: one, image: tiny, run: echo}]\n";
        format!("version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables:\n{text}{steps}")
    };
    check(&variables("  a: [1]\n"), &[(5, "variables.a", "not a list")]);
    check(&variables("  a: {}\n"), &[(5, "variables.a", "write `a: VALUE` for a plain variable")]);
    check(&variables("  a-b:\n    text\n"), &[(5, "variables.a-b", "cannot name a variable")]);
    check(
        &variables("  a:\n  b: ~\n"),
        &[(5, "variables.a", "a value is missing"), (6, "variables.b", "a value is missing")],
    );
    check(&variables("  a: {secret: false}\n"), &[(5, "variables.a.secret", "a plain variable is written `a: VALUE`")]);
    check(&variables("  a: {secrt: true}\n"), &[(5, "variables.a.secrt", "did you mean `secret`")]);
    check(
        &variables("  a:\n    secret: true\n    value: hunter2\n"),
        &[(5, "variables.a", "never stands in the file")],
    );
    check(&variables("  a-b: 1\n"), &[(5, "variables.a-b", "cannot name a variable")]);
    check(&variables("  a: ${{ vars.b }}\n"), &[(5, "variables.a", "is not expanded")]);
    check(&variables("  a: \"x\\0\"\n"), &[(5, "variables.a", "a NUL character")]);
    check(&variables("  a: 1\n  a: 2\n"), &[(6, "variables.a", "already there on line 5")]);
    check(&variables("  - a: 1\n"), &[(4, "variables", "a mapping is needed")]);
}

#[test]
fn what_a_step_may_say() {
    let step = |step: &str, expected: Expected<'_>| check(&with_step(step), expected);
    step("run: echo\ntiemout: 5m", &[(12, "steps[1].tiemout", "did you mean `timeout`")]);
    step("run: echo\nbuild: .", &[(12, "steps[1].build", "unknown field `build`; known here: `name`, `image`")]);
    step("script: echo", &[(11, "steps[1].script", "did you mean `run`")]);
    step("mounts: []", &[(9, "steps[1]", "the step does nothing")]);
    step("run: echo\npulumi: {operation: up}", &[(11, "steps[1].run", "a step does one thing")]);
    step("run:", &[(11, "steps[1].run", "a value is missing")]);
    step("run: \"  \"", &[(11, "steps[1].run", "nothing to run")]);
    step("run: []", &[(11, "steps[1].run", "nothing to run")]);
    step("run: ['', a]", &[(11, "steps[1].run", "the program")]);
    step("run:\n  - echo\n  - [a]\n  -", &[(13, "steps[1].run[1]", "not a list"), (14, "steps[1].run[2]", "missing")]);
    step("run: {a: b}", &[(11, "steps[1].run", "not a mapping")]);
    step("run: echo\nimage: two", &[(12, "steps[1].image", "already there on line 10")]);
    step("run: echo\ntimeout: 30", &[(12, "steps[1].timeout", "`30` is no duration")]);
    step("run: echo\ntimeout: 200ms", &[(12, "steps[1].timeout", "from `1s` to `7d`")]);
    step("run: echo\ntimeout: 8d", &[(12, "steps[1].timeout", "from `1s` to `7d`")]);
    step("run: echo\nnetwork: host", &[(12, "steps[1].network", "write `longshore` or `none`")]);
    step("run: echo\nprofile: privileged", &[(12, "steps[1].profile", "write `standard` or `locked`")]);
    step("run: echo\npull: sometimes", &[(12, "steps[1].pull", "write `if-not-present` or `always`")]);
    step("run: echo\nprofile: lokced", &[(12, "steps[1].profile", "did you mean `locked`")]);
    step("run: echo\nmounts: state", &[(12, "steps[1].mounts", "a list is needed")]);
    step(
        "run: echo\nmounts:\n  - state\n  - /etc\n  - state",
        &[(14, "steps[1].mounts[1]", "is no name"), (15, "steps[1].mounts[2]", "already there")],
    );
    step("run: echo\nprivileged: true", &[(12, "steps[1].privileged", "unknown field")]);
    step("run: echo\n<<: {timeout: 5m}", &[(12, "steps[1].<<", "merge keys")]);
    let spec = with_step("run: echo");
    check(&spec.replace("image: tiny", "mounts: []"), &[(9, "steps[1].image", "write `image: NAME:TAG`")]);
    check(&spec.replace("image: tiny", "image: '--privileged'"), &[(10, "steps[1].image", "cannot begin with `-`")]);
    check(&spec.replace("image: tiny", "image: a b"), &[(10, "steps[1].image", "no spaces")]);
    check(&spec.replace("name: one", "name: infra"), &[(9, "steps[1].name", "already a step `infra`")]);
    check(&spec.replace("name: one", "name: One"), &[(9, "steps[1].name", "for example `one`")]);
    check(&format!("{spec}  - run\n"), &[(12, "steps[2]", "a mapping is needed")]);
}

#[test]
fn pulumi() {
    let step = |step: &str, expected: Expected<'_>| check(&with_step(step), expected);
    step("pulumi: up", &[(11, "steps[1].pulumi", "a mapping is needed")]);
    step("pulumi: {}", &[(11, "steps[1].pulumi.operation", "write `operation: up`")]);
    step("pulumi: {operation: upp}", &[(11, "steps[1].pulumi.operation", "did you mean `up`")]);
    step(
        "pulumi:\n  operation: up\n  install: 1\n  dir: ../x\n  stack: --yes\n  backend: state\n  target: x",
        &[
            (13, "steps[1].pulumi.install", "write `true` or `false`"),
            (14, "steps[1].pulumi.dir", "cannot lead out of the package"),
            (15, "steps[1].pulumi.stack", "a stack's name"),
            (16, "steps[1].pulumi.backend", "a backend is a URL"),
            (17, "steps[1].pulumi.target", "unknown field"),
        ],
    );
    step("pulumi: {operation: up, dir: /etc}", &[(11, "steps[1].pulumi.dir", "inside the package")]);
    step(
        "pulumi: {operation: up, backend: 'postgres://me:pw@db/x'}",
        &[(11, "steps[1].pulumi.backend", "holds a password")],
    );
    step(
        "pulumi: {operation: up, backend: 'file:///state'}\nenv: {PULUMI_BACKEND_URL: x}",
        &[(12, "steps[1].env.PULUMI_BACKEND_URL", "write one of the two")],
    );
}

#[test]
fn environment_variables() {
    let env = |env: &str, expected: Expected<'_>| {
        check(&with_step(&format!("run: echo\nenv:\n{env}")), expected);
    };
    env("  A-B: x", &[(13, "steps[1].env.A-B", "cannot name an environment variable")]);
    env("  'A=B': x", &[(13, "steps[1].env.A=B", "cannot name an environment variable")]);
    env("  \"A\\nB\": x", &[(13, "steps[1].env.A B", "cannot name an environment variable")]);
    env("  LONGSHORE_WORKSPACE: x", &[(13, "steps[1].env.LONGSHORE_WORKSPACE", "are set by Longshore")]);
    for reserved in ["HOME", "PULUMI_HOME", "PULUMI_CREDENTIALS_PATH", "LD_PRELOAD", "DOCKER_HOST"] {
        env(&format!("  {reserved}: x"), &[(13, &format!("steps[1].env.{reserved}"), "is reserved: ")]);
    }
    env("  A:\n  B: [x]", &[(13, "steps[1].env.A", "missing"), (14, "steps[1].env.B", "not a list")]);
    env("  A: \"x\\0\"", &[(13, "steps[1].env.A", "a NUL character")]);
    env("  - A=x", &[(12, "steps[1].env", "a mapping is needed")]);
}

#[test]
fn expressions() {
    let env = |value: &str, part: &str| {
        check(&with_step(&format!("run: echo\nenv:\n  A: {value}")), &[(13, "steps[1].env.A", part)]);
    };
    env(
        "${{ vars.regoin }}",
        "variable `regoin` is not defined: add `regoin: VALUE` under `variables`; did you mean `region`?",
    );
    env("${{ secrets.x }}", "add `x: {secret: true}`");
    env("${{ vars.token }}", "`token` is a secret: write `${{ secrets.token }}`");
    env("${{ secrets.region }}", "`region` is no secret: write `${{ vars.region }}`");
    env("${{ region }}", "write `${{ vars.region }}`");
    env("${{ token }}", "write `${{ secrets.token }}`");
    env("${{ steps.infrra.outputs.url }}", "there is no step `infrra`; did you mean `infra`?");
    env("${{ steps.one.outputs.url }}", "its own outputs");
    env("${{ steps.infra.url }}", "an output is `steps.infra.outputs.url`");
    env("${{ vars.region", "is not closed");
    env("${{ }}", "is no expression");
    env("${{ var.region }}", "did you mean `vars.region`?");
    env("${{ enviroment }}", "did you mean `environment`?");
    env("${{ vars.region || 'x' }}", "is no expression");
    // The line is that of the expression, not of the value it stands in.
    check(
        &with_step(
            "run: echo\nenv:\n  A: |\n    ${{ vars.region }}\n    text $${{ text\n    ${{ vars.nowhere }}\n  B: >-\n    a\n    b\n\n    ${{ vars.x",
        ),
        &[(16, "steps[1].env.A", "`nowhere` is not defined"), (21, "steps[1].env.B", "is not closed")],
    );
    let later = with_step("run: echo\nenv: {A: '${{ steps.two.outputs.x }}'}");
    let two = "  - name: two\n    image: tiny\n    run: echo\n    env: {B: '${{ steps.one.outputs.x }}'}\n";
    check(&format!("{later}{two}"), &[(12, "steps[1].env.A", "`two` runs later")]);
}

#[test]
fn expressions_where_they_are_refused() {
    let step = |step: &str, expected: Expected<'_>| check(&with_step(step), expected);
    step("run: echo ${{ vars.region }}", &[(11, "steps[1].run", "use `\"$NAME\"` here")]);
    step(
        "run: |\n  set -e\n\n  echo '${{ secrets.token }}'",
        &[(14, "steps[1].run", "where a value could become a command")],
    );
    step("run:\n  - echo\n  - ${{ vars.region }}", &[(13, "steps[1].run[1]", "where a value could become a command")]);
    step("run: echo\ntimeout: ${{ vars.region }}", &[(12, "steps[1].timeout", "expressions are not allowed")]);
    let pulumi = "pulumi:\n  operation: up\n  stack: ${{ secrets.token }}\n  dir: ${{ secrets.token }}\n  backend: ${{ secrets.token }}://x";
    step(
        pulumi,
        &[
            (13, "steps[1].pulumi.stack", "in the values of `env` only"),
            (14, "steps[1].pulumi.dir", "in the values of `env` only"),
            (15, "steps[1].pulumi.backend", "as `PULUMI_BACKEND_URL` under `env`"),
        ],
    );
    step(
        "pulumi: {operation: up, stack: '${{ steps.infra.outputs.x }}'}",
        &[(11, "steps[1].pulumi.stack", "is locked before")],
    );
    let spec = with_step("run: echo");
    check(&spec.replace("tiny", "${{ secrets.token }}"), &[(10, "steps[1].image", "would be shown")]);
    check(&spec.replace("tiny", "${{ steps.infra.outputs.i }}"), &[(10, "steps[1].image", "is pulled before")]);
}

#[test]
fn a_mistake_is_not_reported_twice() {
    // The variable is there, only wrong; the step is there, only without a usable action.
    let spec = with_step("run: echo\nenv: {A: '${{ vars.region }}', B: '${{ steps.infra.outputs.x }}'}");
    let spec = spec.replace("region: eu", "region: [eu]").replace("pulumi: {operation: up}", "pulum: {operation: up}");
    check(&spec, &[(4, "variables.region", "not a list"), (8, "steps[0].pulum", "did you mean `pulumi`")]);
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_line() {
    let mut bytes = CONTRACT.as_bytes().to_vec();
    assert!(parse_bytes(&bytes).is_ok());
    let at = CONTRACT.find("pool").unwrap();
    bytes[at] = 0xff;
    let errors = parse_bytes(&bytes).unwrap_err();
    assert_eq!((errors.len(), errors[0].line), (1, 3));
    assert!(errors[0].message.contains("not UTF-8"));
}

#[test]
fn an_error_reads_as_one_line() {
    let errors = parse(&with_step("run: echo\ntiemout: 5m")).unwrap_err();
    assert_eq!(errors[0].to_string(), "line 12: `steps[1].tiemout`: unknown field `tiemout`; did you mean `timeout`?");
    assert_eq!(parse("").unwrap_err()[0].to_string().lines().count(), 1);
}

#[test]
fn labels_of_agents() {
    let with = |labels: &str| {
        format!(
            "version: 1\nproject: shop\nenvironments:\n  - {{name: dev, agents: {labels}}}\nsteps: [{{name: a, image: i, run: x}}]\n"
        )
    };
    check(&with("{Zone: a}"), &[(4, "environments[0].agents.Zone", "no name of a label")]);
    check(&with("{zone: a b}"), &[(4, "environments[0].agents.zone", "no value of a label")]);
    check(&with("[zone]"), &[(4, "environments[0].agents", "a mapping is needed")]);
    check(&with("{zone: a, zone: b}"), &[(4, "environments[0].agents.zone", "already there")]);
}

#[test]
fn types_of_what_is_asked_for() {
    let with = |variable: &str| {
        format!(
            "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables:\n  n: {variable}\nsteps: [{{name: a, image: i, run: x}}]\n"
        )
    };
    check(&with("{prompt: q, type: integer}"), &[(5, "variables.n.type", "text")]);
    check(&with("{prompt: q, type: number, value: many}"), &[(5, "variables.n.value", "a number is wanted")]);
    check(&with("{prompt: q, type: boolean, value: yes}"), &[(5, "variables.n.value", "`true` or `false`")]);
    check(&with("{prompt: q, options: [a, b], value: c}"), &[(5, "variables.n.value", "one of `a`, `b` is wanted")]);
    check(&with("{prompt: q, options: []}"), &[(5, "variables.n.options", "nothing to choose from")]);
    check(&with("{prompt: q, type: number, options: [1, x]}"), &[(5, "variables.n.options[1]", "a number is wanted")]);
    check(&with("{value: 1, type: number}"), &[(5, "variables.n.prompt", "`prompt` is missing")]);
    check(&with("{prompt: q, options: [a, a]}"), &[(5, "variables.n.options[1]", "a text of its own")]);
}
