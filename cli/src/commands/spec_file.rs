//! Reading a spec and showing what is wrong with it.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use longshore_core::spec::{self, Project, SpecError};

use crate::failure::Failure;
use crate::output::paint::Paint;

/// A spec as it was read, with what to call it in messages.
#[derive(Debug)]
pub(super) struct SpecFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl SpecFile {
    /// Reads a file, or standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        // One byte more than is allowed, so that the parser says that it is too long.
        let limit = u64::try_from(spec::MAX_BYTES).unwrap_or(u64::MAX) + 1;
        let mut bytes = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
            return Ok(Self { name: "standard input".to_owned(), bytes });
        }
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            Failure::usage(format!("the spec `{name}` cannot be read: {error}"))
                .next("name the file that holds the project")
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Self { name, bytes })
    }

    pub(super) fn check(&self) -> Result<Project, Vec<SpecError>> {
        spec::parse_bytes(&self.bytes)
    }

    /// Each mistake as `file:line: field: message`, with the line it stands in.
    pub(super) fn explain(&self, errors: &[SpecError], paint: Paint) -> String {
        let source = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = source.lines().collect();
        let mut text = String::new();
        for error in errors {
            let field = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
            let place = paint.bold(&format!("{}:{}:", self.name, error.line));
            let _never_fails = writeln!(text, "{place} {field}{}", error.message);
            let line = error.line.checked_sub(1).and_then(|index| lines.get(index)).map_or("", |line| line.trim_end());
            if !line.is_empty() {
                let shown: String = line.chars().take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
                let _never_fails = writeln!(text, "{}", paint.dim(&format!("{:>5} | {shown}", error.line)));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// `1 mistake`, `3 mistakes`.
pub(super) fn mistakes(count: usize) -> String {
    if count == 1 { "1 mistake".to_owned() } else { format!("{count} mistakes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let text = "version: 1\nproject: bad\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: x\n    run: echo\n    tiemout: 5m\n";
        let file = SpecFile { name: "bad.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
        let shown = file.explain(&file.check().unwrap_err(), Paint::new(false));
        assert!(shown.starts_with("bad.yaml:9: steps[0].tiemout: "), "{shown}");
        assert!(shown.ends_with("\n    9 |     tiemout: 5m"), "{shown}");
    }
}
