//! The text of a first `longshore.yaml`. Comments say what one would change.

use std::fmt::Write as _;

use longshore_core::expression::{OPEN, Template};
use longshore_core::spec;

use super::find::{Found, Program, Target};

/// The image that has Pulumi and its plugins.
const PULUMI_IMAGE: &str = "longshore/pulumi:3.259.0";
/// An image that has a shell.
const SHELL_IMAGE: &str = "busybox:1";
/// The secret that opens the secrets of a stack's configuration.
const PASSPHRASE: &str = "passphrase";
/// The secret that opens Pulumi Cloud.
const CLOUD_TOKEN: &str = "pulumi_token";
/// The variable that names the stack where environments are called differently.
const STACK: &str = "stack";

/// The file.
pub(super) fn render(found: &Found, image: Option<&str>) -> String {
    let mut text =
        String::from("# What is deployed, where to, in which steps. `longshore validate` checks this file.\n");
    let _never_fails = writeln!(text, "version: 1\nproject: {}\n\nenvironments:", found.project);
    for environment in &found.environments {
        let _never_fails = writeln!(text, "  - name: {}", environment.name);
    }
    text.push_str("    # protected: true         # who deploys there may not approve it\n\n");
    match &found.program {
        Some(program) => pulumi(&mut text, found, program, image.unwrap_or(PULUMI_IMAGE)),
        None => run(&mut text, image.unwrap_or(SHELL_IMAGE)),
    }
    text
}

/// Names of the secrets that the file asks for.
pub(super) fn secrets(found: &Found) -> Vec<&'static str> {
    match found.program.as_ref().map(backend) {
        Some(Backend::Cloud(_)) => vec![CLOUD_TOKEN],
        Some(_) => vec![PASSPHRASE],
        None => Vec::new(),
    }
}

fn run(text: &mut String, image: &str) {
    let _never_fails = write!(
        text,
        "\
variables:
  greeting: hello             # `longshore variable set` gives it another value on the server
  # password: {{secret: true}}  # its value is set on the server, never here

steps:
  # Each step is one container. It starts in the folder that `longshore deploy --package` uploads.
  - name: hello
    image: {}
    run: |
      echo \"$GREETING from $ENVIRONMENT\"
    # Values reach scripts through the environment, so that none of them can become a command.
    env:
      GREETING: ${{{{ vars.greeting }}}}
      ENVIRONMENT: ${{{{ environment }}}}
    network: none             # leave it out when the step has to reach something
    timeout: 10m
",
        quoted(image)
    );
}

fn pulumi(text: &mut String, found: &Found, program: &Program, image: &str) {
    let backend = backend(program);
    variables(text, found, &backend);
    text.push_str("steps:\n  # Shows in the log what the next step is about to do; changes nothing.\n");
    step(text, found, program, ("preview", "preview", "10m"), image, &backend);
    text.push('\n');
    step(text, found, program, ("infra", "up", "30m"), image, &backend);
}

fn variables(text: &mut String, found: &Found, backend: &Backend) {
    text.push_str("variables:\n");
    match backend {
        Backend::Cloud(_) => {
            let _never_fails =
                writeln!(text, "  # The access token for the backend. Its value is set on the server, never here.");
            let _never_fails = writeln!(text, "  {CLOUD_TOKEN}: {{secret: true}}");
        }
        _ => {
            let _never_fails = writeln!(
                text,
                "  # What the stacks' secrets are encrypted with. Its value is set on the server, never here."
            );
            let _never_fails = writeln!(text, "  {PASSPHRASE}: {{secret: true}}");
        }
    }
    if names_differ(found) {
        text.push_str("  # The stack of each environment, where their names differ.\n");
        let _never_fails = writeln!(text, "  {STACK}:\n    environments:");
        for Target { name, stack } in &found.environments {
            let _never_fails = writeln!(text, "      {name}: {}", quoted(stack));
        }
    }
    text.push('\n');
}

fn step(
    text: &mut String,
    found: &Found,
    program: &Program,
    (name, operation, timeout): (&str, &str, &str),
    image: &str,
    backend: &Backend,
) {
    let _never_fails = writeln!(text, "  - name: {name}");
    if !matches!(program.runtime.as_str(), "yaml") {
        let _never_fails = writeln!(
            text,
            "    # It needs the language host for {}: packaging/pulumi-image says how to make one.",
            word(&program.runtime)
        );
    }
    let _never_fails = writeln!(text, "    image: {}\n    pulumi:\n      operation: {operation}", quoted(image));
    if names_differ(found) {
        let _never_fails = writeln!(text, "      stack: ${{{{ vars.{STACK} }}}}");
    }
    if let Some(dir) = &program.dir {
        let _never_fails = writeln!(text, "      dir: {}", quoted(Template::literal(dir).source()));
    }
    if program.runtime != "yaml" {
        text.push_str("      install: true           # `pulumi install`: the program's packages\n");
    }
    backend.write(text);
    let secret = match backend {
        Backend::Cloud(_) => ("PULUMI_ACCESS_TOKEN", CLOUD_TOKEN),
        _ => ("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE),
    };
    let _never_fails = writeln!(text, "    env:\n      {}: ${{{{ secrets.{} }}}}", secret.0, secret.1);
    let _never_fails = writeln!(text, "    timeout: {timeout}");
}

/// Where the state is.
enum Backend {
    /// On the mount of the pool.
    Mount {
        /// What `Pulumi.yaml` says instead, and what could not be kept.
        instead_of: Option<String>,
    },
    /// Pulumi Cloud, or a server like it.
    Cloud(String),
    /// A bucket.
    Bucket(String),
    /// Something that the file must not name.
    Unsaid,
}

fn backend(program: &Program) -> Backend {
    match &program.backend {
        None => Backend::Mount { instead_of: None },
        Some(url) if spec::check_backend(url).is_err() || url.contains(OPEN) => Backend::Unsaid,
        Some(url) if url.starts_with("file:") => Backend::Mount { instead_of: Some(url.clone()) },
        Some(url) if url.starts_with("https:") || url.starts_with("http:") => Backend::Cloud(url.clone()),
        Some(url) => Backend::Bucket(url.clone()),
    }
}

impl Backend {
    fn write(&self, text: &mut String) {
        match self {
            Self::Mount { instead_of } => {
                if let Some(url) = instead_of {
                    let _never_fails = writeln!(
                        text,
                        "      # Pulumi.yaml says {}, which would be gone with the container.",
                        word(url)
                    );
                }
                text.push_str("      backend: file:///state  # on the mount below; or `s3://bucket`, `https://api.pulumi.com`\n    mounts: [state]\n");
            }
            Self::Cloud(url) | Self::Bucket(url) => {
                let _never_fails = writeln!(text, "      backend: {}", quoted(url));
            }
            Self::Unsaid => text.push_str("      # backend: URL           # that of Pulumi.yaml is used\n"),
        }
    }
}

fn names_differ(found: &Found) -> bool {
    found.environments.iter().any(|one| one.name != one.stack)
}

/// A YAML scalar that stands for exactly this text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain) && !text.ends_with(':') {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

/// A text of the user's for a comment: one line, and no longer than helps.
fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect()
}
