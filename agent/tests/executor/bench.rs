//! An executor on a real engine with a state directory of its own, tiny images, and a spool reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use longshore_agent::clock;
use longshore_agent::executor::{Config, Created, End, Error, Executor, Image, Limits, Mount, Step, StepDir, handover};
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, DeploymentId, JobId};
use longshore_core::init::ExitRecord;
use longshore_core::init::control::Deadlines;
use longshore_core::offer::{Action, Grant, Network, Offer, OfferStep, OutputsKey, Profile};
use longshore_core::secret::Secret;
use longshore_core::spool::{Decoder, Stream};

/// busybox with its applets, root.
pub(crate) const TINY: &str = "longshore-test/tiny:1";
/// The same as user 1234, group 77, by number.
pub(crate) const TINY_1234: &str = "longshore-test/tiny-1234:1";
/// The same as a user by name: uid 1000, gid 1001.
pub(crate) const TINY_NAMED: &str = "longshore-test/tiny-named:1";
/// One static binary and nothing else, user 1234.
pub(crate) const SCRATCH: &str = "longshore-test/scratch:1";

const SOCKET: &str = "/var/run/docker.sock";

pub(crate) struct Bench {
    pub(crate) executor: Executor,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    config: Config,
}

/// How a step ended, with what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) record: ExitRecord,
    pub(crate) out: Vec<u8>,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

pub(crate) struct Plan {
    pub(crate) image: &'static str,
    pub(crate) index: u32,
    pub(crate) script: String,
    pub(crate) profile: Profile,
    pub(crate) network: Network,
    pub(crate) mounts: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) secrets: Vec<String>,
    pub(crate) package: Option<PathBuf>,
    /// The step is one of Pulumi, which gets the pool's plugins.
    pub(crate) pulumi: bool,
}

pub(crate) fn plan(image: &'static str, script: &str) -> Plan {
    Plan {
        image,
        index: 0,
        script: script.to_owned(),
        profile: Profile::Standard,
        network: Network::None,
        mounts: vec![],
        env: vec![],
        secrets: vec![],
        package: None,
        pulumi: false,
    }
}

/// One attempt, whose steps share a workspace.
pub(crate) struct Attempt {
    pub(crate) offer: Offer,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::on(Path::new(SOCKET), Limits::default()).await
    }

    pub(crate) async fn on(socket: &Path, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's address may be.
        let state_dir = dir.path().join("d".repeat(120));
        let shared = dir.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let config = Config {
            socket: socket.to_owned(),
            state_dir,
            controller: "ctl_test".to_owned(),
            agent: AgentId::new(clock::now(), clock::random()),
            mounts: vec![Mount {
                name: "state".to_owned(),
                source: shared,
                target: "/state".to_owned(),
                read_only: false,
            }],
            limits,
            weakest_profile: Profile::Standard,
            registries: vec![],
        };
        let executor = Executor::connect(config.clone()).await;
        let executor = executor.unwrap_or_else(|error| panic!("these tests need a container engine: {}", error.full()));
        let bench = Self { executor, dir, socket: socket.to_owned(), config };
        bench.make_images().await;
        bench
    }

    /// The agent after a restart: a new executor on the same state.
    pub(crate) async fn restarted(&self) -> Executor {
        Executor::connect(self.config.clone()).await.unwrap()
    }

    /// Another client of the engine, for what happens behind the executor's back.
    pub(crate) fn docker(&self) -> Docker {
        Docker::connect_with_unix(self.socket.to_str().unwrap(), 60, bollard::API_DEFAULT_VERSION).unwrap()
    }

    pub(crate) fn shared(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    pub(crate) fn attempt(&self) -> Attempt {
        let offer = Offer {
            fence: Fence { attempt: AttemptId::new(clock::now(), clock::random()), epoch: 1, incarnation: 1 },
            job: JobId::new(clock::now(), clock::random()),
            deployment: DeploymentId::new(clock::now(), clock::random()),
            project: "shop".to_owned(),
            environment: "dev".to_owned(),
            url: String::new(),
            steps: vec![],
            package: None,
        };
        Attempt { offer }
    }

    pub(crate) async fn created(&self, attempt: &mut Attempt, plan: &Plan) -> Result<(Step, Image, Created), Error> {
        attempt.offer.steps.retain(|step| step.index != plan.index);
        attempt.offer.steps.push(OfferStep {
            index: plan.index,
            name: "one".to_owned(),
            image: plan.image.to_owned(),
            profile: plan.profile,
            network: plan.network,
            mounts: plan.mounts.clone(),
            pulumi: plan.pulumi,
            resources: longshore_core::resources::Resources::default(),
            pull: longshore_core::offer::Pull::default(),
            digest: None,
        });
        let step = Step::of(&attempt.offer, plan.index).unwrap();
        let image = self.executor.prepare_image(&plan.image.into(), |_| ()).await?;
        let created = self.executor.create(&step, &image).await?;
        self.executor.prepare_workspace(&step, &created, plan.package.as_deref()).await?;
        Ok((step, image, created))
    }

    pub(crate) async fn started(&self, attempt: &mut Attempt, plan: &Plan) -> Result<(StepDir, Created), Error> {
        let (step, image, created) = self.created(attempt, plan).await?;
        let orders = handover(&step, &attempt.offer, &grant(plan), &image)?;
        self.executor.start(&step, &created, &orders, Deadlines::default()).await?;
        Ok((self.executor.step_dir(step.fence.attempt, step.offer.index), created))
    }

    pub(crate) async fn run_in(&self, attempt: &mut Attempt, plan: &Plan) -> Result<Outcome, Error> {
        let (dir, created) = self.started(attempt, plan).await?;
        let outcome = self.ended(&dir, &created.id).await;
        self.executor.remove(&created.id).await?;
        Ok(outcome)
    }

    pub(crate) async fn run(&self, plan: &Plan) -> Outcome {
        self.run_in(&mut self.attempt(), plan).await.unwrap_or_else(|error| panic!("{}", error.full()))
    }

    pub(crate) async fn ended(&self, dir: &StepDir, container: &str) -> Outcome {
        match self.end(dir, container).await {
            End::Exit(record) => Outcome { out: printed(dir), record: *record },
            End::Gone { detail } => panic!("gone: {detail}"),
        }
    }

    pub(crate) async fn end(&self, dir: &StepDir, container: &str) -> End {
        let end = self.executor.wait_end(dir, container, 0);
        tokio::time::timeout(Duration::from_secs(120), end).await.expect("the step did not end")
    }

    /// Waits until the step has printed this.
    pub(crate) async fn prints(&self, dir: &StepDir, text: &str) {
        let mut watch = longshore_agent::executor::SpoolWatch::new(dir).unwrap();
        let mut seen = 0;
        let wait = async {
            while !String::from_utf8_lossy(&printed(dir)).contains(text) {
                seen = watch.longer_than(seen).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap_or_else(|_| panic!("`{text}` was not printed"));
    }

    /// Whether the text stands in any file below a directory.
    pub(crate) fn on_disk(dir: &Path, text: &str) -> Option<PathBuf> {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                if let Some(found) = Self::on_disk(&path, text) {
                    return Some(found);
                }
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return Some(path);
                }
            }
        }
        None
    }

    async fn make_images(&self) {
        self.import(SCRATCH, &["USER 1234"], |_| ()).await;
        for (image, user) in [(TINY, None), (TINY_1234, Some("USER 1234:77")), (TINY_NAMED, Some("USER pulumi"))] {
            let user: Vec<&str> = user.into_iter().collect();
            self.import(image, &user, |tar| {
                for applet in APPLETS.split_whitespace() {
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
                }
                add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\npulumi:x:1000:1001::/home/pulumi:/bin/sh\n", 0o644);
                add(tar, "tmp/.keep", b"", 0o644);
            })
            .await;
        }
    }

    /// An image that has a folder of the host at `/baked`.
    pub(crate) async fn image_with(&self, folder: &Path) -> String {
        let image = format!("longshore-test/baked:{}", clock::nonce());
        self.import(&image, &["CMD x"], |tar| tar.append_dir_all("baked", folder).unwrap()).await;
        image
    }

    async fn import(&self, name: &str, changes: &[&str], fill: impl Fn(&mut tar::Builder<Vec<u8>>)) {
        if self.docker().inspect_image(name).await.is_ok() {
            return;
        }
        let busybox = std::fs::read("/bin/busybox").expect("these tests need /bin/busybox (Debian: busybox-static)");
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "bin/busybox", &busybox, 0o755);
        fill(&mut tar);
        let (repo, tag) = name.split_once(':').unwrap();
        let mut options = CreateImageOptionsBuilder::new().from_src("-").repo(repo).tag(tag);
        if !changes.is_empty() {
            options = options.changes(changes.iter().map(|&change| change.to_owned()).collect());
        }
        let body = bollard::body_full(tar.into_inner().unwrap().into());
        let docker = self.docker();
        let mut import = std::pin::pin!(docker.create_image(Some(options.build()), Some(body), None));
        while let Some(progress) = import.next().await {
            progress.unwrap();
        }
    }
}

