//! The words of refusals: those in the sources are those in the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use longshore_core::problem::CODES;

/// What makes a refusal, and which of its arguments is the word.
const MAKERS: [(&str, usize); 4] =
    [("Problem::new(", 1), ("Self::new(", 1), ("Error::conflict(", 0), ("Error::refused(", 0)];
/// Words that come from elsewhere: from a tuple of the same file, or from the rules of the gate.
const FROM_ELSEWHERE: [&str; 2] = ["code", "denied.rule()"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The argument at `index` behind an opening parenthesis; those before it hold no comma.
fn argument(text: &str, index: usize) -> String {
    let text: String = text.chars().take(400).collect();
    text.split(',').nth(index).unwrap_or_default().trim().to_owned()
}

fn literal(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

#[test]
fn every_word_in_the_sources_is_in_the_list_and_the_other_way_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join("api"), &mut files);
    sources(&root.join("engine"), &mut files);
    let mut used = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for (maker, index) in MAKERS {
            if maker == "Self::new(" && !path.ends_with("api/problem.rs") {
                continue;
            }
            for (at, _) in text.match_indices(maker) {
                let word = argument(text.get(at + maker.len()..).unwrap_or_default(), index);
                match literal(&word) {
                    Some(word) => drop(used.insert(word.to_owned())),
                    None => assert!(
                        FROM_ELSEWHERE.iter().any(|known| word.starts_with(known)),
                        "{}: `{word}` is no literal: write one, or teach this test where its words stand",
                        path.display()
                    ),
                }
            }
        }
        // Words that are chosen first stand in tuples, at the head: `("own_deployment", ...)`.
        if text.contains("let (code, ") {
            let heads = text.match_indices("(\"").map(|(at, _)| at + 1);
            let broken = text.match_indices("(\n").map(|(at, _)| at + 1);
            for at in heads.chain(broken) {
                let word = literal(text.get(at..).unwrap_or_default().trim_start()).unwrap_or_default();
                if CODES.contains(&word) {
                    used.insert(word.to_owned());
                }
            }
        }
    }
    // The words of core: of the gate, and of channels.
    used.extend(["channel_ambiguous", "channel_refuses", "no_channel"].map(str::to_owned));
    used.extend(
        ["release_blocked", "lifecycle", "local_phase", "local_protected", "schedule", "expired"].map(str::to_owned),
    );
    let known: BTreeSet<String> = CODES.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(used, known, "words in the sources, and in core/src/problem.rs");
}
