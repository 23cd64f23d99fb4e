use std::borrow::Cow;

use proptest::prelude::*;

use super::super::Output;
use super::*;
use crate::secret::Secret;

struct Values;

impl Context for Values {
    fn variable(&self, name: &str) -> Option<&str> {
        match name {
            "region" => Some("eu"),
            "replicas" => Some("3"),
            "quote" => Some("it's"),
            "empty" => Some(""),
            _ => None,
        }
    }

    fn secret(&self, _: &str) -> Option<&Secret> {
        None
    }

    fn output(&self, step: &str, name: &str) -> Option<Output<'_>> {
        let found = |text, secret| Some(Output { text: Cow::Borrowed(text), secret });
        match (step, name) {
            ("a", "url") => found("http://x", false),
            ("a", "key") => found("hunter2", true),
            _ => None,
        }
    }

    fn environment(&self) -> &str {
        "production"
    }

    fn project(&self) -> &str {
        "shop"
    }

    fn deployment(&self) -> &str {
        "dep_1"
    }
}

/// What it gives when all went well, and when something failed.
fn both(source: &str) -> (bool, bool) {
    let condition = Condition::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let holds = |failed| condition.holds(&Values, failed).unwrap_or_else(|error| panic!("{source}: {error}"));
    (holds(false), holds(true))
}

#[test]
fn status_functions_look_at_what_went_before() {
    assert_eq!(both("success()"), (true, false));
    assert_eq!(both(" failure ( ) "), (false, true));
    assert_eq!(both("always()"), (true, true));
    assert_eq!(both("${{ always() }}"), (true, true));
    assert_eq!(both("${{!success()}}"), (false, true));
    assert_eq!(both("success() || failure()"), (true, true));
    assert_eq!(both("success() && failure()"), (false, false));
}

#[test]
fn an_expression_without_them_means_success_too() {
    for good in [
        "vars.region == 'eu'",
        "vars.region != 'EU'",
        "vars.quote == 'it''s'",
        "vars.empty == ''",
        "vars.replicas == 3",
        "vars.replicas != 3.0",
        "-1.5 == '-1.5'",
        "true",
        "true == 'true'",
        "!false",
        "environment=='production'&&project=='shop'",
        "deployment != ''",
        "steps.a.outputs.url == 'http://x'",
        "steps.a.outputs.none == ''",
        "steps.skipped.outputs.url != 'x'",
        "'}}' != '${{'",
    ] {
        assert_eq!(both(good), (true, false), "{good}");
        assert_eq!(both(&format!("!({good})")), (false, false), "{good}");
        assert_eq!(both(&format!("always() && ({good})")), (true, true), "{good}");
        assert_eq!(both(&format!("failure() && {good}")), (false, true), "{good}");
    }
}

#[test]
fn and_binds_tighter_than_or() {
    assert_eq!(both("true || true && false"), (true, false));
    assert_eq!(both("(true || true) && false"), (false, false));
    assert_eq!(both("false && true || always()"), (true, true));
    assert_eq!(both("!true || true"), (true, false));
    assert_eq!(both("!!always()"), (true, true));
}

#[test]
fn what_does_not_decide_is_not_looked_at() {
    let holds = |source: &str, failed| Condition::parse(source).unwrap().holds(&Values, failed);
    let missing = Err(Error::NoVariable { name: "ticket".to_owned() });
    assert_eq!(holds("vars.ticket == ''", false), missing);
    assert_eq!(holds("vars.ticket == ''", true), Ok(false));
    assert_eq!(holds("always() || vars.ticket == ''", true), Ok(true));
    assert_eq!(holds("always() && vars.ticket == ''", true), missing);
}

#[test]
fn a_secret_output_is_not_compared() {
    let holds = Condition::parse("'x' == steps.a.outputs.key").unwrap().holds(&Values, false);
    assert_eq!(holds, Err(Error::SecretOutput { step: "a".to_owned(), name: "key".to_owned() }));
}

