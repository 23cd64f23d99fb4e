use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::secret::Secret;

/// Values by the text of their reference.
#[derive(Default)]
struct Values {
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    outputs: BTreeMap<(String, String), (serde_json::Value, bool)>,
}

impl Context for Values {
    fn variable(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    fn output(&self, step: &str, name: &str) -> Option<Output<'_>> {
        let (value, secret) = self.outputs.get(&(step.to_owned(), name.to_owned()))?;
        Some(Output { text: output_text(value), secret: *secret })
    }

    fn environment(&self) -> &str {
        "dev"
    }

    fn project(&self) -> &str {
        "shop"
    }

    fn deployment(&self) -> &str {
        "dep_1"
    }
}

fn values() -> Values {
    let mut values = Values::default();
    values.vars.insert("region".to_owned(), "eu".to_owned());
    values.secrets.insert("token".to_owned(), Secret::new("hunter2".to_owned()));
    let mut output = |name: &str, value, secret| {
        values.outputs.insert(("infra".to_owned(), name.to_owned()), (value, secret));
    };
    output("url", serde_json::json!("http://x"), false);
    output("ports", serde_json::json!([80, 443]), false);
    output("bucket-key", serde_json::json!("k"), true);
    values
}

fn render(source: &str) -> Result<(String, bool), Error> {
    Template::parse(source)?.render(&values()).map(|r| (r.text, r.secret))
}

#[test]
fn every_reference_is_replaced() {
    let ok = |source: &str, text: &str, secret| {
        assert_eq!(render(source), Ok((text.to_owned(), secret)), "{source}");
    };
    ok("", "", false);
    ok("plain $HOME ${HOME} {{ }}", "plain $HOME ${HOME} {{ }}", false);
    ok("a-${{ vars.region }}-b", "a-eu-b", false);
    ok("${{vars.region}}${{   vars.region\n}}", "eueu", false);
    ok("x${{ secrets.token }}", "xhunter2", true);
    ok("${{ steps.infra.outputs.url }}", "http://x", false);
    ok("${{ steps.infra.outputs.ports }}", "[80,443]", false);
    ok("${{ steps.infra.outputs.bucket-key }}", "k", true);
    ok("${{ project }}/${{ environment }}/${{ deployment }}", "shop/dev/dep_1", false);
}

#[test]
fn a_doubled_dollar_stands_for_the_text() {
    assert_eq!(render("$${{ vars.region }} ${{ vars.region }}"), Ok(("${{ vars.region }} eu".to_owned(), false)));
    assert_eq!(render("$$${{ x"), Ok(("$${{ x".to_owned(), false)));
    assert_eq!(render("}} $${{"), Ok(("}} ${{".to_owned(), false)));
}

#[test]
fn what_cannot_be_read_says_where_and_what() {
    let error = |source: &str| Template::parse(source).unwrap_err();
    assert_eq!(error("ab ${{ vars.x"), Error::Unclosed { offset: 3 });
    assert_eq!(error("${{ vars.x ${{ vars.y }}"), Error::Unclosed { offset: 0 });
    assert_eq!(error("é${{ vars.x }}${{ y }}").offset(), Some(15));
    for bad in [
        "",
        "vars",
        "vars.",
        "vars.a.b",
        "vars.a-b",
        "steps.a",
        "steps.A.outputs.b",
        "1 + 1",
        "environment.x",
        "vars.a }",
        "toJson(x)",
    ] {
        let error = error(&format!("${{{{ {bad} }}}}"));
        assert!(error.to_string().contains("is no expression: write `vars.NAME`"), "{bad}: {error}");
    }
}

#[test]
fn a_value_that_is_missing_is_an_error() {
    assert_eq!(render("${{ vars.x }}"), Err(Error::NoVariable { name: "x".to_owned() }));
    assert_eq!(render("${{ secrets.region }}"), Err(Error::NoSecret { name: "region".to_owned() }));
    let output = Error::NoOutput { step: "infra".to_owned(), name: "x".to_owned() };
    assert_eq!(render("${{ steps.infra.outputs.x }}"), Err(output));
}

#[test]
fn a_secret_is_not_shown_by_debug() {
    let rendered = Template::parse("a${{ secrets.token }}").unwrap().render(&values()).unwrap();
    assert_eq!(format!("{rendered:?}"), "Rendered { text: \"[secret]\", secret: true }");
    assert_eq!(rendered.into_secret().expose(), "ahunter2");
    let output = values().output("infra", "bucket-key").map(|o| format!("{o:?}"));
    assert_eq!(output.as_deref(), Some("Output { text: \"[secret]\", secret: true }"));
}

#[test]
fn a_template_is_stored_as_its_source() {
    let template = Template::parse("a ${{vars.region}} $${{").unwrap();
    let json = serde_json::to_string(&template).unwrap();
    assert_eq!(json, "\"a ${{vars.region}} $${{\"");
    assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
    assert!(serde_json::from_str::<Template>("\"${{\"").is_err());
}

#[test]
fn references_are_named_in_order() {
    let template = Template::parse("${{ vars.b }}-${{ secrets.a }}").unwrap();
    let names: Vec<String> = template.references().map(ToString::to_string).collect();
    assert_eq!(names, ["vars.b", "secrets.a"]);
    assert_eq!(template.as_literal(), None);
    assert_eq!(Template::parse("a$${{").unwrap().as_literal(), Some("a${{"));
    let reference = Template::reference(Reference::Environment);
    assert_eq!(Template::parse(reference.source()).unwrap(), reference);
}

/// Text with a good chance of holding expressions.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("${{ vars.region }}".to_owned()),
        Just("${{".to_owned()),
        Just("}}".to_owned()),
        Just("$".to_owned()),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_value_is_never_expanded_again(value in text(), secret in text(), output in text()) {
        let mut values = values();
        values.vars.insert("a".to_owned(), value.clone());
        values.secrets.insert("b".to_owned(), Secret::new(secret.clone()));
        values.outputs.insert(("s".to_owned(), "o".to_owned()), (serde_json::Value::from(output.as_str()), false));
        let template = Template::parse("<${{ vars.a }}|${{ secrets.b }}|${{ steps.s.outputs.o }}>").unwrap();
        prop_assert_eq!(template.render(&values).unwrap().text, format!("<{value}|{secret}|{output}>"));
    }

    #[test]
    fn a_literal_renders_to_itself(text in text()) {
        let literal = Template::literal(&text);
        prop_assert_eq!(literal.as_literal(), Some(text.as_str()));
        prop_assert_eq!(&Template::parse(literal.source()).unwrap(), &literal);
        prop_assert_eq!(literal.render(&values()).unwrap().text, text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in text()) {
        if let Ok(template) = Template::parse(&text) {
            let no_expression = !text.contains(OPEN);
            prop_assert!(!no_expression || template.as_literal() == Some(&text));
            prop_assert_eq!(template.source(), text);
        }
    }
}
