//! The spec as users type it: what is accepted, what is refused and where, and what must not break the reader.

mod broken;
mod broken_flow;
mod good;
mod good_flow;
mod hostile;
mod outside;
mod schema;
mod source;

use super::*;

/// A file with 10 lines before `step`, which is put at the indentation of a step's fields.
fn with_step(step: &str) -> String {
    let step: String = step.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables: {{region: eu, token: {{secret: true}}}}\nsteps:\n  \
         - name: infra\n    image: pulumi:1\n    pulumi: {{operation: up}}\n  - name: one\n    image: tiny\n{step}"
    )
}

/// What is read out of a file that both the reader and the schema accept.
fn accepted(spec: &str) -> Project {
    let project = parse(spec).unwrap_or_else(|errors| panic!("{spec}\n{errors:#?}"));
    schema::accepts(spec);
    project
}

/// Lines, fields and a part of each message, in order.
type Expected<'a> = &'a [(usize, &'a str, &'a str)];

fn check(spec: &str, expected: Expected<'_>) {
    let errors = parse(spec).expect_err(spec);
    let places: Vec<(usize, &str)> = errors.iter().map(|e| (e.line, e.field.as_str())).collect();
    let expected_places: Vec<(usize, &str)> = expected.iter().map(|(line, field, _)| (*line, *field)).collect();
    assert_eq!(places, expected_places, "{spec}\n{errors:#?}");
    for (error, (.., part)) in errors.iter().zip(expected) {
        assert!(error.message.contains(part), "{part}\n{error:#?}\n{spec}");
    }
}

/// The spec of CONTRACT.md.
const CONTRACT: &str = r#"version: 1
project: shop
pool: default                      # optional
environments:
  - name: dev
  - name: production
    protected: true
variables:
  region: eu-west-1                # plain
  passphrase: {secret: true}       # its value is set on the server, never here
steps:
  - name: infra
    image: longshore/pulumi:3.259.0
    pulumi:
      operation: up                # preview | up | refresh | destroy
      stack: dev                   # default: the environment's name
      dir: infra                   # in the package, where Pulumi.yaml is; default: its root
      backend: file:///state
      install: false
    mounts: [state]                # names from the pool's list
    env:
      PULUMI_CONFIG_PASSPHRASE: ${{ secrets.passphrase }}
      REGION: ${{ vars.region }}
    timeout: 30m
  - name: smoke
    image: longshore/tiny:1
    run: |                         # sh -c in the image, or a list: exec form
      ./smoke.sh
    env: {URL: "${{ steps.infra.outputs.url }}"}
    network: none                  # none | longshore (default)
    profile: locked                # standard (default) | locked
    pull: always                   # if-not-present (default) | always
"#;

/// The spec of CONTRACT.md for releases, with the dots filled in.
const RELEASES: &str = r#"version: 1
project: shop
environments: [{name: dev}, {name: staging}, {name: production, protected: true}]   # protected: who deploys may not approve
lifecycle:                          # optional; without it any environment, any order
  - {phase: test, environments: [dev], mode: automatic}     # mode: manual (default) | automatic
  - {phase: stage, environments: [staging], require: 1}     # require: all (default) | a number | optional
  - {phase: live, environments: [production]}
variables:
  replicas: {value: 1, environments: {production: 6}}
  ticket: {prompt: "change ticket", required: true}         # deploy ... --var ticket=OPS-7
steps:
  - {name: go, approval: {teams: [ops], needs: 1, plan: infra, expires: 4h}}   # stands before what it guards
  - {name: infra, image: I, pulumi: {operation: up}}
  - name: both
    parallel:
      - {name: a, image: I, run: "..."}
      - {name: b, image: I, run: "..."}
  - {name: clean, image: I, run: "...", when: always()}      # success() (default) | failure() | always() | an expression
  - {name: flaky, image: I, run: "...", retries: {max: 3, backoff: 1s}}
  - {name: up, http: {url: "https://x", expect: {status: 200, body: "ok"}}, retries: {max: 20, backoff: 2s}}
"#;
