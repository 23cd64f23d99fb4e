//! What a job can reach, and where its secrets are.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use longshore_core::offer::Profile;

use crate::bench::{Bench, TINY, plan, printed};

const CANARY: &str = "Zq7-canary/0123456789abcdef";

#[tokio::test]
async fn secrets_reach_the_container_and_nothing_else() {
    let bench = Bench::new().await;
    let script = "printf %s \"$TOKEN\" > /state/seen; echo raw \"$TOKEN\"; cat /state/go; ";
    let mut one = plan(TINY, script);
    one.env = vec![("TOKEN", CANARY.to_owned())];
    one.secrets = vec![CANARY.to_owned()];
    one.mounts = vec!["state".to_owned()];
    let fifo = bench.shared().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (dir, created) = bench.started(&mut bench.attempt(), &one).await.unwrap();
    bench.prints(&dir, "raw [secret]").await;
    let inspect = bench.docker().inspect_container(&created.id, None).await.unwrap();
    let inspect = serde_json::to_string(&inspect).unwrap();
    assert!(!inspect.contains("canary") && !inspect.contains("TOKEN"), "{inspect}");
    assert!(inspect.contains("/.longshore/init"));
    let state = dir.path().ancestors().nth(4).unwrap();
    assert_eq!(Bench::on_disk(state, "canary"), None);
    assert_eq!(std::fs::read_dir(dir.mnt()).unwrap().count(), 1, "the socket is still there");
    std::fs::write(fifo, "").unwrap();
    let outcome = bench.ended(&dir, &created.id).await;
    assert_eq!((outcome.text().as_str(), outcome.record.code), ("raw [secret]\n", Some(0)));
    assert_eq!(std::fs::read_to_string(bench.shared().join("seen")).unwrap(), CANARY);
    assert_eq!(Bench::on_disk(state, "canary"), None);
}

#[tokio::test]
async fn root_in_the_container_reaches_neither_init_nor_its_log() {
    let bench = Bench::new().await;
    let script = "id -u; \
        cat /proc/1/environ && echo READ environ; cat /proc/1/mem && echo READ mem; \
        for n in /proc/1/fd/*; do readlink $n && echo READ $n; done; \
        for n in 0 1 2 3 4 5 6 7 8 9 10 11 12; do (echo forged > /proc/1/fd/$n) 2>/dev/null && echo WROTE fd $n; done; \
        (echo forged > /.longshore/init) 2>/dev/null && echo WROTE init; \
        (echo x > /.longshore/x) 2>/dev/null && echo WROTE mount; \
        (echo forged > /proc/1/exe) 2>/dev/null && echo WROTE exe; \
        ls -a /.longshore; kill -INT 1; kill -KILL 1; echo still here";
    for profile in [Profile::Standard, Profile::Locked] {
        let mut one = plan(TINY, script);
        one.profile = profile;
        let outcome = bench.run(&one).await;
        let text = outcome.text();
        assert!(text.starts_with("0\n"), "{profile:?}: {text}");
        for wrong in ["READ", "WROTE", "init.sock", "forged"] {
            assert!(!text.contains(wrong), "{profile:?}: {wrong} in\n{text}");
        }
    }
}

#[tokio::test]
async fn a_stranger_on_the_socket_gets_nothing() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let one = plan(TINY, "echo ran");
    let (step, image, created) = bench.created(&mut attempt, &one).await.unwrap();
    let dir = bench.executor.step_dir(step.fence.attempt, 0);
    let directory = std::fs::File::open(dir.mnt()).unwrap();
    let stranger = std::thread::spawn(move || {
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fd/{}/init.sock", directory.as_raw_fd());
        let mut stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        let mut got = Vec::new();
        stream.read_to_end(&mut got).ok();
        got
    });
    let orders =
        longshore_agent::executor::handover(&step, &attempt.offer, &crate::bench::grant(&one), &image).unwrap();
    bench.executor.start(&step, &created, &orders, longshore_core::init::control::Deadlines::default()).await.unwrap();
    assert_eq!(stranger.join().unwrap(), b"");
    bench.ended(&dir, &created.id).await;
    assert_eq!(printed(&dir), b"ran\n");
}

#[tokio::test]
async fn what_containers_reach_is_found_out_without_an_image_of_anyone() {
    let bench = Bench::new().await;
    let network = bench.executor.ensure_network().await.unwrap();
    let network = bench.docker().inspect_network(&network, None).await.unwrap();
    let gateway = network.ipam.unwrap().config.unwrap()[0].gateway.clone().unwrap();
    let open = std::net::TcpListener::bind((gateway.as_str(), 0)).unwrap().local_addr().unwrap();
    // Closed again, but for the second.
    let listening = std::net::TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let there = listening.local_addr().unwrap();
    let nowhere = "[fd00:ec2::254]:80".parse().unwrap();
    assert_eq!(bench.executor.in_reach(&[open, there, nowhere]).await.unwrap(), [there]);
    assert_eq!(bench.executor.in_reach(&[open]).await.unwrap(), []);
    bench.executor.well().await.unwrap();
    let docker = bench.docker();
    let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.unwrap();
    let tags: Vec<String> = images.into_iter().flat_map(|image| image.repo_tags).collect();
    let agent = bench.executor.agent().to_string();
    assert!(tags.iter().all(|tag| !tag.contains(&agent)), "{tags:?}");
}
