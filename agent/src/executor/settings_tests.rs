use super::*;
use std::path::PathBuf;

use longshore_core::fence::Fence;
use longshore_core::offer::OfferStep;
use longshore_core::resources::{Bytes, Cpus, Resources};

const HOST: Host = Host { memory: 1000, cpus: 2 };

fn config() -> Config {
    Config {
        socket: PathBuf::from("/run/docker.sock"),
        state_dir: PathBuf::from("/state"),
        controller: "ctl_1".to_owned(),
        agent: format!("agt_{}", "1".repeat(32)).parse().unwrap(),
        mounts: vec![Mount {
            name: "state".to_owned(),
            source: PathBuf::from("/srv/state"),
            target: "/state".to_owned(),
            read_only: true,
        }],
        limits: Limits::default(),
        weakest_profile: Profile::Standard,
        registries: vec![],
    }
}

fn step(profile: Profile, network: Network, mounts: &[&str]) -> Step {
    Step {
        fence: Fence { attempt: format!("att_{}", "a".repeat(32)).parse().unwrap(), epoch: 3, incarnation: 1 },
        job: format!("job_{}", "b".repeat(32)).parse().unwrap(),
        offer: OfferStep {
            index: 2,
            name: "infra".to_owned(),
            image: "tiny:1".to_owned(),
            profile,
            network,
            mounts: mounts.iter().map(|&name| name.to_owned()).collect(),
            pulumi: false,
            resources: Resources::default(),
            pull: longshore_core::offer::Pull::default(),
            digest: None,
        },
    }
}

fn image() -> Image {
    Image { reference: "tiny:1".to_owned(), id: "sha256:1".to_owned(), user: String::new(), env: vec![] }
}

fn body(config: &Config, step: &Step) -> Result<ContainerCreateBody, Error> {
    step_container(config, HOST, step, &image(), Path::new("/mnt"), Some("net1"))
}

#[test]
fn standard_is_dockers_default_less_what_no_deployment_needs() {
    let body = body(&config(), &step(Profile::Standard, Network::Longshore, &["state"])).unwrap();
    let host = body.host_config.unwrap();
    assert_eq!(host.readonly_rootfs, Some(false));
    assert_eq!(host.cap_drop.unwrap(), STANDARD_DROPS);
    assert_eq!((host.cap_add, host.privileged), (None, Some(false)));
    assert_eq!(host.network_mode.as_deref(), Some("net1"));
    assert_eq!(host.tmpfs.unwrap().into_keys().collect::<Vec<_>>(), [CREDENTIALS]);
    let mount = host.mounts.unwrap().remove(2);
    assert_eq!(
        (mount.source.as_deref(), mount.target.as_deref(), mount.read_only),
        (Some("/srv/state"), Some("/state"), Some(true))
    );
    assert_eq!(body.hostname, Some(format!("att-{}", "a".repeat(32))));
    assert_eq!(body.labels.unwrap()["longshore.epoch"], "3");
}

#[test]
fn locked_has_no_capabilities_and_nothing_to_write_to() {
    let host = body(&config(), &step(Profile::Locked, Network::None, &[])).unwrap().host_config.unwrap();
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert!(host.tmpfs.unwrap().contains_key("/tmp"));
}

/// Only what is named here may be set at all: a field that someone adds has to be thought about.
#[test]
fn nothing_beyond_the_allow_list_is_set() {
    for profile in [Profile::Standard, Profile::Locked] {
        let body = body(&config(), &step(profile, Network::Longshore, &["state"])).unwrap();
        let json = serde_json::to_value(&body).unwrap();
        let mut top: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        top.sort_unstable();
        let allowed = [
            "Cmd",
            "Entrypoint",
            "Healthcheck",
            "HostConfig",
            "Hostname",
            "Image",
            "Labels",
            "StopSignal",
            "StopTimeout",
            "WorkingDir",
        ];
        assert_eq!(top, allowed);
        let mut host: Vec<_> = json["HostConfig"].as_object().unwrap().keys().map(String::as_str).collect();
        host.sort_unstable();
        let allowed = [
            "CapDrop",
            "IpcMode",
            "LogConfig",
            "Memory",
            "MemorySwap",
            "Mounts",
            "NetworkMode",
            "PidsLimit",
            "Privileged",
            "ReadonlyRootfs",
            "RestartPolicy",
            "SecurityOpt",
            "Tmpfs",
            "Ulimits",
        ];
        assert_eq!(host, allowed);
        assert!(!json.to_string().contains("docker.sock"));
        assert_eq!(json["HostConfig"]["LogConfig"]["Type"], "none");
    }
}

#[test]
fn unknown_mounts_and_weak_profiles_are_refused_by_name() {
    let error = body(&config(), &step(Profile::Standard, Network::None, &["etc"])).unwrap_err().to_string();
    assert!(error.contains("`etc`") && error.contains("`state`") && error.contains("`infra`"), "{error}");
    let locked = Config { weakest_profile: Profile::Locked, ..config() };
    let error = body(&locked, &step(Profile::Standard, Network::None, &[])).unwrap_err().to_string();
    assert!(error.contains("`standard`"), "{error}");
}

#[test]
fn bounds_never_ask_for_more_than_the_host_has() {
    assert_eq!(bounds(&Limits::default(), HOST).memory, Some(900));
    let limits = Limits { memory_bytes: Some(5000), cpus: Some(7.5), ..Limits::default() };
    let host = bounds(&limits, HOST);
    assert_eq!((host.memory, host.memory_swap, host.nano_cpus), (Some(1000), Some(1000), Some(2_000_000_000)));
    assert_eq!(nano_cpus(0.5, 2), 500_000_000);
}

#[test]
fn a_step_gets_the_limits_it_asked_for_and_never_more_than_the_agents() {
    let asked = |limits: Limits, cpus, memory| {
        let mut step = step(Profile::Standard, Network::None, &[]);
        step.offer.resources = Resources { cpus: Cpus(cpus), memory: Bytes(memory), disk: Bytes(1) };
        let host = body(&Config { limits, ..config() }, &step).unwrap().host_config.unwrap();
        (host.nano_cpus, host.memory)
    };
    let own = || Limits { cpus: Some(1.0), memory_bytes: Some(500), ..Limits::default() };
    assert_eq!(asked(Limits::default(), 0, 0), (None, Some(900)), "as without a request");
    assert_eq!(asked(Limits::default(), 1_500, 300), (Some(1_500_000_000), Some(300)));
    assert_eq!(asked(own(), 500, 300), (Some(500_000_000), Some(300)));
    assert_eq!(asked(own(), 1_500, 800), (Some(1_000_000_000), Some(500)));
}
