//! `cargo xtask`: the one list of commands of this repository.
//!
//! Each command says what it does before it does it, names what it installs or downloads first, and leaves the checkout clean.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line tool talks to its user, and measures time"
)]

mod alerts;
mod bench;
mod build;
mod compat;
mod demo;
mod dev;
mod docker;
mod lint;
mod package;
mod pulumi_image;
mod sh;
mod sim;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  demo [--keep]              shows a first deployment, from nothing, with real Docker and real Pulumi
  test                       builds what is needed and runs every test
  lint                       format, clippy, docs, file sizes, dependency direction, cargo-deny where installed
  ci                         lint, then test, then compat
  compat [--rev COMMIT]      the last release's agent with this controller and the other way round, a deployment each
  bench [NAME...] [--json FILE] [--runs N]
                             the figures of bench/, as ratios against the floor in the same run
  sim scaling [--sweep]      waits and machine-hours of the scaler's decision, against a fixed fleet and plain target tracking
  alerts                     alert rules and the Grafana board, with Prometheus' own tool
  package [--out DIR] [--package-version VERSION] [--profile PROFILE] [--twice]
                             .deb and .rpm of controller, agent and CLI, with SBOMs and SHA256SUMS; --twice compares two builds
  images [--packages DIR]    longshore-controller and longshore-agent from the .debs that `package` made, as images of the engine
  pulumi-image [--force]     makes longshore/pulumi:<CLI version> from package registries
  docker                     makes sure that a Docker engine answers
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(command, rest) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Err(err) => {
            eprintln!("xtask {command}: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; `false` when it or its flags are not known.
fn run(command: &str, rest: &[String]) -> anyhow::Result<bool> {
    let flag = |name: &str| rest.iter().any(|arg| arg == name);
    let only = |known: &[&str]| rest.iter().all(|arg| known.contains(&arg.as_str()));
    match command {
        "demo" if only(&["--keep"]) => demo::run(flag("--keep"))?,
        "test" if rest.is_empty() => test::run()?,
        "lint" if rest.is_empty() => lint::run()?,
        "ci" if rest.is_empty() => {
            lint::run()?;
            test::run()?;
            compat::run(None)?;
        }
        "compat" => match compat::parse(rest) {
            Some(rev) => compat::run(rev)?,
            None => return Ok(false),
        },
        "bench" => return bench::run(rest),
        "alerts" if rest.is_empty() => alerts::run()?,
        "sim" => return Ok(sim::run(rest)),
        "package" => match package::Options::parse(rest) {
            Some(options) => package::run(&options)?,
            None => return Ok(false),
        },
        "images" => match pulumi_image::packaged::parse(rest) {
            Some(packages) => pulumi_image::packaged::run(packages)?,
            None => return Ok(false),
        },
        "pulumi-image" if only(&["--force"]) => {
            docker::ensure()?;
            let image = pulumi_image::run(pulumi_image::Options { force: flag("--force") })?;
            println!("{} is ready ({:.0} s)", image.reference, image.seconds);
        }
        "docker" if rest.is_empty() => println!("Docker {} answers", docker::ensure()?.version),
        _ => return Ok(false),
    }
    Ok(true)
}
