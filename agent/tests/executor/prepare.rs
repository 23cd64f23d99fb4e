//! Images, workspaces, containers before they start.

use std::os::unix::fs::PermissionsExt as _;

use longshore_agent::executor::{Class, Error, FoundState, Limits};
use longshore_core::offer::{Network, Profile};

use crate::bench::{Bench, SCRATCH, TINY, TINY_1234, TINY_NAMED, add, package, plan};

#[tokio::test]
async fn a_missing_image_is_an_error_that_names_it() {
    let bench = Bench::new().await;
    let error = bench.executor.prepare_image(&"longshore-test/not-there:1".into(), |_| ()).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("longshore-test/not-there:1") && !error.may_have_run(), "{error}");
    let error = bench.executor.prepare_image(&"../containers/json".into(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("no image reference"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    let bench = Bench::new().await;
    let config = longshore_agent::executor::Config {
        socket: bench.dir.path().join("none.sock"),
        state_dir: bench.dir.path().join("state"),
        controller: String::new(),
        agent: format!("agt_{}", "0".repeat(32)).parse().unwrap(),
        mounts: vec![],
        limits: Limits::default(),
        weakest_profile: Profile::Standard,
        registries: vec![],
    };
    let error = longshore_agent::executor::Executor::connect(config).await.unwrap_err();
    assert!(matches!(error, Error::EngineUnreachable { .. }) && error.full().contains("none.sock"), "{}", error.full());
}

#[tokio::test]
async fn a_full_disk_is_said_before_anything_is_made() {
    let limits = Limits { disk_reserve_bytes: u64::MAX, ..Limits::default() };
    let bench = Bench::on(std::path::Path::new("/var/run/docker.sock"), limits).await;
    let error = bench.created(&mut bench.attempt(), &plan(TINY, "true")).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }) && error.class() == Class::AgentFault, "{error}");
    assert_eq!(bench.executor.list().await.unwrap(), []);
}

#[tokio::test]
async fn modes_links_and_owners_of_a_package_are_kept() {
    let bench = Bench::new().await;
    let package = package(bench.dir.path(), |tar| {
        add(tar, "run.sh", b"#!/bin/sh\necho ran\n", 0o755);
        add(tar, "deep/er/data", b"\0\xff", 0o640);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "deep/link", "er/data").unwrap();
    });
    let script = "./run.sh; stat -c '%n %a %u:%g' . .. run.sh deep deep/er deep/er/data \"$HOME\"; readlink deep/link; cat deep/link | od -An -tx1; pwd; touch new \"$HOME/new\" && echo writable";
    let mut one = plan(TINY_1234, script);
    one.package = Some(package);
    let text = bench.run(&one).await.text();
    for line in [
        "ran",
        ". 755 1234:77",
        "run.sh 755 1234:77",
        "deep 755 1234:77",
        "deep/er/data 640 1234:77",
        "er/data",
        " 00 ff",
        "/longshore/home 755 1234:77",
        "/longshore/workspace",
        "writable",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_hostile_package_is_refused() {
    let bench = Bench::new().await;
    let hostile = package(bench.dir.path(), |tar| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "out", "/etc").unwrap();
        add(tar, "big", &[1; 3_000_000], 0o644);
    });
    let mut one = plan(TINY, "true");
    one.package = Some(hostile);
    let error = bench.created(&mut bench.attempt(), &one).await.unwrap_err();
    assert!(error.to_string().contains("`out`") && error.class() == Class::Permanent, "{error}");
}

