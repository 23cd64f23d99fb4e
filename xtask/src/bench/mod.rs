//! The figures of `bench/`: each against a floor or a peer that is measured in the same run, turn about.
//!
//! Seconds on a busy machine mean little; a ratio of two medians that were taken in turn does.

mod agent;
mod deploy;
mod figure;
mod fleet;
mod plugins;
mod queue;
mod scale;
mod serve;

use std::io::Write as _;

use anyhow::{Context as _, bail};

use crate::dev::Dev;
use crate::{build, docker};
use figure::Figure;

/// Samples of each figure when `--runs` does not say.
const RUNS: usize = 10;

type Measure = fn(&Bench) -> anyhow::Result<Figure>;

/// Every figure by its name.
const FIGURES: [(&str, Measure); 19] = [
    ("job_wall", deploy::job_wall),
    ("first_log_byte", deploy::first_log_byte),
    ("log_throughput", deploy::log_throughput),
    ("deploy_to_agent_ms", deploy::deploy_to_agent),
    ("steps_10", deploy::steps_10),
    ("steps_100", deploy::steps_100),
    ("scale_deploy", scale::deploy),
    ("scale_explain", scale::explain),
    ("scale_list", scale::list),
    ("idle_agents", fleet::idle),
    ("reconnect_storm", fleet::storm),
    ("dispatch_rate", fleet::dispatch),
    ("pickup_ms", fleet::pickup),
    ("queue_growth", queue::growth),
    ("baked_plugins", plugins::baked),
    ("agent_rss_mib", agent::rss),
    ("agent_rss_8_mib", agent::rss_with_jobs),
    ("agent_binary_mib", agent::binary),
    ("agent_idle_cpu_percent", agent::idle_cpu),
];

/// What every measurement works on.
struct Bench {
    dev: Dev,
    binaries: std::path::PathBuf,
    runs: usize,
}

/// Measures the figures that are named, or all; `false` when an argument is not known.
pub(crate) fn run(args: &[String]) -> anyhow::Result<bool> {
    let Some(options) = Options::parse(args)? else {
        return Ok(false);
    };
    println!("Docker {} answers", docker::ensure()?.version);
    deploy::tiny_image()?;
    let binaries = build::binaries("release")?;
    let data = std::env::temp_dir().join(format!("longshore-bench-{}", std::process::id()));
    let bench = Bench { dev: Dev::start(&binaries, &data)?, binaries, runs: options.runs };
    let mut out = options.json.map(std::fs::File::create).transpose().context("the JSON file cannot be written")?;
    println!("{:<24} {:>10} {:>10} {:>7}  against", "figure", "ours", "reference", "ratio");
    for (name, measure) in FIGURES {
        if !options.names.is_empty() && !options.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let figure = measure(&bench).with_context(|| format!("figure `{name}`"))?;
        println!("{figure}");
        if let Some(out) = &mut out {
            writeln!(out, "{}", figure.json())?;
        }
    }
    Ok(true)
}

struct Options {
    names: Vec<String>,
    json: Option<String>,
    runs: usize,
}

impl Options {
    fn parse(args: &[String]) -> anyhow::Result<Option<Self>> {
        let mut options = Self { names: Vec::new(), json: None, runs: RUNS };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => {
                    options.json = Some(args.next().context("`--json` needs a file")?.clone());
                }
                "--runs" => {
                    options.runs =
                        args.next().context("`--runs` needs a number")?.parse().context("`--runs` needs a number")?;
                }
                name if FIGURES.iter().any(|(known, _)| *known == name) => {
                    options.names.push(name.to_owned());
                }
                other if other.starts_with('-') => return Ok(None),
                other => bail!("no figure is called `{other}`; there are {}", FIGURES.map(|(name, _)| name).join(", ")),
            }
        }
        Ok(Some(options))
    }
}
