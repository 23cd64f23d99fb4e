//! Images from a real registry: who may have them, how often they are pulled, what is done without it, and what is removed.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use longshore_agent::executor::{Error, Image, Limits, PullProgress, Wanted};
use longshore_agent::registry::Registry;
use longshore_core::offer::{OfferStep, Profile, Pull};

use crate::bench::{Bench, TINY, plan};
use crate::distribution::{Distribution, PASSWORD, USER, remove};

const MIB: usize = 1 << 20;

fn entry(host: &str) -> Registry {
    let host = host.to_owned();
    Registry {
        host,
        username: None,
        password: None,
        password_file: None,
        docker_config: None,
        helper: None,
        command: None,
    }
}

fn configure(bench: &Bench, limits: Limits, registries: Vec<Registry>) {
    bench.executor.reconfigure(vec![], limits, Profile::Standard, registries);
}

fn secret_file(bench: &Bench, name: &str, text: &str) -> std::path::PathBuf {
    let path = bench.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn always(reference: &str) -> Wanted {
    Wanted { pull: Pull::Always, ..Wanted::from(reference) }
}

async fn get(bench: &Bench, wanted: &Wanted) -> Result<(Image, Vec<PullProgress>), Error> {
    let said = Mutex::new(Vec::new());
    let image = bench.executor.prepare_image(wanted, |progress| said.lock().unwrap().push(progress)).await?;
    Ok((image, said.into_inner().unwrap()))
}

fn notes(said: &[PullProgress]) -> Vec<&str> {
    said.iter().filter(|progress| progress.note).map(|progress| progress.message.as_str()).collect()
}

async fn there(bench: &Bench, reference: &str) -> bool {
    bench.docker().inspect_image(reference).await.is_ok()
}

#[tokio::test]
async fn a_private_image_is_had_with_the_login_of_the_configuration_alone() {
    let bench = Bench::new().await;
    let registry = Distribution::private();
    let id = registry.push(&bench, "team/app:1", MIB).await;
    let reference = format!("{}/team/app:1", registry.host());
    let error = get(&bench, &reference.as_str().into()).await.unwrap_err().to_string();
    assert!(
        error.contains("denies access") && error.contains("no login was used") && error.contains(&registry.host()),
        "{error}"
    );

    let with = |text: &str| Registry {
        username: Some(USER.to_owned()),
        password_file: Some(secret_file(&bench, "password", text)),
        ..entry(&registry.host())
    };
    configure(&bench, Limits::default(), vec![with("hunter3")]);
    let error = get(&bench, &reference.as_str().into()).await.unwrap_err().to_string();
    assert!(error.contains("denies access") && error.contains("login of `[[registries]]`"), "{error}");
    assert!(!error.contains("hunter3"), "{error}");

    configure(&bench, Limits::default(), vec![with(PASSWORD)]);
    let (image, said) = get(&bench, &reference.as_str().into()).await.unwrap();
    assert_eq!(image.id, id);
    assert_eq!(notes(&said), [format!("pulled image `{reference}`: 2 MiB")], "{said:?}");
    std::fs::remove_file(bench.dir.path().join("password")).unwrap();
    assert_eq!(Bench::on_disk(bench.dir.path(), PASSWORD), None);

    // A configuration of Docker's own command line. The pool's policy asks the registry again, although the image is there.
    let auth = base64(&format!("{USER}:{PASSWORD}"));
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.host());
    let docker_config = Some(secret_file(&bench, "config.json", &config));
    configure(&bench, Limits::default(), vec![Registry { docker_config, ..entry("*") }]);
    get(&bench, &always(&reference)).await.unwrap();
    configure(&bench, Limits::default(), vec![]);
    let error = get(&bench, &always(&reference)).await.unwrap_err().to_string();
    assert!(error.contains("no login was used"), "{error}");
    remove(&bench, &reference).await;
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("base64")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_program_s_login_that_is_not_taken_is_asked_for_anew_once() {
    let bench = Bench::new().await;
    let registry = Distribution::private();
    registry.push(&bench, "team/app:1", MIB).await;
    let reference = format!("{}/team/app:1", registry.host());
    let count = bench.dir.path().join("count");
    // What it gave first has ended before its time.
    let script = format!(
        "echo x >> '{0}'\n[ $(wc -l < '{0}') -gt 1 ] && password={PASSWORD} || password=ended\n\
         printf '{{\"username\": \"{USER}\", \"password\": \"%s\", \"expires_at\": \"2999-01-01T00:00:00Z\"}}' $password\n",
        count.display()
    );
    let script = secret_file(&bench, "login.sh", &script);
    let command = Some(vec!["/bin/sh".to_owned(), script.display().to_string()]);
    configure(&bench, Limits::default(), vec![Registry { command, ..entry(&registry.host()) }]);
    for _ in 0..2 {
        get(&bench, &always(&reference)).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 2);
    remove(&bench, &reference).await;
}

#[tokio::test]
async fn jobs_that_need_an_image_at_once_share_one_pull_and_each_hears_of_it() {
    let bench = Bench::new().await;
    let registry = Distribution::start();
    registry.push(&bench, "team/app:1", 2 * MIB).await;
    let reference = format!("{}/team/app:1", registry.host());
    let before = registry.layers_read();
    get(&bench, &reference.as_str().into()).await.unwrap();
    let alone = registry.layers_read() - before;
    remove(&bench, &reference).await;
    let wanted = Wanted::from(reference.as_str());
    registry.gate().shut_after(MIB);
    let opened = tokio::task::spawn_blocking(move || {
        // All of them wait by now: the first has begun to pull, and nothing goes on.
        registry.gate().wait_held();
        registry.gate().open();
        registry
    });
    let (a, b, c, registry) = tokio::join!(get(&bench, &wanted), get(&bench, &wanted), get(&bench, &wanted), opened);
    let registry = registry.unwrap();
    for (image, said) in [a.unwrap(), b.unwrap(), c.unwrap()] {
        assert!(image.id.starts_with("sha256:"));
        assert_eq!(notes(&said).len(), 1, "{said:?}");
        assert!(said.iter().any(|progress| progress.total > 2 * MIB as u64 - 1), "{said:?}");
    }
    assert_eq!(registry.layers_read() - before, 2 * alone);
    remove(&bench, &reference).await;
}

#[tokio::test]
async fn without_the_registry_the_copy_that_the_release_holds_is_used_and_no_other() {
    let bench = Bench::new().await;
    let mut registry = Distribution::start();
    let id = registry.push(&bench, "team/app:1", MIB).await;
    let reference = format!("{}/team/app:1", registry.host());
    get(&bench, &reference.as_str().into()).await.unwrap();
    let digests = bench.docker().inspect_image(&reference).await.unwrap().repo_digests.unwrap();
    registry.down();

    // A reference by digest is not asked for again, whatever the policy.
    let (image, said) = get(&bench, &always(&digests[0])).await.unwrap();
    assert_eq!((image.id.as_str(), said.len()), (id.as_str(), 0));

    let held = Wanted { digest: Some(id.clone()), ..always(&reference) };
    let (image, said) = get(&bench, &held).await.unwrap();
    assert_eq!((image.id.as_str(), image.reference.as_str()), (id.as_str(), reference.as_str()));
    let note = notes(&said).join("\n");
    assert!(note.contains("cannot be reached") && note.contains(&id) && note.contains("the release holds"), "{note}");

    let error = get(&bench, &always(&reference)).await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("does not hold a digest"), "{error}");
    let other = Wanted { digest: Some(format!("sha256:{}", "0".repeat(64))), ..always(&reference) };
    let error = get(&bench, &other).await.unwrap_err().to_string();
    assert!(error.contains("not the one that the release holds"), "{error}");

    // By its digest it is found also when the name is gone.
    let (kept, kept_as) = (bench.docker(), longshore_agent::clock::nonce());
    let keep =
        bollard::query_parameters::TagImageOptionsBuilder::new().repo("longshore-test/kept").tag(&kept_as).build();
    kept.tag_image(&id, Some(keep)).await.unwrap();
    remove(&bench, &reference).await;
    let held = Wanted { digest: Some(id.clone()), ..Wanted::from(reference.as_str()) };
    assert_eq!(get(&bench, &held).await.unwrap().0.id, id);
    remove(&bench, &format!("longshore-test/kept:{kept_as}")).await;
    let error = get(&bench, &held).await.unwrap_err().to_string();
    assert!(error.contains("was not pulled: its registry cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_pull_outlives_the_registry_s_death_in_the_middle_of_a_layer() {
    let bench = Bench::new().await;
    let mut registry = Distribution::start();
    let id = registry.push(&bench, "team/app:1", 4 * MIB).await;
    let reference = format!("{}/team/app:1", registry.host());
    registry.gate().shut_after(2 * MIB);
    let broken = tokio::task::spawn_blocking(move || {
        registry.gate().wait_held();
        registry.down();
        registry.gate().open();
        registry.up();
        registry
    });
    let wanted = Wanted::from(reference.as_str());
    let (got, registry) = tokio::join!(get(&bench, &wanted), broken);
    let (image, said) = got.unwrap();
    assert_eq!(image.id, id, "{said:?}");
    drop(registry);
    remove(&bench, &reference).await;
}

#[tokio::test]
async fn a_tag_that_moved_is_seen_by_who_asks_each_time() {
    let bench = Bench::new().await;
    let registry = Distribution::start();
    let reference = format!("{}/team/app:1", registry.host());
    let first = registry.push(&bench, "team/app:1", MIB).await;
    assert_eq!(get(&bench, &reference.as_str().into()).await.unwrap().0.id, first);
    registry.push_as(&bench, TINY, "team/other:1").await;
    // Moved by somebody else: this host's own name stays where it was.
    let second = bench.docker().inspect_image(TINY).await.unwrap().id.unwrap();
    registry.push_as(&bench, TINY, "team/app:1").await;
    let back = bollard::query_parameters::TagImageOptionsBuilder::new()
        .repo(&format!("{}/team/app", registry.host()))
        .tag("1")
        .build();
    bench.docker().tag_image(&first, Some(back)).await.unwrap();
    assert_eq!(get(&bench, &reference.as_str().into()).await.unwrap().0.id, first);
    assert_eq!(get(&bench, &always(&reference)).await.unwrap().0.id, second);
    for name in [&reference, &format!("{}/team/other:1", registry.host()), &first] {
        remove(&bench, name).await;
    }
}

fn step(image: &str) -> OfferStep {
    OfferStep {
        index: 0,
        name: "one".to_owned(),
        image: image.to_owned(),
        profile: Profile::Standard,
        network: longshore_core::offer::Network::None,
        mounts: vec![],
        pulumi: false,
        pull: Pull::default(),
        digest: None,
        resources: longshore_core::resources::Resources::default(),
    }
}

#[tokio::test]
async fn over_the_budget_the_longest_unused_goes_and_never_what_is_needed_or_not_ours() {
    let bench = Bench::new().await;
    let registry = Distribution::start();
    let names = ["old:1", "needed:1", "run:1", "theirs:1", "new:1"];
    let mut references = Vec::new();
    for name in names {
        registry.push(&bench, name, 2 * MIB).await;
        references.push(format!("{}/{name}", registry.host()));
    }
    let [old, needed, run, theirs, new] = &references[..] else { panic!("five") };
    // Somebody else pulled this one before.
    let options = bollard::query_parameters::CreateImageOptionsBuilder::new().from_image(theirs).build();
    let docker = bench.docker();
    let pulled: Vec<_> = futures_util::StreamExt::collect(docker.create_image(Some(options), None, None)).await;
    assert!(pulled.iter().all(Result::is_ok), "{pulled:?}");
    for reference in &references {
        get(&bench, &reference.as_str().into()).await.unwrap();
    }
    assert_eq!(bench.executor.kept_images().await.images, 4);
    // A container of it, by whomever.
    let body = bollard::models::ContainerCreateBody {
        image: Some(run.clone()),
        cmd: Some(vec!["x".to_owned()]),
        ..Default::default()
    };
    let container =
        docker.create_container(None::<bollard::query_parameters::CreateContainerOptions>, body).await.unwrap().id;
    let in_use = bench.executor.uses(&[step(needed)]);

    // Within the budget, or while jobs run, nothing goes.
    configure(&bench, Limits { image_cache_bytes: 1 << 30, ..Limits::default() }, vec![]);
    assert_eq!(bench.executor.collect_images(true).await.removed.len(), 0);
    configure(&bench, Limits { image_cache_bytes: 7 * MIB as u64, ..Limits::default() }, vec![]);
    assert_eq!(bench.executor.collect_images(false).await.removed.len(), 0);

    // Four of two MiB and three fit: the longest unused.
    let collected = bench.executor.collect_images(true).await;
    assert_eq!((collected.removed.len(), there(&bench, old).await), (1, false), "{collected:?}");
    assert!(collected.kept.bytes <= 7 * MIB as u64);

    // The record outlives the agent, and nothing but what is needed or is not ours stays.
    let executor = bench.restarted().await;
    executor.reconfigure(vec![], Limits { image_cache_bytes: 0, ..Limits::default() }, Profile::Standard, vec![]);
    let again = executor.uses(&[step(needed)]);
    executor.collect_images(true).await;
    for (reference, stays) in [(needed, true), (run, true), (theirs, true), (new, false)] {
        assert_eq!(there(&bench, reference).await, stays, "{reference}");
    }
    drop((in_use, again));
    bench.executor.remove(&container).await.unwrap();
    executor.collect_images(true).await;
    for (reference, stays) in [(needed, false), (run, false), (theirs, true)] {
        assert_eq!(there(&bench, reference).await, stays, "{reference}");
    }
    assert_eq!(executor.kept_images().await.images, 0);
    remove(&bench, theirs).await;
}

#[tokio::test]
async fn a_short_disk_makes_room_also_while_jobs_run() {
    let bench = Bench::new().await;
    let registry = Distribution::start();
    registry.push(&bench, "app:1", MIB).await;
    let reference = format!("{}/app:1", registry.host());
    get(&bench, &reference.as_str().into()).await.unwrap();
    configure(&bench, Limits { disk_reserve_bytes: u64::MAX, ..Limits::default() }, vec![]);
    assert_eq!(bench.executor.collect_images(false).await.removed.len(), 1);
    assert!(!there(&bench, &reference).await);
}

#[tokio::test]
async fn an_image_of_a_step_that_runs_stays() {
    let bench = Bench::new().await;
    // Not pulled by this agent at all, whatever the budget.
    configure(&bench, Limits { image_cache_bytes: 0, ..Limits::default() }, vec![]);
    let mut attempt = bench.attempt();
    let (dir, created) = bench.started(&mut attempt, &plan(TINY, "echo up; sleep 600")).await.unwrap();
    bench.prints(&dir, "up").await;
    assert_eq!(bench.executor.collect_images(true).await.removed.len(), 0);
    bench.executor.kill(&created.id).await.unwrap();
    assert!(there(&bench, TINY).await);
}
