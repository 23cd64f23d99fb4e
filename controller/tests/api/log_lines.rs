//! The controller's program with its log as JSON: every line can be read, and says what it is about.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use longshore_core::spool::Stream;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::agent::{self, Session, Spool};

const CANARY: &str = "canary-7f3a9b21";

/// The program, and what it has printed so far.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    read: Vec<Value>,
    token: String,
    api: String,
    agents: SocketAddr,
}

impl Program {
    async fn start(folder: &Path) -> Self {
        let (data, config) = (folder.join("data"), folder.join("controller.toml"));
        let text = format!(
            "data_dir = {data:?}\n[api]\nlisten = \"127.0.0.1:0\"\n[agents]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_longshore-controller"))
            .args(["serve", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (token, api, agents) = (String::new(), String::new(), "127.0.0.1:1".parse().unwrap());
        let mut program = Self { child, lines, read: Vec::new(), token, api, agents };
        let serving = program.until(|line| line["message"] == "serving").await;
        program.api = format!("http://{}/api/v1", serving["api"].as_str().unwrap());
        program.agents = serving["agents"].as_str().unwrap().parse().unwrap();
        program.token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        program
    }

    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(Duration::from_secs(60), self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no more lines after {:#?}", self.read.last())).unwrap()?;
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(value[key].is_string(), "{line} has no `{key}`");
        }
        self.read.push(value.clone());
        Some(value)
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next().await.unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.api);
        let request = reqwest::Client::new().request(method.parse().unwrap(), url).bearer_auth(&self.token);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// Stops it and answers everything that it printed.
    async fn end(mut self) -> Vec<Value> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        while self.next().await.is_some() {}
        assert!(self.child.wait().await.unwrap().success());
        self.read
    }
}

#[tokio::test]
async fn every_line_is_json_and_has_the_ids_of_what_it_is_about_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path()).await;
    let spec = "version: 1\nproject: shop\nenvironments:\n  - name: dev\nvariables:\n  key: {secret: true}\nsteps:\n  - name: one\n    \
                image: longshore/tiny:1\n    run: echo hello\n    env: {KEY: \"${{ secrets.key }}\"}\n";
    assert_eq!(program.call("PUT", "/projects/shop", spec).await.0, 200);
    let secret = json!({"value": CANARY, "secret": true}).to_string();
    assert!(program.call("PUT", "/projects/shop/variables/key", &secret).await.0 < 300);
    let join = program.call("POST", "/join-tokens", "{}").await.1;
    let (join_token, ca) = (join["token"].as_str().unwrap().to_owned(), join["ca_pem"].as_str().unwrap().to_owned());
    let mut plane = agent::dial(program.agents, &ca, None).await.unwrap();
    let identity = agent::enroll(&mut plane, &join_token).await.unwrap();
    assert!(agent::enroll(&mut plane, &join_token).await.is_err());
    let mut session = Session::open(agent::dial(program.agents, &ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"}).to_string();
    let (status, made) = program.call("POST", "/deployments", &ask).await;
    assert_eq!(status, 202, "{made}");
    let id = made["deployment"].as_str().unwrap().to_owned();
    let job = session.accept().await;
    let grant = session.confirm(&job, 0).await;
    assert!(grant.secrets.iter().any(|secret| secret == CANARY));
    let mut spool = Spool::default();
    spool.write(Stream::Stdout, b"hello\n");
    let record = spool.end(3);
    session.ship(&job, 0, &spool.bytes, 0).await;
    session.complete(&job, 0, &record, spool.bytes.len() as u64).await;
    program.until(|line| line["event"] == "deployment.failed").await;
    assert_eq!(program.call("GET", &format!("/deployments/{id}"), "").await.0, 200);
    assert_eq!(program.call("GET", "/projects/none", "").await.0, 404);
    let token = std::mem::replace(&mut program.token, format!("lst_{}", "A".repeat(43)));
    assert_eq!(program.call("GET", "/projects", "").await.0, 401);
    let lines = program.end().await;

    let all = serde_json::to_string(&lines).unwrap();
    for secret in [CANARY, token.as_str(), join_token.as_str(), "lst_AAAA"] {
        assert!(!all.contains(secret), "a secret is in the log");
    }
    let one = |wanted: &dyn Fn(&Value) -> bool| {
        let found: Vec<_> = lines.iter().filter(|line| wanted(line)).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0]
    };
    let event = |name: &str| one(&|line| line["event"] == name);
    let agent = event("agent.enrolled")["object"].as_str().unwrap().trim_start_matches("agent/").to_owned();
    let attempt = job.offer.fence.as_ref().unwrap().attempt_id.clone();
    for name in ["deployment.created", "deployment.begun", "job.queued", "deployment.failed"] {
        assert_eq!(event(name)["deployment"], id.as_str(), "{name}");
    }
    for name in
        ["attempt.offered", "attempt.preparing", "attempt.running", "attempt.ended", "step.started", "step.ended"]
    {
        let line = event(name);
        let ids = (&line["deployment"], &line["attempt"], &line["agent"]);
        assert_eq!(ids, (&json!(id), &json!(attempt), &json!(agent)), "{name}: {line:#}");
    }
    let ended = event("step.ended");
    assert_eq!((&ended["step"], &ended["exit_code"], &ended["rpc"]), (&json!("one"), &json!(3), &json!("complete")));
    assert_eq!(one(&|line| line["message"] == "an agent is connected")["agent"], agent.as_str());

    let answered = |route: &str, method: &str| {
        one(&|line| line["message"] == "answered" && line["route"] == route && line["method"] == method)
    };
    let created = answered("/api/v1/deployments", "POST");
    assert_eq!(
        (&created["status"], &created["actor"], &created["deployment"]),
        (&json!(202), &json!("admin"), &json!(id))
    );
    assert!(created["duration_ms"].is_number() && created["target"] == "longshore_controller::access");
    assert!(created["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!(created["request_id"], event("deployment.created")["request_id"], "what asked for it is named");
    assert_eq!(answered("/api/v1/deployments/{id}", "GET")["deployment"], id.as_str());
    assert_eq!(answered("/api/v1/projects/{name}", "GET")["status"], 404);
    let refused = one(&|line| line["message"].as_str().unwrap().starts_with("a bearer token that is unknown"));
    assert_eq!(refused["request_id"], answered("/api/v1/projects", "GET")["request_id"]);
}
