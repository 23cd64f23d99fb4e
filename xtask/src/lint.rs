//! What is checked without running anything.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::sh;

/// Longest file before its tests, in lines.
const LONGEST: usize = 600;
/// Longest `main.rs`, in lines.
const LONGEST_MAIN: usize = 120;

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    sh::show(sh::command("cargo", &["fmt", "--all", "--check"]))?;
    sizes()?;
    directions()?;
    sh::show(sh::command(
        "cargo",
        &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    ))?;
    let mut doc = sh::command("cargo", &["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    sh::show(doc)?;
    if sh::succeeds("cargo", &["deny", "--version"]) {
        // The advisory database comes over the network, so it is a command of its own: `cargo deny check advisories`.
        sh::show(sh::command("cargo", &["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    } else {
        println!(
            "cargo-deny is not installed; `cargo install cargo-deny --locked` adds the check of licences and sources"
        );
    }
    Ok(())
}

/// Files stay small enough to read.
fn sizes() -> anyhow::Result<()> {
    let mut long = Vec::new();
    for file in rust_files()? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("`{}` cannot be read", file.display()))?;
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let limit = if file.ends_with("main.rs") { LONGEST_MAIN } else { LONGEST };
        if lines > limit {
            long.push(format!("{}: {lines} lines before its tests, at most {limit}", file.display()));
        }
    }
    if !long.is_empty() {
        bail!("too long:\n{}", long.join("\n"));
    }
    Ok(())
}

fn rust_files() -> anyhow::Result<Vec<PathBuf>> {
    let list = sh::output(sh::command("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]))?;
    let of_interest = |path: &&str| !path.contains("/tests/") && sh::root().join(path).exists();
    Ok(list.lines().filter(of_interest).map(|path| sh::root().join(path)).collect())
}

/// Dependencies point one way, and core stays free of I/O.
fn directions() -> anyhow::Result<()> {
    let ours: [(&str, &[&str]); 9] = [
        ("core", &[]),
        ("proto", &["longshore-core"]),
        ("logging", &[]),
        ("cloud", &["longshore-core"]),
        ("agent/init", &["longshore-core"]),
        ("agent", &["longshore-cloud", "longshore-core", "longshore-logging", "longshore-proto"]),
        ("source", &["longshore-core"]),
        (
            "controller",
            &["longshore-cloud", "longshore-core", "longshore-logging", "longshore-proto", "longshore-source"],
        ),
        ("cli", &["longshore-core", "longshore-source"]),
    ];
    for (folder, allowed) in ours {
        for name in dependencies(&sh::root().join(folder).join("Cargo.toml"))? {
            if name.starts_with("longshore") && !allowed.contains(&name.as_str()) {
                bail!("`{folder}` depends on `{name}`; it may use {allowed:?}");
            }
            if folder == "core" && ["tokio", "tonic", "rusqlite", "bollard", "reqwest"].contains(&name.as_str()) {
                bail!("`core` does no I/O, and depends on `{name}`");
            }
        }
    }
    Ok(())
}

/// Names under `[dependencies]` of a manifest.
fn dependencies(manifest: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("`{}` cannot be read", manifest.display()))?;
    let section = text
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().trim().to_owned();
    Ok(section.map(name).filter(|name| !name.is_empty() && !name.starts_with('#')).collect())
}
