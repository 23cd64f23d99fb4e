//! Builds `longshore-init`, which the agent carries inside and mounts into every container as PID 1.
//!
//! It is another program than the agent (static, small, without the agent's dependencies), so a second
//! cargo builds it, in a target directory of its own below `OUT_DIR`. `LONGSHORE_INIT` tells the agent's
//! source where the result is, compressed: `include_bytes!(env!("LONGSHORE_INIT"))`; `LONGSHORE_INIT_SHA256` is the SHA-256
//! of what comes out of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// No dynamic libraries, no position independence (its relocations would be a twentieth of the file) and no tables for
/// unwinding (panics abort).
const FLAGS: [&str; 3] = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Cforce-unwind-tables=no"];
/// Largest size in bytes: what every container maps.
const MOST: u64 = 1_600_000;

fn main() {
    if let Err(error) = build().and_then(|program| pack(&program)) {
        println!("cargo::error={}", error.replace('\n', "\ncargo::error="));
    }
}

fn build() -> Result<PathBuf, String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for source in [
        "agent/build.rs",
        "agent/init/src",
        "agent/init/Cargo.toml",
        "core/src",
        "core/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let target = variable("TARGET")?;
    let directory = PathBuf::from(variable("OUT_DIR")?).join("init");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--package", "longshore-init", "--profile", "init", "--target", &target, "--target-dir"]);
    cargo.arg(&directory).arg("--manifest-path").arg(root.join("Cargo.toml"));
    if root.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    // What the outer cargo tells its compilers is not meant for this build.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
    ] {
        cargo.env_remove(name);
    }
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    // Where sources lie on this machine is nothing that a program has to know.
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let done = cargo.output().map_err(|error| format!("cannot run cargo for longshore-init: {error}"))?;
    if !done.status.success() {
        return Err(explain(&String::from_utf8_lossy(&done.stderr), &target));
    }
    let program = directory.join(&target).join("init/longshore-init");
    check(&program)?;
    Ok(program)
}

/// Compresses it and tells the agent's source of it.
fn pack(program: &Path) -> Result<(), String> {
    let packed = PathBuf::from(variable("OUT_DIR")?).join("init.gz");
    let failed = |error: std::io::Error| format!("cannot compress longshore-init: {error}");
    let bytes = std::fs::read(program).map_err(failed)?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes).map_err(failed)?;
    std::fs::write(&packed, encoder.finish().map_err(failed)?).map_err(failed)?;
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=LONGSHORE_INIT={}", packed.display());
    println!("cargo::rustc-env=LONGSHORE_INIT_SHA256={sha256}");
    Ok(())
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    folder("CARGO_HOME").or_else(|| Some(folder("HOME")?.join(".cargo")))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("`{name}` from cargo: {error}"))
}

fn explain(log: &str, target: &str) -> String {
    let hint = if log.contains("-lc") || log.contains("libc.a") || log.contains("crt1.o") {
        format!(
            "\nthe static C library for {target} is missing: install it (`apt-get install libc6-dev` on Debian and Ubuntu, \
             `dnf install glibc-static` on Fedora and its kin)"
        )
    } else {
        String::new()
    };
    format!("longshore-init could not be built:\n{}{hint}", log.trim_end())
}

/// A program that needs a dynamic loader would run in some images only.
fn check(program: &Path) -> Result<(), String> {
    let bytes = std::fs::read(program).map_err(|error| format!("cannot read `{}`: {error}", program.display()))?;
    if bytes.len() as u64 > MOST {
        return Err(format!("longshore-init has {} bytes, more than {MOST}", bytes.len()));
    }
    if interpreted(&bytes).unwrap_or(true) {
        return Err(format!("`{}` is not a static program", program.display()));
    }
    Ok(())
}

/// Whether a 64-bit little-endian ELF file names a loader (a program header of type `PT_INTERP`, 3). `None`: it is no such file.
fn interpreted(elf: &[u8]) -> Option<bool> {
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let headers = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let (size, count) = (half(54)?, half(56)?);
    for index in 0..count {
        if word(headers + index * size)? == 3 {
            return Some(true);
        }
    }
    (elf.starts_with(b"\x7fELF\x02\x01") && count > 0).then_some(false)
}
