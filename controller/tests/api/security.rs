//! The page of attacks: every attack has its tests, and every test that it names is there.

use std::path::Path;

#[test]
fn every_attack_has_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    for number in 1..=32 {
        let id = format!("| A{number:02} |");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with(&id)).collect();
        let [row] = rows.as_slice() else { panic!("{} rows begin with `{id}`", rows.len()) };
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<_> = shown.split_whitespace().collect();
        assert!(!named.is_empty(), "{id} names no test");
        for name in named {
            let (file, test) = name
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix('`')?.split_once("::"))
                .unwrap_or_else(|| panic!("{id} `{name}` is not of the form `file::test`"));
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{id} {file}: {error}"));
            let found = text.split(&format!("fn {test}(")).next().filter(|before| before.len() < text.len());
            let before = found.unwrap_or_else(|| panic!("{id} there is no `{test}` in {file}"));
            // Not a helper of that name: what stands before it are the marks of a test.
            let marks = before.trim_end_matches("async ").lines().rev().map(str::trim);
            let mut marks = marks.take_while(|line| line.is_empty() || line.starts_with("#["));
            assert!(marks.any(|line| line.contains("test")), "{id} `{test}` is no test");
        }
    }
}
