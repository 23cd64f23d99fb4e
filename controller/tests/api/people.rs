//! Who may do what, over the API: every route has its rule, every rule refuses, and every refusal is in the audit.

use axum::body::Body;
use axum::http::{Method, Request, header};
use longshore_controller::api::{Over, RULES};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, spec};

/// A server with the project `shop` (environments `dev` and `live`).
async fn server() -> Server {
    let server = Server::start().await;
    let spec = spec("shop").replace("  - name: dev\n", "  - name: dev\n  - name: live\n");
    server.apply("shop", &spec.replace("variables:\n", "variables:\n  region: eu\n")).await.ok(200);
    server
}

/// Makes a user with these roles, as (role, project, environment), and gives a token of it.
pub(crate) async fn person(server: &Server, name: &str, roles: &[(&str, Option<&str>, Option<&str>)]) -> String {
    server.post("/users", &json!({ "name": name })).await.ok(201);
    for (role, project, environment) in roles {
        let grant = json!({ "user": name, "role": role, "project": project, "environment": environment });
        server.post("/role-grants", &grant).await.ok(201);
    }
    let made = server.post("/tokens", &json!({ "user": name, "expires_in": "1h" })).await.ok(201);
    made["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn by(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(format!("/api/v1{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    server.send(request.body(body).unwrap()).await
}

pub(crate) async fn get(server: &Server, token: &str, path: &str) -> Answer {
    by(server, token, "GET", path, &Value::Null).await
}

async fn deploy(server: &Server, token: &str, environment: &str) -> Answer {
    let ask =
        json!({ "project": "shop", "environment": environment, "operation_id": format!("{token}-{environment}") });
    by(server, token, "POST", "/deployments", &ask).await
}

async fn audit(server: &Server) -> Vec<Value> {
    server.get("/audit").await.ok(200)["events"].as_array().unwrap().clone()
}

#[test]
fn every_route_has_one_rule_and_every_rule_a_route() {
    let document = serde_json::to_value(longshore_controller::api::openapi()).unwrap();
    let mut served = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let method = method.to_uppercase();
            let rules: Vec<_> = RULES.iter().filter(|rule| rule.path == path && rule.method == method).collect();
            assert_eq!(rules.len(), 1, "{method} {path} has {} lines in `RULES` of api/rules.rs", rules.len());
            assert_eq!(rules[0].over == Over::Open, operation["security"].is_null(), "{method} {path}");
            served.push((method, path.clone()));
        }
    }
    for rule in RULES {
        let (method, path) = (rule.method, rule.path);
        assert!(served.contains(&(method.to_owned(), path.to_owned())), "{method} {path} is not served");
        let named = |name: &str| path.contains(name);
        assert!(!matches!(rule.over, Over::Project | Over::InProject) || named("/projects/{name}"), "{path}");
        assert!(rule.over != Over::Deployment || named("/deployments/{id}"), "{path}");
    }
}