#[tokio::test]
async fn a_later_step_with_another_user_gets_the_workspace() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let mut one = plan(TINY, "mkdir sub && echo first > sub/file && chmod 600 sub/file && echo mine > \"$HOME/x\"");
    assert_eq!(bench.run_in(&mut attempt, &one).await.unwrap().record.code, Some(0));
    for (index, image, user, profile) in [
        (1, TINY_1234, "1234:77", Profile::Locked),
        (2, TINY_NAMED, "1000:1001", Profile::Standard),
        (3, TINY, "0:0", Profile::Locked),
        (4, TINY, "0:0", Profile::Standard),
    ] {
        one = plan(image, "echo more >> sub/file && touch \"$HOME/x\" && stat -c %u:%g . sub/file && wc -l < sub/file");
        (one.index, one.profile) = (index, profile);
        let outcome = bench.run_in(&mut attempt, &one).await.unwrap_or_else(|error| panic!("{}", error.full()));
        assert_eq!((outcome.record.code, outcome.text()), (Some(0), format!("{user}\n{user}\n{}\n", index + 1)));
    }
    bench.executor.remove_volume(attempt.offer.fence.attempt).await.unwrap();
    assert_eq!((bench.executor.list().await.unwrap(), bench.executor.list_volumes().await.unwrap()), (vec![], vec![]));
}

#[tokio::test]
async fn a_container_is_taken_over_until_it_was_started() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let one = plan(TINY, "true");
    let (_, _, first) = bench.created(&mut attempt, &one).await.unwrap();
    let (_, _, again) = bench.created(&mut attempt, &one).await.unwrap();
    assert_eq!(first, again);
    let found = bench.executor.list().await.unwrap();
    assert_eq!((found.len(), found[0].state, found[0].helper), (1, FoundState::Created, false));
    assert_eq!((found[0].attempt, found[0].job, found[0].step), (attempt.offer.fence.attempt, attempt.offer.job, 0));
    let (dir, created) = bench.started(&mut attempt, &one).await.unwrap();
    bench.ended(&dir, &created.id).await;
    let error = bench.created(&mut attempt, &one).await.unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
}

#[tokio::test]
async fn an_image_from_scratch_runs_in_both_profiles() {
    let bench = Bench::new().await;
    let script = "b=/bin/busybox; $b id -u; $b touch file \"$HOME/file\" /run/longshore/file && echo written; \
                  echo x > /denied && echo root is writable; echo x > /tmp/file && echo tmpfs is writable; $b hostname";
    for (profile, tmp) in [(Profile::Standard, false), (Profile::Locked, true)] {
        let mut one = plan(SCRATCH, script);
        one.profile = profile;
        let mut attempt = bench.attempt();
        let text = bench.run_in(&mut attempt, &one).await.unwrap_or_else(|error| panic!("{}", error.full())).text();
        let hostname = format!("att-{}", attempt.offer.fence.attempt.hex());
        assert!(text.contains("1234\nwritten\n") && text.contains(&hostname), "{profile:?}: {text}");
        assert!(!text.contains("root is writable") && text.contains("tmpfs is writable") == tmp, "{profile:?}: {text}");
    }
}

#[tokio::test]
async fn steps_reach_mounts_by_name_and_the_network_when_they_ask() {
    let bench = Bench::new().await;
    std::fs::set_permissions(bench.shared(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut one = plan(TINY, "echo hi > /state/file; ls /sys/class/net");
    (one.mounts, one.network) = (vec!["state".to_owned()], Network::Longshore);
    let outcome = bench.run(&one).await;
    assert!(outcome.text().contains("eth0"), "{}", outcome.text());
    assert_eq!(std::fs::read(bench.shared().join("file")).unwrap(), b"hi\n");
    one.network = Network::None;
    assert!(!bench.run(&one).await.text().contains("eth0"));
}

#[tokio::test]
async fn other_mounts_and_limits_count_for_what_is_created_afterwards() {
    let bench = Bench::new().await;
    let mut plan = plan(TINY, "true");
    plan.mounts = vec!["state".to_owned()];
    bench.created(&mut bench.attempt(), &plan).await.unwrap();
    bench.executor.reconfigure(vec![], Limits { pids: 77, ..Limits::default() }, Profile::Standard, vec![]);
    let error = bench.created(&mut bench.attempt(), &plan).await.unwrap_err().to_string();
    assert!(error.contains("`state`") && error.contains("it has: none"), "{error}");
    plan.mounts = vec![];
    let (_, _, created) = bench.created(&mut bench.attempt(), &plan).await.unwrap();
    let found = bench.docker().inspect_container(&created.id, None).await.unwrap();
    assert_eq!(found.host_config.unwrap().pids_limit, Some(77));
}
