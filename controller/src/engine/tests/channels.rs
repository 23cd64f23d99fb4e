//! Channels: which one a release is in, and that its rules and its lifecycle hold on every way.

use super::*;

const ONE: &str = "steps:\n  - {name: one, image: tiny, run: 'true', env: {SIZE: '${{ vars.size }}'}}\n";
/// `beta` goes through `dev` by itself; `old` has no `live`.
const CHANNELS: &str = "lifecycle:\n  - {phase: test, environments: [dev]}\n  - {phase: stage, environments: [staging]}\n  - {phase: live, environments: [live]}\n\
    channels:\n  - {name: stable, prerelease: none, default: true}\n  \
    - {name: beta, prerelease: [beta, 'rc*'], lifecycle: [{phase: try, environments: [dev], mode: automatic}, {phase: show, environments: [staging]}]}\n  \
    - {name: old, versions: '<2.0.0', lifecycle: [{phase: fix, environments: [staging]}]}\n\
    variables: {size: {value: 1, channels: {beta: 2}, environments: {staging: 3}}}\n";

async fn world() -> World {
    let world = World::new().await;
    world.apply(&format!("{CHANNELS}{ONE}")).await;
    world
}

async fn make(world: &World, version: Option<&str>, channel: Option<&str>) -> Result<ReleaseView> {
    let (version, channel) = (version.map(str::to_owned), channel.map(str::to_owned));
    world.engine.create_release("shop", NewRelease { version, channel, ..NewRelease::default() }, "anna").await
}

