//! `source:`, good and bad.

use super::*;

fn with(source: &str) -> String {
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables: {{TOKEN: {{secret: true}}, plain: x}}\nsource:\n{source}\
         steps: [{{name: one, image: tiny, run: echo}}]\n"
    )
}

#[test]
fn a_repository_is_read() {
    let source = |text: &str| accepted(&with(text)).source.unwrap();
    let plain = source("  git: https://git.example.com/shop.git\n  ref: main\n");
    assert_eq!((plain.reference.as_str(), &plain.dir, &plain.credentials), ("main", &None, &None));
    let token = source("  git: https://e/x\n  ref: v1\n  dir: infra\n  credentials: {password: TOKEN}\n");
    let password = SourceCredentials::Password { user: "git".to_owned(), password: "TOKEN".to_owned() };
    assert_eq!((token.dir.as_deref(), token.credentials), (Some("infra"), Some(password)));
    let key = source("  git: git@e:x\n  ref: v1\n  credentials: {key: TOKEN, known_hosts: e ssh-ed25519 AAAA}\n");
    assert!(matches!(key.credentials, Some(SourceCredentials::Key { .. })));
    // A spec from before this has the digest that it had.
    let without = with("").replace("source:\n", "");
    assert!(!String::from_utf8(accepted(&without).digest_input()).unwrap().contains("source"));
    let changes = diff(Some(&accepted(&without)), &accepted(&with("  git: https://e/x\n  ref: main\n")));
    assert_eq!((changes.len(), changes[0].what.as_str()), (1, "source"));
}

#[test]
fn what_is_wrong_with_it_is_said_without_what_may_be_a_secret() {
    let bad = |text: &str, expected: Expected<'_>| check(&with(text), expected);
    bad("  ref: main\n", &[(5, "source.git", "write `git: https")]);
    bad("  git: https://e/x\n", &[(5, "source.ref", "write `ref: main`")]);
    bad("  git: https://u:hunter2@e/x\n  ref: main\n", &[(6, "source.git", "holds a password")]);
    bad("  git: ext::sh -c x\n  ref: main\n", &[(6, "source.git", "https://HOST/PATH")]);
    bad("  git: https://e/x\n  ref: --upload-pack=x\n", &[(7, "source.ref", "is no ref")]);
    bad("  git: https://e/x\n  ref: main\n  dir: ../x\n", &[(8, "source.dir", "")]);
    let credentials = |address: &str, text: &str, field: &str, part: &str| {
        bad(&format!("  git: {address}\n  ref: main\n  credentials: {text}\n"), &[(8, field, part)]);
    };
    credentials("https://e/x", "{password: plain}", "source.credentials.password", "is no secret");
    credentials("https://e/x", "{password: hunter2}", "source.credentials.password", "there is no such secret");
    credentials("https://e/x", "{password: 'a b'}", "source.credentials.password", "never its value");
    credentials("https://e/x", "{key: TOKEN, known_hosts: x}", "source.credentials", "do not fit");
    credentials("git@e:x", "{password: TOKEN}", "source.credentials", "do not fit");
    credentials("git@e:x", "{key: TOKEN}", "source.credentials.known_hosts", "known_hosts");
    credentials("https://e/x", "{password: TOKEN, key: TOKEN}", "source.credentials", "not both");
}
