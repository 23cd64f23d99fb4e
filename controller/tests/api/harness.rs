//! A controller in a folder of its own, called without a socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use longshore_controller::app::App;
use longshore_controller::clock::Clock;
use longshore_controller::config::Config;
use longshore_controller::tasks::{OnError, Tasks};
use longshore_controller::telemetry;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

/// A controller that serves nobody but the test.
pub(crate) struct Server {
    app: Option<App>,
    pub(crate) router: Router,
    pub(crate) token: String,
    pub(crate) folder: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that it is a problem document with this status and code, and gives it.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status.as_u16(), problem["code"].as_str().unwrap()), (status, code), "{problem:#}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["help"], format!("docs/errors/{code}.md"));
        assert!(longshore_core::problem::is_code(code), "`{code}` is not in the list of words");
        assert_eq!(problem["request_id"].as_str().unwrap(), self.headers["x-request-id"].to_str().unwrap());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }

    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

/// One registry of metrics for the process: it can be set once.
pub(crate) fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| telemetry::init_metrics().unwrap()).clone()
}

fn config(data: &Path, more: &str, api: &str) -> Config {
    let folder = data.parent().unwrap();
    let path = folder.join("controller.toml");
    let listen = "listen = \"127.0.0.1:0\"";
    std::fs::write(&path, format!("data_dir = {data:?}\n{more}\n[api]\n{listen}\n{api}\n[agents]\n{listen}\n"))
        .unwrap();
    Config::load(&path, []).unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// `more`: top-level fields of the configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        Self::start_at(Clock::system(), more).await
    }

    pub(crate) async fn start_at(clock: Clock, more: &str) -> Self {
        Self::build(clock, |data| config(data, more, "")).await
    }

    pub(crate) async fn start_https(certificate: &Path, key: &Path) -> Self {
        let api = format!("tls_cert = {certificate:?}\ntls_key = {key:?}");
        Self::build(Clock::system(), |data| config(data, "", &api)).await
    }

    async fn build(clock: Clock, config: impl FnOnce(&Path) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let app = App::build(config(&data), clock, metrics()).await.unwrap();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        let router = app.router();
        Self { app: Some(app), router, token, folder }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        self.send(self.request(method, path, body)).await
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
        let bearer = format!("Bearer {}", self.token);
        Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, bearer)
            .body(body.into())
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub(crate) async fn apply(&self, project: &str, spec: &str) -> Answer {
        self.call(Method::PUT, &format!("/projects/{project}"), spec.to_owned()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, String::new()).await
    }
}

/// A controller that also serves agents, until it is dropped.
pub(crate) struct Running {
    server: Server,
    pub(crate) agents: SocketAddr,
    pub(crate) api: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Deref for Running {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Server {
    /// Serves both planes in the background.
    pub(crate) fn run(mut self) -> Running {
        let app = self.app.take().unwrap();
        let (agents, api) = (app.agents_address(), app.api_address());
        let (stop, stopped) = oneshot::channel();
        Tasks::new().spawn("app", OnError::Log, async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            app.run(stopped, longshore_controller::manager::Manager).await;
            Ok::<(), Infallible>(())
        });
        Running { server: self, agents, api, _stop: stop }
    }
}

pub(crate) fn spec(project: &str) -> String {
    format!(
        "version: 1\nproject: {project}\nenvironments:\n  - name: dev\nvariables:\n  token: {{secret: true}}\nsteps:\n  - name: one\n    image: longshore/tiny:1\n    run: echo hello\n"
    )
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A package with one file.
pub(crate) fn package(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    archive.append(&header, content).unwrap();
    zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
}

/// Every file under a folder.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
