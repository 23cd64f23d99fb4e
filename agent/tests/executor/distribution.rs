//! Debian's `docker-registry`, started by the test, with a gate before it that can be shut in the middle of a layer.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use futures_util::StreamExt as _;
use longshore_agent::clock;

use crate::bench::{Bench, add};

/// What the registries of these tests know of their user.
pub(crate) const USER: &str = "ci";
pub(crate) const PASSWORD: &str = "hunter2-of-the-registry";
/// bcrypt of it.
const HTPASSWD: &str = "ci:$2b$04$Cyw5ev5/C4Q.HMWPqoT8zee0gSG3F4H9qGXdUZ41y5fjKNDBLGyIO\n";

/// A registry.
pub(crate) struct Distribution {
    dir: tempfile::TempDir,
    process: Option<Child>,
    behind: SocketAddr,
    gate: Gate,
    auth: bool,
}

/// Where the program is: installed, or unpacked from its package.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let installed = Path::new("/usr/bin/docker-registry");
        if installed.exists() {
            return installed.to_owned();
        }
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-registry");
        let unpacked = to.join("usr/bin/docker-registry");
        if !unpacked.exists() {
            let script = "mkdir -p \"$1.part\" && cd \"$1.part\" && apt-get download -q docker-registry && dpkg -x docker-registry_*.deb . \
                          && { mv -T \"$1.part\" \"$1\" || test -e \"$1/usr/bin/docker-registry\"; }";
            let done = Command::new("sh").args(["-ec", script, "sh"]).arg(&to).output().unwrap();
            assert!(
                unpacked.exists(),
                "these tests need Debian's `docker-registry`: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        unpacked
    })
}

impl Distribution {
    pub(crate) fn start() -> Self {
        Self::with(false)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    pub(crate) fn private() -> Self {
        Self::with(true)
    }

    fn with(auth: bool) -> Self {
        let behind = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut registry =
            Self { dir: tempfile::tempdir().unwrap(), process: None, behind, gate: Gate::start(behind), auth };
        registry.up();
        registry
    }

    /// Starts it again after [`Self::down`], with everything that it had.
    pub(crate) fn up(&mut self) {
        let root = self.dir.path().display();
        std::fs::write(self.dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let auth = if self.auth {
            format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n")
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: \"{}\"}}\n{auth}",
            self.behind
        );
        let path = self.dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg(path).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap();
        while TcpStream::connect(self.behind).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "the registry ended: {}", self.log());
            std::thread::yield_now();
        }
        self.process = Some(process);
    }

    /// Kills it; who talks to it is cut off.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
        self.gate.cut();
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn host(&self) -> String {
        self.gate.at.to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// How often layers were asked for.
    pub(crate) fn layers_read(&self) -> usize {
        self.log().lines().filter(|line| line.contains("\"GET /v2/") && line.contains("/blobs/")).count()
    }

    /// Brings an image with so many random bytes to it, which is nowhere else afterwards.
    pub(crate) async fn push(&self, bench: &Bench, name: &str, bytes: usize) -> String {
        let reference = format!("{}/{name}", self.host());
        let docker = bench.docker();
        let mut tar = tar::Builder::new(Vec::new());
        let mut content = Vec::with_capacity(bytes);
        while content.len() < bytes {
            content.extend(clock::random::<4096>());
        }
        add(&mut tar, "content", &content, 0o644);
        let local = format!("longshore-test/pushed-{}", clock::nonce());
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(&local).tag("1").build();
        let body = bollard::body_full(tar.into_inner().unwrap().into());
        let mut import = std::pin::pin!(docker.create_image(Some(options), Some(body), None));
        while let Some(progress) = import.next().await {
            progress.unwrap();
        }
        let local = format!("{local}:1");
        let id = docker.inspect_image(&local).await.unwrap().id.unwrap();
        self.push_as(bench, &local, name).await;
        remove(bench, &reference).await;
        remove(bench, &local).await;
        id
    }

    /// Brings an image that is there to it, by another name.
    pub(crate) async fn push_as(&self, bench: &Bench, local: &str, name: &str) {
        let docker = bench.docker();
        let (repository, tag) = name.split_once(':').unwrap();
        let repository = format!("{}/{repository}", self.host());
        let options = TagImageOptionsBuilder::new().repo(&repository).tag(tag).build();
        docker.tag_image(local, Some(options)).await.unwrap();
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            serveraddress: Some(self.host()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::new().tag(tag).build();
        let mut push = std::pin::pin!(docker.push_image(&repository, Some(options), Some(credentials)));
        while let Some(progress) = push.next().await {
            progress.unwrap();
        }
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        self.down();
    }
}

/// Removes a name of an image, and the image with the last one.
pub(crate) async fn remove(bench: &Bench, reference: &str) {
    bench.docker().remove_image(reference, None::<RemoveImageOptions>, None).await.ok();
}

/// Forwards connections, and holds back what is answered once it is shut and so many bytes went through.
pub(crate) struct Gate {
    at: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Bytes of answers that may still go through; `None`: all.
    left: Option<usize>,
    /// Something was held back.
    held: bool,
    open: Vec<TcpStream>,
}

impl Gate {
    fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(behind) else { continue };
                let mut state = shared.0.lock().unwrap();
                state.open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(state);
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let gated = Arc::clone(&shared);
                std::thread::spawn(move || forward(up, down, None));
                std::thread::spawn(move || forward(server, client, Some(&gated)));
            }
        });
        Self { at, state }
    }

    /// Lets so many more bytes of answers through.
    pub(crate) fn shut_after(&self, bytes: usize) {
        let mut state = self.state.0.lock().unwrap();
        (state.left, state.held) = (Some(bytes), false);
    }

    pub(crate) fn open(&self) {
        self.state.0.lock().unwrap().left = None;
        self.state.1.notify_all();
    }

    /// Waits until something is held back.
    pub(crate) fn wait_held(&self) {
        let state = self.state.0.lock().unwrap();
        drop(self.state.1.wait_while(state, |state| !state.held).unwrap());
    }

    fn cut(&self) {
        for stream in std::mem::take(&mut self.state.0.lock().unwrap().open) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, gate: Option<&(Mutex<State>, Condvar)>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        if let Some((state, changed)) = gate {
            let mut state = state.lock().unwrap();
            while state.left.is_some_and(|left| left < read) {
                state.held = true;
                changed.notify_all();
                state = changed.wait(state).unwrap();
            }
            if let Some(left) = &mut state.left {
                *left -= read;
            }
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
