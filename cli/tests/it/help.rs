//! What `--help` says, as golden files. After a change that is meant: `LONGSHORE_UPDATE_GOLDEN=1 cargo test -p longshore help_is`.

use std::path::Path;

use clap::CommandFactory as _;

#[test]
fn help_is_as_in_the_golden_files() {
    let mut root = longshore_cli::args::Cli::command();
    root.build();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let update = std::env::var_os("LONGSHORE_UPDATE_GOLDEN").is_some();
    let mut names = Vec::new();
    check(&mut root, "longshore", &folder, update, &mut names);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "a golden file for each command, and none besides");
}

fn check(command: &mut clap::Command, name: &str, folder: &Path, update: bool, names: &mut Vec<String>) {
    let file = folder.join(format!("{}.txt", name.replace(' ', "-")));
    let text = command.render_long_help().to_string();
    // Lines without spaces at their end, whatever the renderer does.
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if update {
        std::fs::write(&file, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, golden, "{}", file.display());
    names.push(file.file_name().unwrap().to_str().unwrap().to_owned());
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        let inner_name = format!("{name} {}", inner.get_name());
        check(inner, &inner_name, folder, update, names);
    }
}
