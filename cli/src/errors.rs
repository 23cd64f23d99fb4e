//! `longshore errors`: the pages of `docs/errors`, carried along so that they are there without a network.
//!
//! The words are those of [`longshore_core::problem::CODES`]; one without a page does not compile.

use serde_json::json;

use crate::args::Errors;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;

macro_rules! pages {
    ($($code:literal),*) => {
        /// Each word with its page, sorted by word.
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../../docs/errors/", $code, ".md")))),*];
    };
}
longshore_core::problem_codes!(pages);

/// The page of a word, Markdown.
#[must_use]
pub fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

/// Runs the command.
///
/// # Errors
/// When there is no such word.
pub fn run(context: &Context, args: &Errors) -> Result<Exit, Failure> {
    let output = context.output;
    let Some(code) = &args.code else {
        if output.is_json() {
            output.json(&PAGES.iter().map(|(code, page)| json!({ "code": code, "means": means(page) })).collect())?;
        } else {
            let wide = PAGES.iter().map(|(code, _)| code.len()).max().unwrap_or_default();
            let lines: Vec<_> = PAGES.iter().map(|(code, page)| format!("{code:wide$}  {}", means(page))).collect();
            output.text(&lines.join("\n"))?;
        }
        return Ok(Exit::Done);
    };
    let page = page(code)
        .ok_or_else(|| Failure::usage(format!("there is no error `{code}`")).next("`longshore errors` lists them"))?;
    if output.is_json() {
        output.json(&json!({ "code": code, "page": page }))?;
    } else {
        output.text(page.trim_end())?;
    }
    Ok(Exit::Done)
}

/// The first sentence of what it means.
fn means(page: &str) -> String {
    let part = page.split_once("## What it means\n\n").map_or("", |(_, rest)| rest);
    let line = part.lines().next().unwrap_or_default();
    line.split_once(". ").map_or_else(|| line.to_owned(), |(first, _)| format!("{first}."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_has_a_whole_page_and_every_page_a_word() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let pages: BTreeSet<String> = PAGES.iter().map(|(code, _)| format!("{code}.md")).collect();
        assert_eq!(files, pages);
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# `{code}`\n")), "{code}");
            for part in ["What it means", "What was left untouched", "What to do", "Example"] {
                let rest = page.split_once(&format!("\n## {part}\n\n")).unwrap_or_else(|| panic!("{code}: {part}")).1;
                assert!(!rest.trim_start().is_empty() && !rest.starts_with('#'), "{code}: {part}");
            }
            assert!(means(page).ends_with('.'), "{code}: {}", means(page));
        }
    }
}
