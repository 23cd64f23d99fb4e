//! The last release and this checkout together: its agent with today's controller, and today's agent with its controller.
//!
//! The binaries of a release are built from its tag, in a worktree and a target folder of their own below `target/compat`, once.
//! Each pair enrols an agent and runs a deployment. A controller that is older than its agent may refuse it instead, in the words
//! that say what to upgrade first; then the agent's token is still good for an agent of the right version.

mod pair;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{build, docker, pulumi_image, sh};
use pair::{End, Pair};

/// Reads the flags; `None` when one is not known or lacks its value.
pub(crate) fn parse(args: &[String]) -> Option<Option<String>> {
    match args {
        [] => Some(None),
        [flag, rev] if flag == "--rev" => Some(Some(rev.clone())),
        _ => None,
    }
}

/// Runs both pairs with a commit, or with the last tag; says so when there is none.
pub(crate) fn run(rev: Option<String>) -> anyhow::Result<()> {
    let Some(rev) = rev.or_else(last_tag) else {
        let shallow = sh::output(sh::command("git", &["rev-parse", "--is-shallow-repository"])).unwrap_or_default();
        let why = if shallow.trim() == "true" { "; this clone is shallow, so there may be one elsewhere" } else { "" };
        println!("no release yet: there is no tag `v*` here{why}, and so nothing to be compatible with");
        return Ok(());
    };
    println!("Docker {} answers", docker::ensure()?.version);
    let image = pulumi_image::run(pulumi_image::Options::default())?.reference;
    let today = build::binaries("release")?;
    let then = binaries(&rev)?;
    // The command line goes with the controller, whose API it speaks.
    let run = |what: &str, controller: &Path, agent: &Path| -> anyhow::Result<End> {
        println!("{what}:");
        let end =
            Pair { controller, agent, image: &image }.run().with_context(|| format!("{what} do not work together"))?;
        println!("  {end}");
        Ok(end)
    };
    if let End::Refused(words) = run(&format!("the agent of {rev} and the controller of this checkout"), &today, &then)?
    {
        bail!("today's controller refuses the agent of {rev}, which has to keep working: {words}");
    }
    run(&format!("the agent of this checkout and the controller of {rev}"), &then, &today).map(drop)
}

/// The newest tag of a release that this checkout comes from.
fn last_tag() -> Option<String> {
    let tag = sh::output(sh::command("git", &["describe", "--tags", "--abbrev=0", "--match", "v*"])).ok()?;
    Some(tag.trim().to_owned())
}

/// The binaries of a commit; built when they are not there.
fn binaries(rev: &str) -> anyhow::Result<PathBuf> {
    let spec = format!("{rev}^{{commit}}");
    let commit = sh::output(sh::command("git", &["rev-parse", "--verify", &spec]))
        .with_context(|| format!("`{rev}` is no commit of this clone"))?;
    let folder = build::target().join("compat");
    let done = folder.join(commit.trim());
    if done.exists() {
        return Ok(done);
    }
    let source = folder.join("source");
    let text = source.to_string_lossy().into_owned();
    let remove = || sh::succeeds("git", &["worktree", "remove", "--force", &text]);
    // What a run that was broken off has left, also one of another clone with the same target folder.
    remove();
    if source.exists() {
        fs::remove_dir_all(&source).with_context(|| format!("`{}` cannot be removed", source.display()))?;
    }
    sh::output(sh::command("git", &["worktree", "add", "--force", "--detach", &text, commit.trim()]))?;
    let built = build_there(&source, &folder.join("target"));
    remove();
    let built = built.with_context(|| format!("{rev} cannot be built"))?;
    let half = folder.join("half");
    fs::create_dir_all(&half)?;
    for name in build::BINARIES {
        fs::copy(built.join(name), half.join(name)).with_context(|| format!("{rev} has no `{name}`"))?;
    }
    fs::rename(&half, &done).with_context(|| format!("`{}` cannot be made", done.display()))?;
    Ok(done)
}

fn build_there(source: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = sh::command("cargo", &["build", "--locked", "--release"]);
    cargo.args(build::BINARIES.iter().flat_map(|name| ["--package", name]));
    cargo.current_dir(source).env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0");
    sh::show(cargo)?;
    Ok(target.join("release"))
}
