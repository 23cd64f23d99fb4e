//! Files of steps over both planes: brought by an agent, listed and downloaded by people.

use axum::http::Method;
use longshore_core::artifacts::{Artifact, Kind, LeftOut, Reason};
use longshore_core::init::ExitRecord;
use longshore_core::spool::Stream;
use serde_json::json;
use tonic::Code;

use crate::agent::{self, Session, Spool};
use crate::harness::{Running, sha256, spec};
use crate::people::{by, get, person};
use crate::plane::{enrolled, running};

const REPORT: &[u8] = b"<html>\0\xff</html>";
const STATE: &[u8] = b"{\"version\":3}";

fn listed(path: &str, bytes: &[u8], kind: Kind) -> Artifact {
    Artifact { path: path.to_owned(), bytes: bytes.len() as u64, sha256: sha256(bytes), kind }
}

/// A deployment whose step left a report and a state.
async fn ended() -> (Running, String) {
    let server = running().await;
    let spec = spec("shop").replace("  token: {secret: true}\n", "  a: b\n");
    server.apply("shop", &spec.replace("  - name: dev\n", "  - name: dev\n  - name: live\n")).await.ok(200);
    let (identity, ca) = enrolled(&server).await;
    let mut session = Session::open(agent::dial(server.agents, &ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let job = session.accept().await;
    let early = session.bring(&job, 0, REPORT, REPORT).await.unwrap_err();
    assert_eq!(early.code(), Code::InvalidArgument, "not confirmed: {early}");
    let limits = session.confirm(&job, 0).await.artifacts.unwrap();
    assert_eq!((limits.file_bytes, limits.total_bytes), (64 << 20, 256 << 20));
    for wrong in [&REPORT[1..], b"", b"<html>\0\xff</html", &[REPORT, b"more"].concat()] {
        let refused = session.bring(&job, 0, REPORT, wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for file in [REPORT, STATE, REPORT] {
        session.bring(&job, 0, file, file).await.unwrap();
    }
    let mut spool = Spool::default();
    spool.write(Stream::Stdout, b"one\n");
    let record = spool.end_with(ExitRecord {
        code: Some(1),
        artifacts: vec![
            listed("state-before.json", STATE, Kind::State),
            listed("out/r\u{e4}port.html", REPORT, Kind::File),
        ],
        left_out: vec![LeftOut { path: "dump".to_owned(), kind: Kind::File, reason: Reason::Secret, count: 1 }],
        ..ExitRecord::default()
    });
    session.ship(&job, 0, &spool.bytes, 0).await;
    session.complete(&job, 0, &record, spool.bytes.len() as u64).await;
    let late = session.bring(&job, 0, REPORT, REPORT).await.unwrap_err();
    assert_eq!(late.code(), Code::InvalidArgument, "ended: {late}");
    (server, id)
}

#[tokio::test]
async fn files_are_listed_and_come_as_they_were_left() {
    let (server, id) = ended().await;
    let list = server.get(&format!("/deployments/{id}/artifacts")).await.ok(200);
    let [state, report] = list["artifacts"].as_array().unwrap().as_slice() else { panic!("{list:#}") };
    assert_eq!((&state["kind"], &state["path"]), (&json!("state"), &json!("state-before.json")));
    let want = json!({
        "id": report["id"], "step": "one", "try": 1, "preview": false, "attempt": report["attempt"], "kind": "file",
        "path": "out/r\u{e4}port.html", "bytes": REPORT.len(), "sha256": sha256(REPORT), "created_at": report["created_at"],
    });
    assert_eq!(report, &want);
    let left = &list["left_out"][0];
    assert_eq!((&left["reason"], &left["path"], &left["count"]), (&json!("secret"), &json!("dump"), &json!(1)));
    assert!(left["message"].as_str().unwrap().contains("leave the value out"), "{left}");
    let shown = server.get(&format!("/deployments/{id}")).await.ok(200);
    assert_eq!(shown["steps"][0]["artifacts"], json!({"kept": 2, "left_out": 1}));

    let path = format!("/deployments/{id}/artifacts/{}", report["id"]);
    let answer = server.get(&path).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, REPORT));
    let header = |name: &str| answer.headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("content-length"), REPORT.len().to_string());
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"r__port.html\"; filename*=UTF-8''r%C3%A4port.html"
    );
    let head = server.call(Method::HEAD, &path, "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    for missing in ["0", "999999", "x", "-1", "out"] {
        server.get(&format!("/deployments/{id}/artifacts/{missing}")).await.problem(404, "not_found");
    }
    let other = format!("dep_{}", "0".repeat(32));
    server.get(&format!("/deployments/{other}/artifacts")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_state_takes_the_right_to_deploy_there() {
    let (server, id) = ended().await;
    let list = server.get(&format!("/deployments/{id}/artifacts")).await.ok(200);
    let path = |index: usize| format!("/deployments/{id}/artifacts/{}", list["artifacts"][index]["id"]);
    let viewer = person(&server, "vera", &[("viewer", Some("shop"), None)]).await;
    let elsewhere =
        person(&server, "egon", &[("viewer", Some("shop"), None), ("deployer", Some("shop"), Some("live"))]).await;
    let deployer = person(&server, "dan", &[("deployer", Some("shop"), Some("dev"))]).await;
    let nobody = person(&server, "nora", &[]).await;
    for token in [&viewer, &elsewhere] {
        assert_eq!(get(&server, token, &format!("/deployments/{id}/artifacts")).await.ok(200), list);
        assert_eq!(get(&server, token, &path(1)).await.body, REPORT);
        let problem = get(&server, token, &path(0)).await.problem(403, "forbidden");
        assert!(problem["detail"].as_str().unwrap().contains("may not deploy to environment `dev`"), "{problem}");
        assert_eq!(by(&server, token, "HEAD", &path(0), &json!(null)).await.status, 403);
    }
    assert_eq!(get(&server, &deployer, &path(0)).await.body, STATE);
    for path in [path(0), path(1)] {
        get(&server, &nobody, &path).await.problem(403, "forbidden");
    }
    let line = server.get("/audit").await.ok(200)["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&line["action"], &line["outcome"]), (&json!("artifact.read"), &json!("refused")));
}
