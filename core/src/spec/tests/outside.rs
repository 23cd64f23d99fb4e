//! Names from libraries: taken on trust without the server's words, checked with them.

use std::collections::BTreeMap;

use super::*;
use crate::account::Kind;

const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nlibraries: [common, team]\nvariables: {own: 1}\n\
    steps:\n  - name: one\n    image: 'i:${{ vars.tag }}'\n    run: x\n    env:\n      A: ${{ vars.own }}\n      B: ${{ secrets.key }}\n";

fn outside() -> Outside {
    let library = |names: &[(&str, bool)]| names.iter().map(|(name, secret)| ((*name).to_owned(), *secret)).collect();
    Outside {
        libraries: BTreeMap::from([
            ("common".to_owned(), library(&[("tag", false), ("key", true), ("own", true), ("both", true)])),
            ("team".to_owned(), library(&[("key", true), ("both", false)])),
        ]),
        accounts: BTreeMap::from([
            ("prod".to_owned(), Kind::Aws),
            ("other".to_owned(), Kind::Aws),
            ("cloud".to_owned(), Kind::Pulumi),
        ]),
    }
}

fn refused(spec: &str, outside: Option<&Outside>) -> Vec<(usize, String)> {
    parse_with(spec, outside).unwrap_err().into_iter().map(|error| (error.line, error.message)).collect()
}

#[test]
fn what_a_library_has_need_not_be_declared() {
    let project = accepted(SPEC);
    assert_eq!(project.libraries, ["common", "team"]);
    assert_eq!(project.variables.len(), 1, "nothing of the library becomes the project's");
    assert_eq!(parse_with(SPEC, Some(&outside())).unwrap(), project);
    let both = SPEC.replace("vars.own", "vars.both").replace("secrets.key", "secrets.both");
    parse_with(&both, Some(&outside())).unwrap();
}

#[test]
fn what_is_nowhere_is_an_error_with_its_line() {
    let typo = SPEC.replace("secrets.key", "secrets.kez");
    accepted(&typo);
    let errors = refused(&typo, Some(&outside()));
    assert!(errors.len() == 1 && errors[0].0 == 12 && errors[0].1.contains("did you mean `key`"), "{errors:?}");
    let errors = refused(&SPEC.replace("vars.tag", "vars.key"), Some(&outside()));
    assert!(errors[0].0 == 8 && errors[0].1.contains("is a secret"), "{errors:?}");
    let errors = refused(&SPEC.replace("vars.tag", "secrets.key"), None);
    assert!(errors[0].1.contains("would be shown"), "{errors:?}");
    let errors = refused(&SPEC.replace("[common, team]", "[common, tema]"), Some(&outside()));
    assert!(errors.len() == 1 && errors[0].0 == 4 && errors[0].1.contains("library create tema"), "{errors:?}");
    assert!(!refused(&SPEC.replace("[common, team]", "[]"), None).is_empty(), "no library, no trust");
    let errors = refused(&SPEC.replace("vars.own", "secrets.own"), Some(&outside()));
    assert!(errors[0].1.contains("no secret"), "the project's own declaration counts: {errors:?}");
}

#[test]
fn an_account_is_there_and_sets_nothing_that_is_set() {
    let with = |accounts: &str, env: &str| {
        format!(
            "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nsteps:\n  - name: one\n    image: i\n    pulumi: {{operation: up}}\n\
             \x20   env: {env}\n    accounts: {accounts}\n"
        )
    };
    let good = with("[prod, cloud]", "{A: 1}");
    assert_eq!(accepted(&good).steps[0].accounts, ["prod", "cloud"]);
    parse_with(&good, Some(&outside())).unwrap();
    for (accounts, env, words) in [
        ("[prdo]", "{}", "did you mean `prod`"),
        ("[prod, other]", "{}", "both set `AWS_ACCESS_KEY_ID`"),
        ("[prod]", "{AWS_REGION: eu}", "`AWS_REGION` stands under `env` too"),
    ] {
        let errors = refused(&with(accounts, env), Some(&outside()));
        assert!(errors.len() == 1 && errors[0].0 == 9 && errors[0].1.contains(words), "{errors:?}");
    }
    let backend = with("[cloud]", "{}").replace("operation: up", "operation: up, backend: 'file:///x'");
    assert!(refused(&backend, Some(&outside()))[0].1.contains("`backend` says"));
    let gate =
        "version: 1\nproject: p\nenvironments: [{name: dev}]\nsteps: [{name: a, approval: {}, accounts: [prod]}]\n";
    assert!(refused(gate, None)[0].1.contains("leave `accounts` out"));
}