/// Code, message and hint of a refusal.
fn no<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, String) {
    match result.unwrap_err() {
        Error::Refused { code, message, hint } | Error::Conflict { code, message, hint } => {
            (code, format!("{message}; {}", hint.unwrap_or_default()))
        }
        Error::NotFound { kind, name, hint } => ("not_found", format!("{kind} {name}; {}", hint.unwrap_or_default())),
        Error::Invalid { field, message, hint } => {
            ("invalid", format!("{field}: {message}; {}", hint.unwrap_or_default()))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_version_decides_about_the_channel_and_none_is_made_that_fits_nowhere() {
    let world = world().await;
    for (version, asked, channel) in [
        ("1.0.0", None, "stable"),
        ("1.0.1", Some("old"), "old"),
        ("2.0.0-rc1", None, "beta"),
        ("1.5.0-x", None, "old"),
    ] {
        let made = make(&world, Some(version), asked).await.unwrap();
        assert_eq!((made.version.as_str(), made.channel.as_str()), (version, channel));
        assert_eq!(world.engine.release("shop", version).await.unwrap().channel, channel);
    }
    for (version, asked, code, part) in [
        (Some("3.0.0-x"), None, "no_channel", "of `old`, its `versions` are `<2.0.0`"),
        (Some("1.0.0-rc.1"), None, "channel_ambiguous", "(`beta`, `old`)"),
        (Some("3.0.0"), Some("beta"), "channel_refuses", "this one has none"),
        (None, Some("beta"), "channel_refuses", "--version"),
        (Some("3.0.0"), Some("stabel"), "not_found", "did you mean `stable`?"),
        (Some("3"), None, "invalid", "MAJOR.MINOR.PATCH"),
        (Some("1.0.0"), Some("old"), "version_taken", "a release never changes"),
    ] {
        let (was, words) = no(make(&world, version, asked).await);
        assert_eq!(was, code, "{words}");
        assert!(words.contains(part), "{part}: {words}");
    }
    let of = async |channel: Option<&str>| {
        let found = world
            .engine
            .releases("shop", ReleaseFilter { channel: channel.map(str::to_owned), ..ReleaseFilter::default() })
            .await;
        found.map(|rows| rows.into_iter().map(|row| row.version).collect::<Vec<_>>())
    };
    assert_eq!(of(None).await.unwrap(), ["2.0.0-rc1", "1.5.0-x", "1.0.1", "1.0.0"], "nothing else was made");
    assert_eq!(of(Some("old")).await.unwrap(), ["1.5.0-x", "1.0.1"]);
    assert_eq!(no(of(Some("olt")).await).0, "not_found");
}

#[tokio::test]
async fn the_next_version_is_one_of_the_channel() {
    let world = world().await;
    for version in ["1.4.9", "2.3.0"] {
        make(&world, Some(version), Some("stable")).await.unwrap();
    }
    let old = make(&world, None, Some("old")).await.unwrap();
    assert_eq!((old.version.as_str(), old.channel.as_str()), ("1.4.10", "old"), "below its upper bound");
    let next = make(&world, None, None).await.unwrap();
    assert_eq!((next.version.as_str(), next.channel.as_str()), ("2.3.1", "stable"));
    // Pre-releases of what comes later do not lead to it.
    for n in 1..60 {
        make(&world, Some(&format!("3.0.0-rc.{n}")), None).await.unwrap();
    }
    assert_eq!(make(&world, None, None).await.unwrap().version, "2.3.2");
}

#[tokio::test]
async fn without_channels_everything_is_in_one() {
    let mut world = World::new().await;
    world.apply("steps:\n  - {name: one, image: tiny, run: 'true'}\n").await;
    assert_eq!(make(&world, Some("1.0.0-rc.1"), None).await.unwrap().channel, "default");
    assert_eq!(make(&world, None, Some("default")).await.unwrap().version, "1.0.0");
    assert_eq!(no(make(&world, None, Some("beta")).await).0, "not_found");
    let id = world.deploy().await;
    let version = world.view(id).await.release;
    assert_eq!(world.engine.release("shop", &version).await.unwrap().channel, "default");
}

#[tokio::test]
async fn a_release_goes_through_the_phases_of_its_channel_alone() {
    let mut world = world().await;
    let mut sim = world.agent().await;
    make(&world, Some("1.0.0"), Some("old")).await.unwrap();
    make(&world, Some("2.0.0"), None).await.unwrap();
    let (code, words) = no(world.deploy_release("1.0.0", "live").await);
    assert_eq!(code, "lifecycle");
    assert!(words.contains("in no phase of the lifecycle of channel `old`"), "{words}");
    assert_eq!(no(world.deploy_release("2.0.0", "staging").await).0, "lifecycle");
    let promoted = world.engine.promote("shop", "1.0.0", "p", BTreeMap::new(), "anna").await.unwrap();
    assert_eq!((promoted.phase.as_str(), promoted.deployments[0].environment.as_str()), ("fix", "staging"));
    let before = world.engine.promoted_before("shop", "1.0.0", "p").await.unwrap();
    assert_eq!(before.as_ref(), Some(&promoted));
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    let over = world.engine.promote("shop", "1.0.0", "q", BTreeMap::new(), "anna").await;
    assert_eq!(no(over).0, "passed_every_phase");
    // What the spec says later is nothing for a release that was there before.
    world.apply(ONE.replace("${{ vars.size }}", "1").as_str()).await;
    assert_eq!(no(world.deploy_release("1.0.0", "live").await).0, "lifecycle");
    assert_eq!(no(world.deploy_release("2.0.0", "staging").await).0, "lifecycle");
}

#[tokio::test]
async fn automatic_phases_are_those_of_the_channel_also_after_a_restart() {
    let mut world = world().await;
    make(&world, Some("1.0.0"), None).await.unwrap();
    make(&world, Some("2.0.0-beta.1"), None).await.unwrap();
    // More releases than are looked at, in another channel, do not hide it.
    for minor in 0..25 {
        make(&world, Some(&format!("3.{minor}.0")), None).await.unwrap();
    }
    world.restart().await;
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    assert_eq!(offer.environment, "dev");
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    let all = world.engine.deployments(DeploymentFilter::default()).await.unwrap();
    let all: Vec<_> = all.iter().map(|one| format!("{}@{}", one.release, one.environment)).collect();
    assert_eq!(all, ["2.0.0-beta.1@dev"]);
}

#[tokio::test]
async fn what_is_deployed_without_a_release_is_in_the_default_channel_or_the_one_that_is_named() {
    let mut world = world().await;
    let wish = |channel: Option<&str>, environment: &str| NewDeployment {
        channel: channel.map(str::to_owned),
        environment: environment.to_owned(),
        ..NewDeployment::default()
    };
    let id = world.ask(wish(None, "dev")).await.unwrap();
    let version = world.view(id).await.release;
    assert_eq!(world.engine.release("shop", &version).await.unwrap().channel, "stable");
    let (code, words) = no(world.ask(wish(Some("old"), "dev")).await);
    assert_eq!((code, words.contains("channel `old`")), ("lifecycle", true), "{words}");
    assert_eq!(no(world.ask(wish(None, "staging")).await).0, "lifecycle");
    assert_eq!(no(world.ask(wish(Some("beta"), "dev")).await).0, "channel_refuses");
    assert_eq!(no(world.ask(wish(Some("bata"), "dev")).await).0, "not_found");
    let id = world.ask(wish(Some("old"), "staging")).await.unwrap();
    let version = world.view(id).await.release;
    assert_eq!(world.engine.release("shop", &version).await.unwrap().channel, "old");
    let other = NewDeployment { release: Some(version.clone()), ..wish(Some("stable"), "staging") };
    let (code, words) = no(world.ask(other).await);
    assert_eq!((code, words.contains("is in channel `old`")), ("invalid", true), "{words}");
    let same = NewDeployment { release: Some(version), ..wish(Some("old"), "staging") };
    world.ask(same).await.unwrap();
}

#[tokio::test]
async fn a_block_holds_in_every_channel_for_what_is_the_same() {
    let mut world = world().await;
    make(&world, Some("1.0.0"), None).await.unwrap();
    world.engine.block_release("shop", "1.0.0", Some("CVE-1".to_owned()), "eve").await.unwrap();
    let wish = NewDeployment {
        channel: Some("old".to_owned()),
        environment: "staging".to_owned(),
        ..NewDeployment::default()
    };
    assert_eq!(no(world.ask(wish).await).0, "release_blocked");
}

#[tokio::test]
async fn where_a_new_release_goes_by_itself_is_known_by_its_channel() {
    let world = world().await;
    let automatic = async |channel: Option<&str>, version: Option<&str>| {
        let subject = Subject::New { channel: channel.map(str::to_owned), version: version.map(str::to_owned) };
        world.engine.below("shop", &subject).await.map(|below| below.automatic.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(automatic(None, Some("2.0.0-rc.1")).await.unwrap(), ["dev"]);
    assert_eq!(automatic(None, Some("2.0.0")).await.unwrap(), [""; 0]);
    assert_eq!(automatic(Some("old"), None).await.unwrap(), [""; 0]);
    assert_eq!(no(automatic(None, Some("2.0.0-x")).await).0, "no_channel");
}

#[tokio::test]
async fn a_value_may_be_for_a_channel() {
    let mut world = world().await;
    let mut sim = world.agent().await;
    make(&world, Some("2.0.0-rc.1"), None).await.unwrap();
    make(&world, Some("2.0.0"), None).await.unwrap();
    let size = async |world: &World, id| {
        let row = world.engine.read(move |tx| Box::pin(async move { Ok(tx.deployment(id).await?) })).await.unwrap();
        row.unwrap().variables["size"].clone()
    };
    let offer = sim.offer().await;
    assert_eq!(size(&world, offer.deployment).await, "2", "beta, by itself");
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    let stable = world.deploy_release("2.0.0", "dev").await.unwrap();
    assert_eq!(size(&world, stable).await, "1");
    let beta = world.deploy_release("2.0.0-rc.1", "staging").await.unwrap();
    assert_eq!(size(&world, beta).await, "3", "an environment is narrower");
    let explained = async |environment: &str, channel: Option<&str>| {
        let at = (channel.map(str::to_owned), None);
        world.engine.explain_variable("shop", "size", environment, at).await
    };
    let beta = explained("dev", Some("beta")).await.unwrap();
    assert_eq!((beta.value.as_deref(), beta.from.as_str()), (Some("2"), "the spec for channel `beta`"));
    assert_eq!(explained("dev", None).await.unwrap().value.as_deref(), Some("1"), "the default channel");
    let staging = explained("staging", Some("beta")).await.unwrap();
    assert_eq!(staging.beaten[0].from, "the spec for channel `beta`");
    assert_eq!(no(explained("dev", Some("bata")).await).0, "not_found");
}

#[tokio::test]
async fn a_rollback_goes_to_what_was_there_before_whatever_its_channel() {
    let mut world = world().await;
    let mut sim = world.agent().await;
    make(&world, Some("1.0.0"), None).await.unwrap();
    world.pass(&mut sim, "1.0.0", "dev").await;
    make(&world, Some("2.0.0-rc.1"), None).await.unwrap();
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    let target = world.engine.rollback_target("shop", "dev").await.unwrap();
    assert_eq!(target, "1.0.0");
    world.engine.rollback("shop", "dev", target, "back", "anna").await.unwrap();
}

#[tokio::test]
async fn another_project_deploys_the_newest_of_the_default_channel() {
    let world = world().await;
    make(&world, Some("1.0.0"), None).await.unwrap();
    make(&world, Some("2.0.0-rc.1"), None).await.unwrap();
    let parent = "version: 1\nproject: all\nenvironments: [{name: dev}]\nsteps: [{name: shop, deploy-release: {project: shop}}]\n";
    world.engine.apply_project(parent.as_bytes(), "anna").await.unwrap();
    let made = world.engine.create_release("all", NewRelease::default(), "anna").await.unwrap();
    assert_eq!(made.steps[0].child.as_ref().unwrap().version, "1.0.0");
    let named = async |channel: &str| {
        let text = parent.replace("{project: shop}", &format!("{{project: shop, channel: {channel}}}"));
        world.engine.apply_project(text.as_bytes(), "anna").await.unwrap();
        world.engine.create_release("all", NewRelease::default(), "anna").await
    };
    assert_eq!(named("beta").await.unwrap().steps[0].child.as_ref().unwrap().version, "2.0.0-rc.1");
    let (code, words) = no(named("old").await);
    assert_eq!((code, words.contains("no release in channel `old`")), ("no_child_release", true), "{words}");
    assert_eq!(no(named("bata").await).0, "not_found");
}