impl Drop for Bench {
    /// Leaves nothing on the engine, also after a failure.
    fn drop(&mut self) {
        let executor = self.executor.clone();
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for found in executor.list().await.unwrap_or_default() {
                    executor.remove(&found.id).await.ok();
                }
                for attempt in executor.list_volumes().await.unwrap_or_default() {
                    executor.remove_volume(attempt).await.ok();
                }
            });
        });
        clean.join().ok();
    }
}

pub(crate) fn grant(plan: &Plan) -> Grant {
    let argv = ["/bin/busybox", "sh", "-c", &plan.script].map(str::to_owned).into();
    Grant {
        env: plan.env.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(value.clone()))).collect(),
        secrets: plan.secrets.iter().cloned().map(Secret::new).collect(),
        timeout: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        action: Action::Run { argv },
        outputs_key: OutputsKey([7; 32]),
        artifacts: Some(longshore_core::artifacts::Limits { file_bytes: 8 << 20, total_bytes: 8 << 20 }),
    }
}

/// Standard output and standard error in the order in which they stand in the spool.
pub(crate) fn printed(dir: &StepDir) -> Vec<u8> {
    let bytes = std::fs::read(dir.spool()).unwrap();
    let (mut decoder, mut input, mut out) = (Decoder::new(0), &bytes[..], Vec::new());
    while let Some(piece) = decoder.decode(&mut input).unwrap() {
        if matches!(piece.header.stream, Stream::Stdout | Stream::Stderr) {
            out.extend_from_slice(piece.data);
        }
    }
    out
}

/// A package with these files, on disk.
pub(crate) fn package(dir: &Path, fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> PathBuf {
    let mut tar = tar::Builder::new(Vec::new());
    fill(&mut tar);
    let path = dir.join("package.tar.zst");
    std::fs::write(&path, zstd::encode_all(&tar.into_inner().unwrap()[..], 3).unwrap()).unwrap();
    path
}

pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

const APPLETS: &str = "sh cat echo ls id head sha256sum sleep usleep printf mkdir touch rm ln stat kill ps dd tr cut sed grep find \
                       readlink test true false hostname env wc df chmod tee od date sort uniq nc wget ip mount su";
