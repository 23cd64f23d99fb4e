//! A working tree is deployed as it stands, and leaves nothing behind but its deployment.

use longshore_tests::dev::Dev;
use longshore_tests::spec;

#[test]
fn a_working_tree_runs_as_it_stands_and_the_project_stays_as_it_was() {
    let dev = Dev::start();
    dev.apply(&spec("tree", "echo applied", "", ""));
    let folder = dev.dir().join("tree");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("longshore.yaml"), spec("tree", "cat word; echo mine", "", "")).unwrap();
    std::fs::write(folder.join("word"), "from the folder\n").unwrap();
    std::fs::write(folder.join("noise"), "x").unwrap();
    std::fs::write(folder.join(".longshoreignore"), "noise\n").unwrap();
    let folder = folder.to_str().unwrap();

    let done = dev.cli(&["deploy", "--local", folder, "--env", "dev", "--wait"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.text(), "from the folder\nmine\n");
    assert!(done.stderr.contains("- run: echo applied") && done.stderr.contains("stays as it is"), "{}", done.stderr);

    let listed: serde_json::Value =
        serde_json::from_str(&dev.cli(&["deployment", "list", "-o", "json"]).ok().text()).unwrap();
    let local = &listed[0];
    assert_eq!(local["local"]["spec"].as_str().unwrap().len(), 64, "{local:#}");
    let version = local["release"].as_str().unwrap();
    let again = dev.cli(&["deploy", "tree", "--env", "dev", "--release", version]);
    assert_eq!((again.code, again.stderr.contains("is no release")), (5, true), "{}", again.stderr);
    assert_eq!(dev.cli(&["release", "list", "tree", "-o", "json"]).ok().text().trim(), "[]");

    let id = dev.deploy("tree", &[]);
    assert_eq!(dev.end(&id)["state"], "succeeded");
    assert_eq!(dev.raw(&id), b"applied\n", "what was applied still counts");
}
