//! What the controller reads of a Pulumi program: its name and its backend, out of `Pulumi.yaml`.

use granit_parser::{Event, Parser};

/// Largest `Pulumi.yaml` that is read.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// File names that Pulumi knows, in its order.
pub(super) const FILES: [&str; 2] = ["Pulumi.yaml", "Pulumi.yml"];

/// A program by its own account.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Name of the Pulumi project.
    pub(super) name: String,
    /// URL of its backend, when it names one.
    pub(super) backend: Option<String>,
}

impl Program {
    /// Reads the file; an error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut program = Self::default();
        // Names of the mappings that are open, `None` for a list; and the name that waits for its value.
        let mut open: Vec<Option<String>> = Vec::new();
        let mut key: Option<String> = None;
        let options = granit_parser::options! { flow_nesting_limit: 32, block_nesting_limit: 32 };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, _) =
                next.map_err(|error| format!("line {} is not YAML: {}", error.marker().line(), error.info()))?;
            match event {
                Event::Scalar(text, ..) => match (open.last(), key.take()) {
                    (Some(Some(_)), None) => key = Some(text.into_owned()),
                    (Some(Some(parent)), Some(name)) => program.value(open.len(), parent, &name, &text),
                    _ => {}
                },
                Event::MappingStart(..) => open.push(Some(key.take().unwrap_or_default())),
                Event::SequenceStart(..) => {
                    key = None;
                    open.push(None);
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                }
                Event::Alias(_) => key = None,
                _ => {}
            }
        }
        if program.name.is_empty() {
            return Err("it has no `name`".to_owned());
        }
        Ok(program)
    }

    fn value(&mut self, depth: usize, parent: &str, name: &str, text: &str) {
        match (depth, parent, name) {
            (1, _, "name") => text.clone_into(&mut self.name),
            (2, "backend", "url") if !text.is_empty() => self.backend = Some(text.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_backend_are_read_and_nothing_else() {
        let text = "# a program\nruntime: {name: yaml, options: [a, {name: b}]}\nbackend:\n  url: s3://bucket # there\nname: 'shop'\n\
                    config:\n  x:\n    name: no\n    url: no\n  list:\n    - name: no\n";
        assert_eq!(
            Program::parse(text.as_bytes()),
            Ok(Program { name: "shop".to_owned(), backend: Some("s3://bucket".to_owned()) })
        );
        assert_eq!(
            Program::parse(b"name: a\nruntime: yaml\n").unwrap(),
            Program { name: "a".to_owned(), backend: None }
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for (bad, why) in [(&b"runtime: yaml\n"[..], "name"), (b"name: [", "YAML"), (b"\xff", "UTF-8"), (b"", "name")] {
            let error = Program::parse(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