#[test]
fn what_is_wrong_is_said_with_what_to_write() {
    for (source, part) in [
        ("", "the condition is empty: write `success()`"),
        ("${{ }}", "the condition is empty"),
        ("success", "`success` is a function: write `success()`"),
        ("succes()", "did you mean `success`?"),
        ("cancelled()", "starts no more steps"),
        ("always(1)", "`always` takes nothing: write `always()`"),
        ("contains('a', 'b')", "no function takes values"),
        ("contains('a')", "there is no function `contains`"),
        ("vars.region", "compare it, for example `vars.region == 'true'`"),
        ("'a'", "`'a'` is neither true nor false"),
        ("vars.region = 'eu'", "write `==` to compare"),
        ("vars.region == \"eu\"", "write texts in single quotes"),
        ("vars.region == eu", "`eu` is not known here"),
        ("var.region == 'eu'", "did you mean `vars.region`?"),
        ("steps.a.url == ''", "an output is `steps.a.outputs.url`"),
        ("vars.replicas > 3", "only `==` and `!=` compare"),
        ("true & true", "write `&&`"),
        ("true | true", "write `||`"),
        ("true and true", "write `&&`"),
        ("true or true", "write `||`"),
        ("true true", "write `&&` or `||` between"),
        ("true ||", "ends where a value is needed"),
        ("&& true", "`&&` stands where a value is needed"),
        ("vars.region ==", "ends where a value is needed"),
        ("(true", "a `(` is not closed"),
        ("(true true)", "between two conditions"),
        ("true)", "there is no `(` before it"),
        ("'a' == 'b' == 'c'", "a comparison has two sides"),
        ("(true) == true", "not conditions"),
        ("!vars.region == 'eu'", "write `!(a == b)`, or `a != b`"),
        ("vars.region == 'eu", "a quote is opened and not closed"),
        ("${{ true }} && ${{ true }}", "in one `${{ ... }}`"),
        ("secrets.token == 'x'", "`secrets.token` cannot be compared"),
        ("1.2.3 == ''", "`1.2.3` is not known here"),
        ("vars.é == ''", "cannot stand here"),
    ] {
        let error = Condition::parse(source).expect_err(source);
        assert!(error.contains(part), "{source}: {error}");
    }
}

#[test]
fn length_and_nesting_are_bounded() {
    let nested = |deep: usize| format!("{}true{}", "(".repeat(deep), ")".repeat(deep));
    assert_eq!(both(&nested(31)), (true, false));
    for deep in ["(".repeat(4000), "!".repeat(4000), "!(".repeat(2000), nested(40)] {
        assert!(Condition::parse(&deep).expect_err(&deep).contains("nested deeper"));
    }
    assert_eq!(both(&["true"; 500].join("&&")), (true, false));
    assert!(Condition::parse(&"true||".repeat(1000)).unwrap_err().contains("at most 4096"));
    assert!(Condition::parse(&format!("{}()", "x".repeat(4000))).unwrap_err().len() < 300);
}

#[test]
fn references_are_named_in_order() {
    let condition = Condition::parse("!(vars.b == steps.a.outputs.x) || environment == 'x' && vars.b == 1").unwrap();
    let names: Vec<String> = condition.references().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["vars.b", "steps.a.outputs.x", "environment", "vars.b"]);
}

#[test]
fn a_condition_is_stored_as_its_source() {
    let condition = Condition::parse("${{ vars.a == 'x' }}").unwrap();
    let json = serde_json::to_string(&condition).unwrap();
    assert_eq!(json, "\"${{ vars.a == 'x' }}\"");
    assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), condition);
    assert!(serde_json::from_str::<Condition>("\"maybe\"").is_err());
    assert_eq!(Condition::success(), Condition::parse("success()").unwrap());
}

/// Text with a good chance of being a condition.
fn text() -> impl Strategy<Value = String> {
    let known = vec![
        "success()",
        "failure()",
        "always()",
        "vars.region",
        "vars.x",
        "steps.a.outputs.key",
        "environment",
        "'eu'",
        "''",
        "'",
        "==",
        "!=",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "true",
        "false",
        "1",
        " ",
        "${{",
        "}}",
        "secrets.a",
    ];
    let piece = prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A condition that is right, and what it gives after a failure.
fn right() -> impl Strategy<Value = (String, bool)> {
    let leaf = prop::sample::select(vec![
        ("success()", false),
        ("failure()", true),
        ("always()", true),
        ("true", true),
        ("false", false),
        ("vars.region == 'eu'", true),
        ("'a' != 'a'", false),
    ]);
    leaf.prop_map(|(source, holds)| (source.to_owned(), holds)).prop_recursive(5, 32, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(source, holds)| (format!("!({source})"), !holds)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("({})&&({})", a.0, b.0), a.1 && b.1)),
            (inner.clone(), inner).prop_map(|(a, b)| (format!("({}) || ({})", a.0, b.0), a.1 || b.1)),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in text()) {
        if let Ok(condition) = Condition::parse(&text) {
            let _either = condition.holds(&Values, true);
            prop_assert_eq!(condition.source(), &text);
            let again = Condition::parse(&condition.to_string());
            prop_assert_eq!(again, Ok(condition));
        }
    }

    #[test]
    fn what_is_right_gives_what_it_says((source, holds) in right()) {
        let condition = Condition::parse(&format!("always() && ({source})")).unwrap();
        prop_assert_eq!(condition.holds(&Values, true).unwrap(), holds);
    }
}
