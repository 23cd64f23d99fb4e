//! A pool's plugins under the real Pulumi: the image has no provider, so what runs came through the pool. `cargo xtask pulumi-image` made
//! the image that it comes from.

use std::process::Command;

use longshore_tests::dev::Dev;
use longshore_tests::docker::docker;
use longshore_tests::process::{run, wait_for};
use serde_json::Value;

const BAKED: &str = "longshore/pulumi:3.259.0";
const PLUGINS: &str = "/opt/pulumi/plugins";
const PLUGIN: &str = "resource-dock-v0.1.0";

/// The image without its provider; removed at the end.
struct Bare(String);

impl Bare {
    fn make() -> Self {
        assert_eq!(
            docker(&["image", "inspect", BAKED]).code,
            0,
            "these tests need `{BAKED}`: cargo xtask pulumi-image"
        );
        let image = format!("longshore-test/pulumi-bare:{}", std::process::id());
        let baked = format!("{PLUGINS}/{PLUGIN}");
        let id = docker(&["create", "--network", "none", "--entrypoint", "rm", BAKED, "-r", &baked])
            .ok()
            .text()
            .trim()
            .to_owned();
        let _removed = docker(&["start", "-a", &id]).ok();
        let _made = docker(&["commit", "--change", "ENTRYPOINT []", "--change", "CMD [\"pulumi\"]", &id, &image]).ok();
        let _gone = docker(&["rm", &id]).ok();
        Self(image)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _removed = docker(&["rmi", "-f", &self.0]);
    }
}

/// The checksum of the provider's files, as the manual says to find it.
fn checksum() -> String {
    let sum = format!(
        "cd {PLUGINS}/{PLUGIN} && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum | sha256sum"
    );
    let printed = docker(&["run", "--rm", "--network", "none", "--entrypoint", "sh", BAKED, "-c", &sum]).ok();
    printed.text().split_whitespace().next().unwrap().to_owned()
}

fn set_plugins(dev: &Dev, checksum: &str) {
    let text = format!(
        "[[plugins]]\nname = \"dock\"\nversion = \"0.1.0\"\nchecksum = \"sha256:{checksum}\"\nfrom = {{image = \"{BAKED}\", path = \"{PLUGINS}\"}}\n"
    );
    let path = dev.dir().join("pool.toml");
    std::fs::write(&path, text).unwrap();
    let _applied = dev.cli(&["pool", "apply", "default", "--file", path.to_str().unwrap()]).ok();
}

fn program(dev: &Dev, more: &str) -> String {
    let dir = dev.dir().join("program");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "name: p\nruntime: yaml\nconfig:\n  dock:yard:\n    value: /state/yard\nresources:\n  one:\n    type: dock:Berth\n    properties:\n      \
         name: one\n      content: x{}\n{more}outputs:\n  path: ${{one.path}}\n",
        more.len()
    );
    std::fs::write(dir.join("Pulumi.yaml"), text).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn spec(image: &str) -> String {
    format!(
        "version: 1\nproject: p\nenvironments:\n  - name: dev\nvariables:\n  passphrase: {{secret: true}}\nsteps:\n  - name: infra\n    image: {image}\n    network: none\n    mounts: [state]\n    \
         pulumi: {{operation: up, backend: \"file:///state\"}}\n    env: {{PULUMI_CONFIG_PASSPHRASE: \"${{{{ secrets.passphrase }}}}\", PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: \"true\"}}\n"
    )
}

fn rejected(dev: &Dev, id: &str) -> Option<String> {
    let explained: Value = dev.json(&["explain", id]);
    let found =
        explained["agents"][0]["rejected_by"].as_array()?.iter().find(|found| found["predicate"] == "plugins")?;
    Some(found["message"].as_str()?.to_owned())
}

#[test]
fn a_provider_that_only_the_pool_has_runs_and_nothing_is_downloaded_and_poison_stays_where_it_was() {
    let bare = Bare::make();
    let dev = Dev::start();
    let checksum = checksum();
    dev.apply(&spec(&bare.0));
    dev.set_secret("p", "passphrase", "pass phrase");
    let package = program(&dev, "");

    // A wrong checksum: the agent is not ready and says why, and the job waits.
    set_plugins(&dev, &"0".repeat(64));
    let id = dev.deploy("p", &["--package", &package]);
    let why = wait_for("the reason", || rejected(&dev, &id).filter(|why| why.contains("sha256:")));
    assert!(why.contains(&checksum) && why.contains("not used"), "{why}");
    set_plugins(&dev, &checksum);
    let shown = dev.end(&id);
    let log = || String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", log());
    let step = &shown["steps"][0];
    assert_eq!((&step["plugin_hits"], &step["plugin_downloads"]), (&1.into(), &0.into()), "{step:#}");

    // While the provider of the next one runs: as root, in its container, over the plugin, in its place and beside it.
    let hanging = program(&dev, "      hang: true\n");
    let id = dev.deploy("p", &["--package", &hanging]);
    wait_for("the provider to run", || {
        let journal = std::fs::read_to_string(dev.state().join("yard/journal"));
        journal.is_ok_and(|journal| journal.matches("start").count() > 1).then_some(())
    });
    let poison = format!(
        "cd /longshore/pulumi/plugins && touch {PLUGIN}.lock && mv {PLUGIN} gone && mkdir -p {PLUGIN} resource-evil-v1.0.0 && \
         echo evil > {PLUGIN}/pulumi-resource-dock && cat {PLUGIN}/pulumi-resource-dock"
    );
    let poisoned = docker(&["exec", "-u", "0", &dev.container(&id), "sh", "-c", &poison]).ok();
    assert_eq!(poisoned.text(), "evil\n");
    let _asked = dev.cli(&["cancel", &id]).ok();
    assert_eq!(dev.end(&id)["state"], "canceled");
    let id = dev.deploy("p", &["--package", &program(&dev, "")]);
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "succeeded", "the next job finds what the first one found: {shown:#}");
    assert_eq!(shown["steps"][0]["plugin_hits"], 1, "{shown:#}");

    // No volume of any attempt is left, and the metric counts.
    let hex = shown["steps"][0]["attempts"][0]["id"].as_str().unwrap().trim_start_matches("att_").to_owned();
    wait_for("the volumes to go", || {
        let left = docker(&["volume", "ls", "-q", "--filter", &format!("label=longshore.attempt=att_{hex}")]).text();
        left.is_empty().then_some(())
    });
    let metrics = run(Command::new("curl").args(["-s", &format!("{}/metrics", dev.url())]), b"").text();
    assert!(
        metrics.contains("longshore_plugin_hits_total") && metrics.contains("longshore_plugin_downloads_total 0"),
        "{metrics}"
    );
}
