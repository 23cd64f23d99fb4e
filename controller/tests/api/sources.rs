//! Packages that the controller makes of commits: of a repository of this machine, and of one behind HTTP with a password.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::{Server, files};

/// A repository of one branch `main`.
pub(crate) struct Repository(tempfile::TempDir);

impl Repository {
    pub(crate) fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        new.git(&["init", "--quiet", "--initial-branch=main"]);
        new.write("main.sh", "echo one\n");
        new.commit();
        new
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]).args(args);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Serves a repository over HTTP to whoever shows this `Authorization`; gives its address.
pub(crate) fn serve(repository: &Repository, authorization: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repository", listener.local_addr().unwrap());
    let (root, authorization) = (repository.path().to_owned(), authorization.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(&stream, &root, &authorization);
        }
    });
    url
}

/// `Basic` for a user and a password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// One request, by git's own program for it.
fn answer(stream: &TcpStream, root: &Path, authorization: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut out = stream;
    if header("authorization") != authorization {
        let refused =
            "HTTP/1.1 401 X\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return out.write_all(refused.as_bytes()).ok();
    }
    let (method, target) = (line.split(' ').next()?, line.split(' ').nth(1)?);
    if target.starts_with("/elsewhere") {
        let away =
            "HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/stolen\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return out.write_all(away.as_bytes()).ok();
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path.replacen("/repository", "/.git", 1))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = backend.stdin.take().unwrap().write_all(&body);
    let answer = backend.wait_with_output().unwrap().stdout;
    sent.ok()?;
    out.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n").ok()?;
    out.write_all(&answer).ok()
}

/// With the protocols that tests need.
async fn server() -> Server {
    Server::start_with("[sources]\nprotocols = [\"file\", \"http\"]\nmax_bytes = 1000000").await
}

fn spec(url: &str, more: &str) -> String {
    format!(
        "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables: {{token: {{secret: true}}}}\n\
         source: {{git: '{url}', ref: main{more}}}\nsteps: [{{name: one, image: i, run: x}}]\n"
    )
}

async fn release(server: &Server, body: &Value) -> Value {
    let made = server.post("/projects/shop/releases", body).await.ok(201);
    server.get(&format!("/projects/shop/releases/{}", made["version"].as_str().unwrap())).await.ok(200)
}

