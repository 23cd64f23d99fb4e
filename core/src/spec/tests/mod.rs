//! The spec as users type it: what is accepted, what is refused and where, and what must not break the reader.

mod broken;
mod good;
mod hostile;

use super::*;

/// A file with 10 lines before `step`, which is put at the indentation of a step's fields.
fn with_step(step: &str) -> String {
    let step: String = step.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables: {{region: eu, token: {{secret: true}}}}\nsteps:\n  \
         - name: infra\n    image: pulumi:1\n    pulumi: {{operation: up}}\n  - name: one\n    image: tiny\n{step}"
    )
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
"#;
