//! `init` as a process: no server, no surprise, and what it writes is good.

use crate::fake::command;

#[test]
fn a_first_file_is_written_once_and_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("infra")).unwrap();
    std::fs::write(at("infra/Pulumi.yaml"), "name: shop\nruntime: yaml\n").unwrap();
    std::fs::write(at("infra/Pulumi.dev.yaml"), "").unwrap();
    let run = |args: &[&str]| command(args).current_dir(folder.path()).output().unwrap();
    let done = run(&["init"]);
    let (said, next) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!(done.status.code(), Some(0), "{next}");
    assert_eq!(said, "./longshore.yaml: project shop with the Pulumi program in `infra`, for dev\n");
    assert!(
        next.contains("longshore variable set shop passphrase --secret\n  longshore deploy shop --env dev"),
        "{next}"
    );
    assert_eq!(run(&["validate"]).status.code(), Some(0));
    let before = std::fs::read(at("longshore.yaml")).unwrap();
    let again = run(&["init", "."]);
    let told = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(told.contains("there is a `./longshore.yaml` already\nunchanged: it is as it was\n     next: "), "{told}");
    assert_eq!(std::fs::read(at("longshore.yaml")).unwrap(), before);
    let forced = run(&["init", "--force", "--image", "registry.example/pulumi:1", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&forced.stdout).unwrap();
    let expected =
        serde_json::json!({ "file": "./longshore.yaml", "project": "shop", "environments": ["dev"], "kind": "pulumi" });
    assert_eq!(json, expected);
    assert!(std::fs::read_to_string(at("longshore.yaml")).unwrap().contains("image: registry.example/pulumi:1\n"));
    assert_eq!(run(&["init", "--force", "--image", "a b"]).status.code(), Some(2));
    assert_eq!(run(&["init", "nowhere"]).status.code(), Some(2));
}