/// A body that reaches the question where the handler asks it.
fn body(path: &str) -> Value {
    match path {
        "/deployments" => json!({ "project": "shop", "environment": "dev", "operation_id": "x" }),
        "/projects/{name}/operations" => {
            json!({ "operation": "drift", "environment": "dev", "operation_id": "x" })
        }
        "/role-grants" => json!({ "user": "admin", "role": "viewer" }),
        "/projects/{name}/variables/{variable}" => json!({ "value": "x" }),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn who_has_no_role_gets_nothing_and_all_of_it_is_written() {
    let server = server().await;
    let made = deploy(&server, &server.token, "dev").await.ok(202);
    let deployment = made["deployment"].as_str().unwrap();
    let nobody = person(&server, "nobody", &[]).await;
    let grant = server.get("/role-grants").await.ok(200)[0]["id"].as_str().unwrap().to_owned();
    let mut refused = 0;
    for rule in RULES.iter().filter(|rule| !matches!(rule.over, Over::Open | Over::SignedIn)) {
        let path = rule.path.strip_prefix("/api/v1").unwrap();
        let id = if rule.over == Over::Deployment { deployment } else { &grant };
        let filled = path.replace("{id}", id).replace("{name}", "shop").replace("{sha256}", &"0".repeat(64));
        let answer = by(&server, &nobody, rule.method, &filled.replace(['{', '}'], ""), &body(path)).await;
        assert_eq!(answer.status, 403, "{} {path}: {answer:?}", rule.method);
        if rule.method != "HEAD" {
            let problem = answer.problem(403, "forbidden");
            assert!(problem["detail"].as_str().unwrap().starts_with("user `nobody` may not "), "{problem}");
            assert!(problem["hint"].as_str().unwrap().contains("longshore role grant --user nobody "), "{problem}");
        }
        refused += 1;
        let line = audit(&server).await.pop().unwrap();
        assert_eq!((&line["actor"], &line["outcome"]), (&json!("nobody"), &json!("refused")), "{path}: {line}");
        assert_eq!(line["action"], rule.action, "{path}");
        assert!(line["object"].as_str().is_some_and(|object| !object.is_empty() && !object.contains('{')), "{line}");
    }
    assert_eq!(audit(&server).await.iter().filter(|line| line["outcome"] == "refused").count(), refused);
    assert_eq!(
        get(&server, &nobody, "/whoami").await.ok(200),
        json!({ "user": "nobody", "teams": [], "roles": [], "limit": null })
    );
    // A read without its body is a read.
    assert_eq!(by(&server, &nobody, "HEAD", "/projects/shop", &Value::Null).await.status, 403);
    by(&server, &nobody, "DELETE", "/projects/shop", &Value::Null).await.problem(405, "no_such_method");
    get(&server, &nobody, "/nothing").await.problem(404, "no_such_path");
}

#[tokio::test]
async fn a_role_holds_in_its_place_only() {
    let server = server().await;
    server.apply("other", &spec("other")).await.ok(200);
    let made = deploy(&server, &server.token, "live").await.ok(202);
    let live = made["deployment"].as_str().unwrap().to_owned();
    let dan = person(&server, "dan", &[("deployer", Some("shop"), Some("dev"))]).await;
    let dev = deploy(&server, &dan, "dev").await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let problem = deploy(&server, &dan, "live").await.problem(403, "forbidden");
    assert_eq!(
        problem["detail"],
        "user `dan` may not deploy to environment `live` of project `shop`; nothing was changed"
    );
    get(&server, &dan, &format!("/deployments/{dev}")).await.ok(200);
    get(&server, &dan, &format!("/deployments/{live}")).await.problem(403, "forbidden");
    let none = format!("dep_{}", "0".repeat(32));
    get(&server, &dan, &format!("/deployments/{none}")).await.problem(404, "not_found");
    by(&server, &dan, "POST", &format!("/deployments/{live}/cancel"), &Value::Null).await.problem(403, "forbidden");
    by(&server, &dan, "POST", &format!("/deployments/{dev}/resolve"), &json!({ "reason": "why" }))
        .await
        .problem(403, "forbidden");
    let ids = |answer: Value| answer.as_array().unwrap().iter().map(|d| d["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(get(&server, &dan, "/deployments").await.ok(200)), [json!(dev)]);
    assert_eq!(ids(get(&server, &dan, "/deployments?project=shop").await.ok(200)), [json!(dev)]);
    get(&server, &dan, "/deployments?project=shop&environment=live").await.problem(403, "forbidden");
    get(&server, &dan, "/deployments?project=other").await.problem(403, "forbidden");
    assert_eq!(ids(server.get("/deployments").await.ok(200)).len(), 2);
    let projects = get(&server, &dan, "/projects").await.ok(200);
    assert_eq!((projects.as_array().unwrap().len(), &projects[0]["name"]), (1, &json!("shop")));
    get(&server, &dan, "/projects/other").await.problem(403, "forbidden");
    let apply = Request::put("/api/v1/projects/new").header(header::AUTHORIZATION, format!("Bearer {dan}"));
    server.send(apply.body(Body::from(spec("new"))).unwrap()).await.problem(403, "forbidden");
    get(&server, &dan, "/agents").await.problem(403, "forbidden");
    let locks = get(&server, &dan, "/locks").await.ok(200);
    let keys: Vec<_> = locks.as_array().unwrap().iter().map(|lock| &lock["key"]).collect();
    assert_eq!(keys, [&json!("project/shop/dev")], "not that of `live`");
}

#[tokio::test]
async fn a_working_tree_takes_the_right_to_apply_and_to_deploy() {
    let server = server().await;
    let tree = spec("shop").replace("echo hello", "echo mine");
    let ask = |token: &str, spec: &str| {
        json!({ "project": "shop", "environment": "dev", "operation_id": token,
            "local": { "spec": spec, "commit": "c0ffee1", "dirty": false } })
    };
    let dan = person(&server, "dan", &[("deployer", Some("shop"), None)]).await;
    let problem = by(&server, &dan, "POST", "/deployments", &ask(&dan, &tree)).await.problem(403, "forbidden");
    assert!(problem["detail"].as_str().unwrap().contains("`dan` may not"), "{problem}");
    assert!(
        audit(&server).await.iter().any(|line| line["action"] == "deployment.create_local" && line["actor"] == "dan")
    );
    let here = person(&server, "here", &[("admin", Some("shop"), Some("dev"))]).await;
    by(&server, &here, "POST", "/deployments", &ask(&here, &tree)).await.problem(403, "forbidden");
    let eve = person(&server, "eve", &[("admin", Some("shop"), None)]).await;
    let made = by(&server, &eve, "POST", "/deployments", &ask(&eve, &tree)).await.ok(202);
    let shown = get(&server, &eve, &format!("/deployments/{}", made["deployment"].as_str().unwrap())).await.ok(200);
    assert_eq!((&shown["local"]["commit"], &shown["local"]["dirty"]), (&json!("c0ffee1"), &json!(false)));
    assert_eq!(get(&server, &eve, "/deployments").await.ok(200)[0]["local"], shown["local"]);
    assert_eq!(get(&server, &eve, "/projects/shop/releases").await.ok(200), json!([]));
    assert_eq!(get(&server, &eve, "/projects/shop/releases?local=true").await.ok(200)[0]["version"], shown["release"]);
    // Another project through its children.
    server.apply("other", &spec("other")).await.ok(200);
    server.post("/projects/other/releases", &json!({})).await.ok(201);
    let below = tree
        .replace("    run: echo mine\n", "    run: echo mine\n  - {name: below, deploy-release: {project: other}}\n");
    by(&server, &eve, "POST", "/deployments", &ask("below", &below)).await.problem(403, "forbidden");
    let mut bad = ask("bad", "steps: 1");
    by(&server, &eve, "POST", "/deployments", &bad).await.problem(422, "bad_spec");
    bad = ask("bad", &tree);
    bad["local"]["commit"] = json!("main");
    by(&server, &eve, "POST", "/deployments", &bad).await.problem(422, "invalid");
}

#[tokio::test]
async fn a_child_is_no_way_around_a_role() {
    let server = server().await;
    server.apply("other", &spec("other")).await.ok(200);
    server.post("/projects/other/releases", &json!({})).await.ok(201);
    let steps = spec("shop")
        .replace("    run: echo hello\n", "    run: echo hello\n  - {name: below, deploy-release: {project: other}}\n");
    let both = steps.replace("  - name: dev\n", "  - name: dev\n  - name: live\n");
    server.apply("shop", &both).await.ok(200);
    let shop = ("deployer", Some("shop"), None);
    let dan = person(&server, "dan", &[shop]).await;
    let problem = deploy(&server, &dan, "dev").await.problem(403, "forbidden");
    assert_eq!(
        problem["detail"],
        "user `dan` may not deploy to environment `dev` of project `other`; nothing was changed"
    );
    let release = async |token: &str| by(&server, token, "POST", "/projects/shop/releases", &json!({})).await;
    let made = release(&dan).await.ok(201);
    assert_eq!(made["steps"][1]["child"]["project"], "other");
    let ask = json!({ "project": "shop", "environment": "dev", "release": made["version"], "operation_id": "held" });
    by(&server, &dan, "POST", "/deployments", &ask).await.problem(403, "forbidden");
    let eve = person(&server, "eve", &[shop, ("deployer", Some("other"), Some("dev"))]).await;
    deploy(&server, &eve, "dev").await.ok(202);
    deploy(&server, &eve, "live").await.problem(403, "forbidden");
    // A release that goes on by itself deploys the other project without anybody asking again.
    let alone =
        both.replace("variables:", "lifecycle: [{phase: all, environments: [dev, live], mode: automatic}]\nvariables:");
    server.apply("shop", &alone).await.ok(200);
    release(&eve).await.problem(403, "forbidden");
    deploy(&server, &eve, "dev").await.problem(403, "forbidden");
}

#[tokio::test]
async fn variables_are_set_and_seen_in_their_environment() {
    let server = server().await;
    let dan = person(&server, "dan", &[("deployer", Some("shop"), Some("dev"))]).await;
    let set = async |token: &str, name: &str, body: Value| {
        by(&server, token, "PUT", &format!("/projects/shop/variables/{name}"), &body).await
    };
    set(&dan, "region", json!({ "value": "us", "environment": "dev" })).await.ok(200);
    set(&dan, "region", json!({ "value": "us", "environment": "live" })).await.problem(403, "forbidden");
    set(&dan, "region", json!({ "value": "us" })).await.problem(403, "forbidden");
    let canary = "Zq7-canary-5511";
    let secret = json!({ "value": canary, "secret": true, "environment": "dev" });
    let problem = set(&dan, "token", secret.clone()).await.problem(403, "forbidden");
    assert!(problem["hint"].as_str().unwrap().contains("the role `admin`"), "{problem}");
    set(&server.token, "token", secret).await.ok(200);
    set(&server.token, "region", json!({ "value": "asia", "environment": "live" })).await.ok(200);
    let seen = get(&server, &dan, "/projects/shop/variables").await.ok(200).to_string();
    assert!(seen.contains("\"us\"") && !seen.contains("asia"), "{seen}");
    let lines = audit(&server).await;
    assert!(lines.iter().any(|line| line["object"] == "variable/shop/token" && line["outcome"] == "refused"));
    assert!(lines.iter().any(|line| line["object"] == "variable/shop/token" && line["outcome"] == "done"));
    assert!(!json!(lines).to_string().contains(canary));
}

#[tokio::test]
async fn who_administers_a_project_gives_roles_in_it_and_nowhere_else() {
    let server = server().await;
    let pam = person(&server, "pam", &[("admin", Some("shop"), None)]).await;
    server.post("/users", &json!({ "name": "new" })).await.ok(201);
    let give = async |project: Option<&str>, environment: Option<&str>| {
        let grant = json!({ "user": "new", "role": "admin", "project": project, "environment": environment });
        by(&server, &pam, "POST", "/role-grants", &grant).await
    };
    let given = give(Some("shop"), Some("dev")).await.ok(201);
    assert_eq!(give(Some("shop"), Some("dev")).await.ok(200), given, "once");
    give(None, None).await.problem(403, "forbidden");
    give(None, Some("dev")).await.problem(403, "forbidden");
    let seen = get(&server, &pam, "/role-grants").await.ok(200);
    assert_eq!(seen.as_array().unwrap().len(), 2, "her own and the one she gave: {seen}");
    let all = server.get("/role-grants").await.ok(200);
    let admin = all.as_array().unwrap().iter().find(|row| row["user"] == "admin").unwrap()["id"].as_str().unwrap();
    let revoke = async |id: &str| by(&server, &pam, "DELETE", &format!("/role-grants/{id}"), &Value::Null).await;
    revoke(admin).await.problem(403, "forbidden");
    revoke(given["id"].as_str().unwrap()).await.ok(200);
    for (method, path, body) in [
        ("POST", "/users", json!({ "name": "x" })),
        ("POST", "/tokens", json!({ "user": "admin" })),
        ("POST", "/teams", json!({ "name": "x" })),
    ] {
        by(&server, &pam, method, path, &body).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_token_is_shown_once_and_never_does_more_than_its_user() {
    let server = server().await;
    let vic = person(&server, "vic", &[("viewer", None, None)]).await;
    let more = json!({ "user": "vic", "role": "admin" });
    let wide = server.post("/tokens", &more).await.ok(201)["token"].as_str().unwrap().to_owned();
    deploy(&server, &wide, "dev").await.problem(403, "forbidden");
    let less =
        json!({ "user": "admin", "role": "deployer", "project": "shop", "environment": "dev", "expires_in": "2d" });
    let made = server.post("/tokens", &less).await.ok(201);
    let narrow = made["token"].as_str().unwrap();
    deploy(&server, narrow, "dev").await.ok(202);
    let problem = deploy(&server, narrow, "live").await.problem(403, "forbidden");
    assert!(problem["hint"].as_str().unwrap().contains("the token is limited to the role `deployer`"), "{problem}");
    let listed = server.get("/tokens").await;
    assert!(!String::from_utf8(listed.body.clone()).unwrap().contains("lst_"), "never shown again");
    assert_eq!(listed.ok(200).as_array().unwrap().len(), 4);
    assert!(!json!(audit(&server).await).to_string().contains("lst_"));
    let id = made["id"].as_str().unwrap();
    assert_eq!(server.call(Method::DELETE, &format!("/tokens/{id}"), "").await.status, 204);
    get(&server, narrow, "/whoami").await.problem(401, "unauthorized");
    server.post("/users/vic/disable", &Value::Null).await.ok(200);
    get(&server, &vic, "/whoami").await.problem(401, "unauthorized");
    server.post("/users/vic/enable", &Value::Null).await.ok(200);
    assert_eq!(get(&server, &vic, "/whoami").await.ok(200)["roles"][0]["role"], "viewer");
}

#[tokio::test]
async fn mistakes_are_named() {
    let server = server().await;
    server.post("/users", &json!({ "name": "alice" })).await.ok(201);
    server.post("/users", &json!({ "name": "alice" })).await.problem(409, "exists");
    server.post("/users", &json!({ "name": "Alice" })).await.problem(422, "invalid");
    server.post("/teams", &json!({ "name": "ops", "members": ["bob"] })).await.problem(404, "not_found");
    server.post("/teams", &json!({ "name": "ops", "members": ["alice"] })).await.ok(201);
    server.call(Method::PUT, "/teams/ops/members/bob", "").await.problem(404, "not_found");
    server.call(Method::PUT, "/teams/dev/members/alice", "").await.problem(404, "not_found");
    let team = server.call(Method::PUT, "/teams/ops/members/admin", "").await.ok(200);
    assert_eq!(team["members"], json!(["admin", "alice"]));
    assert_eq!(server.call(Method::DELETE, "/teams/ops/members/admin", "").await.ok(200)["members"], json!(["alice"]));
    let grant = async |body: Value| server.post("/role-grants", &body).await;
    grant(json!({ "user": "alice", "team": "ops", "role": "viewer" })).await.problem(422, "invalid");
    grant(json!({ "role": "viewer" })).await.problem(422, "invalid");
    let problem = grant(json!({ "user": "alice", "role": "root" })).await.problem(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("`root` is no role"), "{problem}");
    let problem = grant(json!({ "user": "alice", "role": "viewer", "project": "shop", "environment": "prod" }))
        .await
        .problem(404, "not_found");
    assert!(problem["hint"].as_str().unwrap().contains("`dev`, `live`"), "{problem}");
    server.post("/tokens", &json!({ "user": "alice", "expires_in": "never" })).await.problem(422, "invalid");
    server.post("/tokens", &json!({ "user": "bob" })).await.problem(404, "not_found");
    server.get("/audit?since=yesterday").await.problem(400, "bad_query");
    server.get("/audit?after=x").await.problem(422, "invalid");
    assert!(!server.get("/audit?since=1h").await.ok(200)["events"].as_array().unwrap().is_empty());
    assert_eq!(server.get("/audit?since=2999-01-01T00:00:00Z").await.ok(200)["events"], json!([]));
    let page = server.get("/audit?limit=1").await.ok(200);
    assert_eq!((page["events"].as_array().unwrap().len(), page["next"].is_string()), (1, true));
}
