//! The package, the workspace and the images of every kind.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use longshore_tests::dev::Dev;
use longshore_tests::docker::{TINY, docker, import};

fn package(dev: &Dev) -> String {
    let dir = dev.dir().join("package");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("sub/data.txt"), "data\n").unwrap();
    std::fs::write(dir.join("run.sh"), "#!/bin/sh\necho from the package\n").unwrap();
    std::fs::set_permissions(dir.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("sub/data.txt", dir.join("link")).unwrap();
    std::fs::write(dir.join("secret.key"), "not for upload").unwrap();
    std::fs::write(dir.join(".longshoreignore"), "*.key\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn steps(project: &str, steps: &str) -> String {
    format!("version: 1\nproject: {project}\nenvironments:\n  - name: dev\nsteps:\n{steps}")
}

#[test]
fn the_package_is_unpacked_and_shared_by_the_steps() {
    let dev = Dev::start();
    import("longshore/tiny-user:1", &["USER 1234:2345"]);
    dev.apply(&steps(
        "pack",
        &format!(
            "  - name: make\n    image: {TINY}\n    network: none\n    run: |\n      pwd; echo $LONGSHORE_WORKSPACE; id -u; ./run.sh; cat link; ls -a; readlink link; echo one > made; mkdir dir; touch $HOME/x\n\
             \x20 - name: use\n    image: longshore/tiny-user:1\n    network: none\n    profile: locked\n    run: |\n      id -u; cat made; echo two >> made; echo three > sub/new; cat made; touch $HOME/y; touch /tmp/z; touch /zz 2>/dev/null || echo readonly\n\
             \x20 - name: again\n    image: {TINY}\n    network: none\n    run: [cat, made, sub/new]\n"
        ),
    ));
    let folder = package(&dev);
    let id = dev.deploy("pack", &["--package", &folder]);
    let shown = dev.end(&id);
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{log}");
    assert!(
        log.contains("from the package\ndata\n") && log.contains("sub/data.txt") && !log.contains("secret.key"),
        "{log}"
    );
    assert!(log.contains("1234\none\none\ntwo\nreadonly\n"), "{log}");
    assert!(log.ends_with("one\ntwo\nthree\n"), "{log}");
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        [".longshoreignore", "link", "run.sh", "secret.key", "sub"],
        "the user's folder is never changed"
    );
}

#[test]
fn an_archive_is_the_same_package_as_its_folder() {
    let dev = Dev::start();
    let folder = package(&dev);
    std::fs::remove_file(format!("{folder}/.longshoreignore")).unwrap();
    let archive = dev.dir().join("package.tgz");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-C", &folder, "-czf"]).arg(&archive).arg(".");
    let _packed = longshore_tests::process::run(&mut tar, b"").ok();
    let archive = archive.to_str().unwrap();
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let pushed = |path: &str| {
        let done = dev.cli(&["package", "push", path, "-o", "json"]).ok();
        (json(&done.stdout)["sha256"].as_str().unwrap().to_owned(), done.stderr)
    };
    let ((one, _), (other, said)) = (pushed(&folder), pushed(archive));
    assert_eq!(one, other);
    assert!(said.contains("is on the server already"), "{said}");
    assert_eq!(json(&dev.cli(&["package", "list", "-o", "json"]).ok().stdout)[0]["sha256"], one.as_str());
    dev.apply(&steps(
        "archive",
        &format!("  - name: one\n    image: {TINY}\n    network: none\n    run: [sh, -c, ./run.sh; readlink link]\n"),
    ));
    // The agent has the package from the first; the second fetches nothing and sees the same.
    for _ in 0..2 {
        let id = dev.deploy("archive", &["--package", archive]);
        assert_eq!(dev.end(&id)["state"], "succeeded");
        assert_eq!(dev.raw(&id), b"from the package\nsub/data.txt\n");
    }
    assert!(dev.data().join("agent/packages").join(&one).exists());
}

#[test]
fn an_image_from_scratch_without_a_shell_runs() {
    let dev = Dev::start();
    let root = dev.dir().join("scratch");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    std::fs::write(root.join("Dockerfile"), "FROM scratch\nCOPY busybox /busybox\nUSER 4321\n").unwrap();
    let mut build = std::process::Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "-q", "-t", "longshore/scratch:1"]).arg(&root);
    let _built = longshore_tests::process::run(&mut build, b"").ok();
    for profile in ["standard", "locked"] {
        let spec = steps(
            "scratch",
            &format!(
                "  - name: one\n    image: longshore/scratch:1\n    network: none\n    profile: {profile}\n    run: [/busybox, sh, -c, 'echo hello from $0; touch here; exec /busybox id -u']\n"
            ),
        );
        let shown = dev.run("scratch", &spec);
        assert_eq!(shown["state"], "succeeded", "{profile}: {shown:#}");
        assert!(String::from_utf8_lossy(&dev.raw(shown["id"].as_str().unwrap())).ends_with("4321\n"));
    }
    let _removed = docker(&["rmi", "longshore/scratch:1"]);
}

#[test]
fn the_profiles_bound_what_a_job_may_do() {
    let dev = Dev::start();
    let script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ls /var/run/docker.sock 2>&1 | tail -1; ip link 2>/dev/null | grep -c UP; hostname";
    for (profile, capabilities) in [("standard", "00000000000005fb"), ("locked", "0000000000000000")] {
        let spec = longshore_tests::spec("profiles", script, &format!("profile: {profile}"), "");
        let shown = dev.run("profiles", &spec);
        let log = String::from_utf8_lossy(&dev.raw(shown["id"].as_str().unwrap())).into_owned();
        assert!(log.contains(&format!("CapEff:\t{capabilities}")), "{profile}: {log}");
        assert!(log.contains("NoNewPrivs:\t1") && log.contains("No such file"), "{profile}: {log}");
        let attempt = shown["steps"][0]["attempts"][0]["id"].as_str().unwrap().replace('_', "-");
        assert!(log.contains(&attempt), "the host name is the attempt: {log}");
    }
}

#[test]
fn steps_after_a_failed_one_are_skipped() {
    let dev = Dev::start();
    let step =
        |name: &str, run: &str| format!("  - name: {name}\n    image: {TINY}\n    network: none\n    run: [{run}]\n");
    let shown = dev
        .run("skip", &steps("skip", &[step("good", "true"), step("bad", "\"false\""), step("never", "true")].concat()));
    let states: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(
        (shown["state"].as_str(), states),
        (Some("failed"), vec!["succeeded", "failed", "skipped"]),
        "{shown:#}"
    );
}

#[test]
fn processes_that_are_left_do_not_hold_the_step() {
    let dev = Dev::start();
    let shown = dev
        .run("left", &longshore_tests::spec("left", "sleep 1000 & (setsid sleep 1000 &) ; echo done; exit 4", "", ""));
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"failed".into(), &4.into()), "{shown:#}");
    assert_eq!(dev.raw(shown["id"].as_str().unwrap()), b"done\n");
}
