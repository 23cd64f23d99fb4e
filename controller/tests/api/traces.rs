//! Traces over real connections: an API call with a caller's trace, and what a collector of the test is told of it, also when the
//! controller is started anew in the middle.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use longshore_controller::app::App;
use longshore_controller::clock::Clock;
use longshore_controller::config::Config;
use longshore_controller::manager::Manager;
use longshore_controller::tasks::{OnError, Tasks};
use longshore_core::spool::Stream;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tonic::{Request as Call, Response, Status};

use crate::agent::{self, Session, Spool};
use crate::harness::{Server, metrics, spec};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector of the test.
#[derive(Clone)]
struct Collector {
    spans: watch::Sender<Vec<Span>>,
    /// Of the last call: its header `authorization`, and the resource.
    seen: Arc<Mutex<(Option<String>, String)>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        call: Call<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let authorization = call.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        for resource in call.into_inner().resource_spans {
            *self.seen.lock().unwrap() = (authorization.clone(), format!("{:?}", resource.resource));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.send_modify(|all| all.extend(spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self { spans: watch::Sender::new(Vec::new()), seen: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = TraceServiceServer::new(collector.clone());
        Tasks::new().spawn("collector", OnError::Log, async move {
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        });
        (collector, address)
    }

    /// Waits until spans of all these names are there, and answers every span.
    async fn until(&self, names: &[&str]) -> Vec<Span> {
        let mut spans = self.spans.subscribe();
        let all = |spans: &Vec<Span>| names.iter().all(|name| spans.iter().any(|span| span.name == *name));
        let found = tokio::time::timeout(Duration::from_secs(60), spans.wait_for(all)).await;
        match found {
            Ok(spans) => spans.unwrap().clone(),
            Err(_) => panic!("{:?}", self.spans.borrow().iter().map(|span| span.name.clone()).collect::<Vec<_>>()),
        }
    }
}

/// A controller that serves both planes until it is stopped.
struct Served {
    api: SocketAddr,
    agents: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<bool>,
}

impl Served {
    async fn start(folder: &Path, collector: SocketAddr) -> Self {
        let path = folder.join("controller.toml");
        let headers = folder.join("headers");
        std::fs::write(&headers, "# of the tenant\nAuthorization: Bearer sesame\n").unwrap();
        let data = folder.join("data");
        let text = format!(
            "data_dir = {data:?}\n[api]\nlisten = \"127.0.0.1:0\"\n[agents]\nlisten = \"127.0.0.1:0\"\n\
             [tracing]\nendpoint = \"http://{collector}\"\nheaders_file = {headers:?}\n"
        );
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path, []).unwrap();
        let app = App::build(config, Clock::system(), metrics()).await.unwrap();
        let (api, agents) = (app.api_address(), app.agents_address());
        let (stop, stopped) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        Tasks::new().spawn("app", OnError::Log, async move {
            let good = app.run(async { stopped.await.unwrap_or_default() }, Manager).await;
            assert!(ended_tx.send(good).is_ok(), "nobody waits for the end");
            Ok::<(), Infallible>(())
        });
        Self { api, agents, stop, ended }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        assert!(self.ended.await.unwrap());
    }

    async fn call(&self, folder: &Path, method: Method, path: &str, body: String, traced: bool) -> Value {
        let token = std::fs::read_to_string(folder.join("data/admin.token")).unwrap();
        let url = format!("http://{}/api/v1{path}", self.api);
        let mut request = reqwest::Client::new().request(method, url).bearer_auth(token.trim()).body(body);
        if traced {
            request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
        }
        request.send().await.unwrap().json().await.unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> HashMap<String, String> {
    let text = |value: Any| match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    span.attributes.iter().map(|pair| (pair.key.clone(), text(pair.value.clone().unwrap().value.unwrap()))).collect()
}

#[tokio::test]
async fn a_callers_trace_goes_to_the_containers_exit_across_a_restart_of_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, address) = Collector::start().await;
    let served = Served::start(folder.path(), address).await;
    served.call(folder.path(), Method::PUT, "/projects/shop", spec("shop"), false).await;
    let join = served.call(folder.path(), Method::POST, "/join-tokens", "{}".to_owned(), false).await;
    let (token, ca) = (join["token"].as_str().unwrap().to_owned(), join["ca_pem"].as_str().unwrap().to_owned());
    let mut plane = agent::dial(served.agents, &ca, None).await.unwrap();
    let identity = agent::enroll(&mut plane, &token).await.unwrap();
    let mut session = Session::open(agent::dial(served.agents, &ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"}).to_string();
    let made = served.call(folder.path(), Method::POST, "/deployments", ask, true).await;
    let id = made["deployment"].as_str().unwrap().to_owned();
    let mut job = session.accept().await;
    let grant = session.confirm(&job, 0).await;
    collector.until(&["POST /api/v1/deployments", "prepare", "image"]).await;
    // In the middle: the step runs, and the controller is another process.
    drop(session);
    served.end().await;
    let served = Served::start(folder.path(), address).await;
    let plane = agent::dial(served.agents, &ca, Some(&identity)).await.unwrap();
    let mut session = Session::open_with(plane, job.offer.fence.clone()).await.unwrap();
    let mut spool = Spool::default();
    spool.write(Stream::Stdout, b"hello\n");
    let record = spool.end(7);
    session.ship(&job, 0, &spool.bytes, 0).await;
    assert_eq!(session.complete(&job, 0, &record, spool.bytes.len() as u64).await, None);
    job.offer.url.clear();
    let all = collector.until(&["deploy shop/dev", "run", "ship"]).await;
    let shown = served.call(folder.path(), Method::GET, &format!("/deployments/{id}"), String::new(), false).await;
    assert_eq!((&shown["trace_id"], &shown["state"]), (&json!(TRACE), &json!("failed")));
    served.end().await;

    let (authorization, resource) = collector.seen.lock().unwrap().clone();
    assert_eq!(authorization.as_deref(), Some("Bearer sesame"));
    assert!(resource.contains("longshore-controller"), "{resource}");
    // The calls without a header have traces of their own.
    let ours: Vec<_> = all.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let mut ids: Vec<_> = ours.iter().map(|span| hex(&span.span_id)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), ours.len(), "each span once");
    let one = |name: &str| {
        let found: Vec<_> = ours.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        *found[0]
    };
    let request = one("POST /api/v1/deployments");
    assert_eq!((hex(&request.parent_span_id).as_str(), request.kind), (CALLER, i32::from(SpanKind::Server)));
    let said = attributes(request);
    assert_eq!(
        (said["http.response.status_code"].as_str(), said["longshore.deployment"].as_str()),
        ("202", id.as_str())
    );
    assert_eq!(said["longshore.by"], "admin");
    for (name, parent) in [
        ("deploy shop/dev", "POST /api/v1/deployments"),
        ("wait for its turn", "deploy shop/dev"),
        ("attempt", "deploy shop/dev"),
        ("wait for an agent", "attempt"),
        ("offer", "attempt"),
        ("prepare", "attempt"),
        ("image", "prepare"),
        ("container", "prepare"),
        ("step one", "deploy shop/dev"),
        ("try 1", "step one"),
        ("confirm", "try 1"),
        ("run", "try 1"),
        ("ship", "try 1"),
    ] {
        let span = one(name);
        assert_eq!(hex(&span.parent_span_id), hex(&one(parent).span_id), "{name} is under {parent}");
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
        let said = attributes(span);
        let about = (
            said["longshore.deployment"].as_str(),
            said["longshore.project"].as_str(),
            said["longshore.environment"].as_str(),
        );
        assert_eq!(about, (id.as_str(), "shop", "dev"), "{name}");
    }
    let (start, run) = (attributes(one("try 1")), attributes(one("run")));
    assert_eq!((start["longshore.exit_code"].as_str(), run["longshore.exit_code"].as_str()), ("7", "7"));
    let attempt = job.offer.fence.as_ref().unwrap().attempt_id.as_str();
    assert_eq!((start["longshore.attempt"].as_str(), start["longshore.step"].as_str()), (attempt, "one"));
    assert!(start["longshore.agent"].starts_with("agt_") && start["container.id"] == "c0ffee");
    assert_eq!(one("deploy shop/dev").status.as_ref().unwrap().code, 2, "an error");
    // The program was told where it belongs.
    let told = grant.env.iter().find(|var| var.name == "TRACEPARENT").unwrap();
    assert_eq!(told.value, format!("00-{TRACE}-{}-01", hex(&one("try 1").span_id)));
}

#[tokio::test]
async fn without_a_collector_a_callers_trace_is_kept_and_nothing_is_told_to_programs() {
    let server = Server::start().await;
    server.apply("shop", &spec("shop")).await.ok(200);
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"}).to_string();
    let mut request = server.request(Method::POST, "/deployments", ask);
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    let id = server.send(request).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/deployments/{id}")).await.ok(200)["trace_id"], TRACE);
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-2"}).to_string();
    let mut request = server.request(Method::POST, "/deployments", ask);
    request.headers_mut().insert("traceparent", "00-rubbish-01".parse().unwrap());
    let id = server.send(request).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let own = server.get(&format!("/deployments/{id}")).await.ok(200);
    assert_eq!(own["trace_id"].as_str().unwrap(), id.trim_start_matches("dep_"), "it is made of the id");
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let served = Served::start(folder.path(), nobody).await;
    served.call(folder.path(), Method::PUT, "/projects/shop", spec("shop"), true).await;
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"}).to_string();
    let made = served.call(folder.path(), Method::POST, "/deployments", ask, true).await;
    assert!(made["deployment"].as_str().unwrap().starts_with("dep_"), "{made}");
    served.end().await;
    assert!(metrics().render().contains("longshore_trace_spans_dropped_total"));
}
