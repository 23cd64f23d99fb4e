use std::path::Path;

use longshore_core::spec::{Action, Project};

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("Shop-").tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn made(dir: &Path) -> (Project, String) {
    let text = render::render(&find::find(dir).unwrap(), None);
    (spec::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")), text)
}

#[test]
fn a_program_gets_its_name_stacks_and_backend() {
    let dir = folder(&[
        ("Pulumi.yaml", "name: My_Shop\nruntime: {name: nodejs}\nbackend: {url: 's3://bucket?region=x'}\n"),
        ("Pulumi.dev.yaml", ""),
        ("Pulumi.Prod.eu.yaml", ""),
        ("Pulumi.prod-eu.yaml", ""),
    ]);
    let (project, text) = made(dir.path());
    assert_eq!(project.name, "my-shop");
    let names: Vec<_> = project.environments.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["prod-eu", "dev", "prod-eu-2"]);
    assert!(text.contains("prod-eu: Prod.eu\n") && text.contains("stack: ${{ vars.stack }}"), "{text}");
    let Action::Pulumi(pulumi) = &project.step("infra").unwrap().action else { panic!("{text}") };
    assert_eq!(pulumi.backend.as_ref().unwrap().source(), "s3://bucket?region=x");
    assert!(pulumi.install && pulumi.dir.is_none(), "{text}");
}

#[test]
fn a_program_in_a_folder_is_named_and_its_local_state_goes_to_the_mount() {
    let dir = folder(&[("infra/Pulumi.yaml", "name: shop\nruntime: yaml\nbackend: {url: 'file://~'}\n"), ("b/x", "")]);
    let (project, text) = made(dir.path());
    let step = project.step("infra").unwrap();
    let Action::Pulumi(pulumi) = &step.action else { panic!("{text}") };
    assert_eq!((pulumi.dir.as_ref().unwrap().source(), step.mounts.as_slice()), ("infra", &["state".to_owned()][..]));
    assert!(text.contains("file://~, which would be gone") && !pulumi.install, "{text}");
    assert_eq!(project.environments[0].name, "dev");
}

#[test]
fn odd_backends_give_a_good_file_too() {
    for (url, has) in [
        ("https://api.pulumi.com", "PULUMI_ACCESS_TOKEN"),
        ("s3://u:p@host/b", "# backend: URL"),
        ("s3://${{ vars.x }}", "# backend: URL"),
        ("nonsense", "# backend: URL"),
        ("file:///x\\ny", "# backend: URL"),
        ("azblob://a\\\"b", "PASSPHRASE"),
    ] {
        let dir = folder(&[("Pulumi.yaml", &format!("name: 9\nruntime: \"a\\nb\"\nbackend: {{url: \"{url}\"}}\n"))]);
        let (project, text) = made(dir.path());
        assert!(text.contains(has) && project.name.starts_with("shop-"), "{url}: {text}");
    }
}

#[test]
fn without_a_program_there_is_an_example_and_several_programs_are_a_question() {
    let (project, text) = made(folder(&[("main.sh", "")]).path());
    assert!(matches!(project.steps[0].action, Action::Run { .. }), "{text}");
    let dir = folder(&[("a/Pulumi.yaml", ""), ("b/Pulumi.yml", "")]);
    let failure = find::find(dir.path()).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.to_string().contains("a/Pulumi.yaml`, `"), "{failure}");
    let dir = folder(&[("Pulumi.yaml", "name: 'x")]);
    assert!(find::find(dir.path()).unwrap_err().to_string().contains("line 1"));
    assert!(find::find(Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_that_is_asked_for() {
    let dir = folder(&[(FILE, "mine")]);
    let path = dir.path().join(FILE);
    assert!(write(&path, "other", false).unwrap_err().to_string().contains("already"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    write(&path, "other", true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