#[tokio::test]
async fn a_release_is_made_of_a_commit_and_says_which() {
    let (server, repository) = (server().await, Repository::new());
    let first = repository.git(&["rev-parse", "HEAD"]);
    server.apply("shop", &spec(&repository.url(), "")).await.ok(200);
    let one = release(&server, &json!({})).await;
    let source = json!({ "url": repository.url(), "ref": "main", "commit": first });
    assert_eq!(one["package"]["source"], source);
    let same = release(&server, &json!({})).await;
    assert_eq!(same["package"], one["package"], "the same commit is the same package");
    repository.write("main.sh", "echo two\n");
    let second = repository.commit();
    let moved = release(&server, &json!({})).await;
    assert_eq!(moved["package"]["source"]["commit"], second.as_str());
    assert_ne!(moved["package"]["sha256"], one["package"]["sha256"]);
    assert_eq!(server.get("/projects/shop/releases/0.0.1").await.ok(200), one, "a release never changes");
    let again = release(&server, &json!({ "ref": first })).await;
    assert_eq!(again["package"]["sha256"], one["package"]["sha256"]);
    assert_eq!(again["package"]["source"], json!({ "url": repository.url(), "ref": first, "commit": first }));
    let list = server.get("/packages").await.ok(200);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[1]["source"], source);
    let made = server.call(Method::POST, "/projects/shop/packages", json!({ "ref": first }).to_string()).await.ok(201);
    assert_eq!((&made["sha256"], &made["source"]["commit"]), (&one["package"]["sha256"], &json!(first)));
    let audit = server.get("/audit").await.ok(200).to_string();
    assert!(audit.contains(&second) && audit.contains("release.created"), "{audit}");
    let incoming = files(&server.folder.path().join("data/packages/incoming"));
    assert_eq!(incoming, Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_deployment_is_made_of_a_commit_once() {
    let (server, repository) = (server().await, Repository::new());
    let first = repository.git(&["rev-parse", "HEAD"]);
    server.apply("shop", &spec(&repository.url(), "")).await.ok(200);
    let ask = json!({ "project": "shop", "environment": "dev", "operation_id": "x", "ref": "main" });
    let made = server.post("/deployments", &ask).await.ok(202);
    repository.write("main.sh", "echo two\n");
    repository.commit();
    assert_eq!(server.post("/deployments", &ask).await.ok(202), made, "whatever the ref is by now");
    let shown = server.get(&format!("/deployments/{}", made["deployment"].as_str().unwrap())).await.ok(200);
    assert_eq!(shown["source"], json!({ "url": repository.url(), "ref": "main", "commit": first }));
    let release =
        json!({ "project": "shop", "environment": "dev", "operation_id": "y", "ref": "main", "release": "0.0.1" });
    server.post("/deployments", &release).await.problem(422, "invalid");
    let both = json!({ "ref": "main", "package": "0".repeat(64) });
    server.post("/projects/shop/releases", &both).await.problem(422, "invalid");
}

#[tokio::test]
async fn what_cannot_be_fetched_or_is_no_package_makes_nothing() {
    let (server, repository) = (server().await, Repository::new());
    let make = async |body: Value| server.post("/projects/shop/releases", &body).await;
    server.apply("shop", &spec("file:///x", "").replace("source", "#")).await.ok(200);
    make(json!({ "ref": "main" })).await.problem(409, "no_source");
    server.post("/projects/shop/packages", &json!({})).await.problem(409, "no_source");
    server.apply("shop", &spec(&repository.url(), "")).await.ok(200);
    let gone = make(json!({ "ref": "nowhere" })).await.problem(409, "source_failed");
    assert!(gone["detail"].as_str().unwrap().contains("couldn't find remote ref nowhere"), "{gone}");
    for odd in ["--upload-pack=touch x", "main:main", "a..b", ""] {
        make(json!({ "ref": odd })).await.problem(422, "invalid");
    }
    repository.write("zeros", vec![0; 2_000_000]);
    repository.commit();
    let large = make(json!({})).await.problem(409, "source_failed");
    assert!(large["detail"].as_str().unwrap().contains("larger than the 1000000 bytes"), "{large}");
    repository.git(&["rm", "--quiet", "zeros"]);
    std::os::unix::fs::symlink("/etc/passwd", repository.path().join("out")).unwrap();
    repository.commit();
    let out = make(json!({})).await.problem(422, "invalid");
    assert!(out["detail"].as_str().unwrap().contains("`out`"), "{out}");
    repository.git(&["rm", "--quiet", "out"]);
    let inner = Repository::new();
    repository.git(&["submodule", "--quiet", "add", inner.path().to_str().unwrap(), "inner"]);
    repository.commit();
    let inner = make(json!({})).await.problem(422, "invalid");
    assert!(inner["detail"].as_str().unwrap().contains("`inner` is a submodule"), "{inner}");
    assert_eq!(server.get("/projects/shop/releases").await.ok(200), json!([]));
    assert_eq!(files(&server.folder.path().join("data/packages")), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_password_opens_a_repository_and_is_never_shown() {
    const PASSWORD: &str = "hunter2-canary/+ x";
    let (server, repository) = (server().await, Repository::new());
    let url = serve(&repository, &basic("me", PASSWORD));
    let with = |url: &str| spec(url, ", credentials: {user: me, password: token}");
    server.apply("shop", &with(&url)).await.ok(200);
    let make = async || server.post("/projects/shop/releases", &json!({})).await;
    let set = async |value: &str| {
        let body = json!({ "value": value, "secret": true }).to_string();
        server.call(Method::PUT, "/projects/shop/variables/token", body).await.ok(200);
    };
    make().await.problem(403, "secret_missing");
    set(&format!("{PASSWORD}-no")).await;
    let wrong = make().await.problem(409, "source_failed");
    assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
    set(PASSWORD).await;
    make().await.ok(201);
    // Nobody is led elsewhere with it.
    server.apply("shop", &with(&url.replace("/repository", "/elsewhere"))).await.ok(200);
    let led = make().await.problem(409, "source_failed");
    assert!(!led.to_string().contains("hunter2"), "{led}");
    for path in ["/audit", "/projects/shop", "/projects/shop/spec", "/projects/shop/releases/0.0.1", "/packages"] {
        let shown = String::from_utf8(server.get(path).await.body).unwrap();
        assert!(!shown.contains("hunter2"), "{path}: {shown}");
    }
    for path in files(server.folder.path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{}", path.display());
    }
}

#[tokio::test]
async fn a_protocol_that_is_not_allowed_is_refused_when_it_is_applied() {
    let server = Server::start().await;
    for url in ["file:///tmp/x", "http://e/x", "git://e/x"] {
        server.apply("shop", &spec(url, "")).await.problem(403, "source_protocol");
    }
    server.get("/projects/shop").await.problem(404, "not_found");
    server.apply("shop", &spec("https://e/x", "")).await.ok(200);
}
