//! The manual, typed: every command of `docs/manual` in order, in one shell, with what comes compared to what is written.
//!
//! A line that begins with `$ ` is a command, `> ` goes on with it, and `# exit code N` at its end says how it ends. What follows has to
//! come in that order, other lines may stand between; `...` stands for anything.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use longshore_tests::dev::{binaries, checkout};
use longshore_tests::docker;
use longshore_tests::process::run;

struct Typed {
    place: String,
    text: String,
    code: i32,
    expected: Vec<String>,
}

fn pages() -> Vec<PathBuf> {
    let folder = checkout().join("docs/manual");
    let mut pages: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    pages.sort();
    pages
}

fn commands() -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&page).unwrap();
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            if let Some(kind) = line.strip_prefix("```") {
                inside = !inside && kind == "console";
            } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
                let (text, code) = command.split_once("   # exit code ").unwrap_or((command, "0"));
                let place = format!("{name}:{}", number + 1);
                let code = code.parse().unwrap_or_else(|_| panic!("{place}: `{code}` is no exit code"));
                commands.push(Typed { place, text: text.to_owned(), code, expected: Vec::new() });
            } else if inside {
                let last = commands.last_mut().unwrap();
                match line.strip_prefix("> ") {
                    Some(more) => write!(last.text, "\n{more}").unwrap(),
                    None => last.expected.push(line.to_owned()),
                }
            }
        }
    }
    commands
}

/// One script that types everything, keeps what comes in `out/N`, and stops at the first wrong exit code.
fn script(commands: &[Typed]) -> String {
    // Jobs are controlled as in a terminal, so that `%1` names one; what is left of them ends with the script.
    let mut script = "set -m\nout=$PWD/out\nmkdir $out\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    for (number, command) in commands.iter().enumerate() {
        let Typed { text, code, .. } = command;
        write!(
            script,
            "{{ {text}\n}} > $out/{number} 2>&1\ncode=$?\n[ $code = {code} ] || {{ echo {number} $code; exit 1; }}\n"
        )
        .unwrap();
    }
    script
}

fn matches(line: &str, pattern: &str) -> bool {
    // Columns are as wide as what stands in them.
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, pattern) = (squeeze(line), squeeze(pattern));
    let parts: Vec<&str> = pattern.split("...").collect();
    let mut rest = line.as_str();
    for (index, part) in parts.iter().enumerate() {
        let part = part.trim();
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    pattern.ends_with("...") || rest.is_empty() || parts.len() > 1 && rest.trim().is_empty()
}

#[test]
fn every_command_of_the_manual_does_what_it_says() {
    docker::tiny_image();
    let commands = commands();
    assert!(commands.len() > 70 && pages().len() == 6, "{} commands", commands.len());
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", binaries().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=20", "900", "bash", "-c", &script(&commands)]).current_dir(dir.path()).env("PATH", path);
    shell.process_group(0);
    for name in ["LONGSHORE_URL", "LONGSHORE_TOKEN"] {
        shell.env_remove(name);
    }
    let done = run(&mut shell, b"");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let came = |number: usize| read(&format!("out/{number}"));
    let agents: String = (0..commands.len()).map(came).collect::<String>().replace(char::is_whitespace, "\"");
    docker::remove_leftovers(&docker::agent_ids(&agents));
    if done.code != 0 {
        let number = done.text().split_whitespace().next().and_then(|number| number.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("the shell ended: {} {}", done.text(), done.stderr));
        let Typed { place, text, code, .. } = &commands[number];
        panic!(
            "{place}: `{text}` was to end with {code}: {}\n{}\n--- dev.log:\n{}",
            done.text(),
            came(number),
            read("dev.log")
        );
    }
    for (number, Typed { place, text, expected, .. }) in commands.iter().enumerate() {
        let output = came(number);
        let mut lines = output.lines();
        for pattern in expected {
            assert!(lines.any(|line| matches(line, pattern)), "{place}: `{text}`: no `{pattern}` in\n{output}");
        }
    }
}

#[test]
fn patterns_match_what_they_say() {
    for (line, pattern, is) in [
        ("one", "one", true),
        ("one two", "one", false),
        ("one   two", "one two", true),
        ("dep_12  shop  live", "dep_... shop ...", true),
        ("dep_12  other  live", "dep_... shop ...", false),
        ("x failed y", "... failed ...", true),
        ("x ended", "... failed ...", false),
        ("one!", "one", false),
    ] {
        assert_eq!(matches(line, pattern), is, "{line} / {pattern}");
    }
}
