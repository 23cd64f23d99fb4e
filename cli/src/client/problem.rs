//! What the server says when it refuses: problem documents (RFC 9457), and what to make of answers that are none.

use serde::Deserialize;

/// A problem document. Everything may be missing: proxies in between answer in their own way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// HTTP status; filled in from the response.
    pub status: u16,
    /// Stable word for scripts, such as `stack_locked`.
    pub code: String,
    /// Short summary of the kind of problem.
    pub title: String,
    /// What is wrong in this case.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The page that explains the code.
    pub help: Option<String>,
    /// Mistakes in a spec, when the problem is a bad spec.
    pub errors: Vec<longshore_core::spec::SpecError>,
}

/// Code of the problem that says the spec is bad.
const BAD_SPEC: &str = "bad_spec";

impl Problem {
    /// Reads the body of an answer that is no success.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
            Self { detail: text, ..Self::default() }
        });
        problem.status = status;
        problem
    }

    /// Whether the server found the spec bad.
    #[must_use]
    pub fn is_bad_spec(&self) -> bool {
        self.code == BAD_SPEC || !self.errors.is_empty()
    }

    /// How to read more about it: the page that this program carries, else the one that the server names.
    #[must_use]
    pub fn more(&self) -> Option<String> {
        let help = self.help.as_ref()?;
        Some(if crate::errors::page(&self.code).is_some() {
            format!("longshore errors {}", self.code)
        } else {
            help.clone()
        })
    }

    /// One sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match [&self.detail, &self.title].into_iter().find(|text| !text.is_empty()) {
            Some(text) => text.clone(),
            None => format!("the server answered with status {}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_is_what_people_read() {
        let problem = Problem::read(409, br#"{"type":"about:blank","title":"Conflict","status":409,"code":"ended","detail":"deployment `dep_1` has ended","hint":null}"#);
        assert_eq!((problem.status, problem.sentence().as_str()), (409, "deployment `dep_1` has ended"));
        assert_eq!(problem.more(), None);
        let more = |code: &str| {
            Problem { code: code.to_owned(), help: Some("docs/x.md".to_owned()), ..problem.clone() }.more()
        };
        assert_eq!(
            (more("ended").unwrap().as_str(), more("new").unwrap().as_str()),
            ("longshore errors ended", "docs/x.md")
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_shown_as_it_is() {
        assert_eq!(Problem::read(502, b"<h1>Bad Gateway</h1>\n").sentence(), "<h1>Bad Gateway</h1>");
        assert_eq!(Problem::read(500, b"").sentence(), "the server answered with status 500");
    }
}
