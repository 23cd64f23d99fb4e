//! The form of `longshore.yaml` as a JSON Schema, for editors.
//!
//! It is made from the tables that the reader uses, so it knows the same fields and words. It says what can be said about
//! one value or one mapping; what needs more than that (names that are defined elsewhere, the order of steps, expressions) only
//! [`parse`](super::parse) knows. It must accept every file that `parse` accepts.

use serde_json::{Map, Value, json};

use super::flow::MAX_RETRIES;
use super::scope::Kind;
use super::{action, channels, env, gates, lifecycle, limits, project, source, step, steps, variables};

const NAME: &str = "^[a-z][a-z0-9-]{0,62}$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]{0,127}$";
const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The schema of `longshore.yaml` (draft 2020-12); committed as `docs/longshore.schema.json`.
#[must_use]
pub fn schema() -> Value {
    let mut root = object(&project::FIELDS, &["version", "project", "environments", "steps"], top);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("longshore.yaml"));
        root.insert(
            "description".to_owned(),
            json!("A project of Longshore: what is deployed, where to, in which steps."),
        );
        root.insert("$defs".to_owned(), definitions());
    }
    root.sort_all_objects();
    root
}

fn definitions() -> Value {
    let mut all = Map::new();
    let mut define = |name: &str, value| all.insert(name.to_owned(), value);
    define("name", json!({"type": "string", "pattern": NAME}));
    // YAML gives `1` and `true` a type; the reader takes their text.
    define("text", json!({"type": ["string", "number", "boolean"]}));
    let literal = json!({"anyOf": [
        {"type": ["number", "boolean"]},
        {"type": "string", "not": {"pattern": "\\$\\{\\{"}},
    ]});
    define("literal", literal);
    define("boolean", json!({"enum": [true, false, "true", "false"]}));
    define("duration", json!({"type": "string", "minLength": 2, "pattern": DURATION}));
    define("condition", json!({"type": ["string", "boolean"]}));
    define("needs", json!({"type": "array", "items": reference("name"), "uniqueItems": true}));
    define("variable", variable());
    for (name, kind) in Kind::ALL {
        define(&format!("step-{name}"), step_of(name, kind));
    }
    let steps = Kind::ALL.iter().map(|(name, _)| reference(&format!("step-{name}")));
    let in_group = Kind::ALL.iter().filter(|(_, kind)| *kind != Kind::Approval);
    let in_group: Vec<Value> = in_group.map(|(name, _)| reference(&format!("step-{name}"))).collect();
    define(
        "group",
        object(&steps::GROUP, &["name", "parallel"], |field| match field {
            "parallel" => json!({
                "description": "Steps that run at the same time.",
                "type": "array", "minItems": 1, "items": {"oneOf": in_group},
            }),
            other => common(other),
        }),
    );
    let steps: Vec<Value> = steps.chain([reference("group")]).collect();
    define("step", json!({"oneOf": steps}));
    Value::Object(all)
}

/// A mapping of exactly these fields. A field that `schema` does not know gets a schema that nothing fits.
fn object(names: &[&str], required: &[&str], schema: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), schema(name))).collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn described(description: &str, name: &str) -> Value {
    json!({"description": description, "$ref": format!("#/$defs/{name}")})
}

/// One of the words of a table.
fn words<T>(description: &str, table: &[(&str, T)]) -> Value {
    let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
    json!({"description": description, "enum": words})
}

fn number(description: &str, from: u32, to: u32) -> Value {
    json!({"description": description, "anyOf": [
        {"type": "integer", "minimum": from, "maximum": to},
        {"type": "string", "pattern": "^[0-9]+$"},
    ]})
}

fn list(description: &str, items: &Value, least: usize) -> Value {
    json!({"description": description, "type": "array", "minItems": least, "items": items})
}

fn resources(description: &str) -> Value {
    let size = |description: &str| json!({"description": description, "type": "string", "pattern": "^[0-9]+[KMGT]iB$"});
    let mut resources = object(&limits::RESOURCES, &[], |field| match field {
        "cpus" => json!({
            "description": "Processors, such as `1.5`.",
            "anyOf": [
                {"type": "number", "minimum": 0.01, "maximum": 4096},
                {"type": "string", "pattern": "^[0-9]+([.][0-9]{1,3})?$"},
            ],
        }),
        "memory" => size("Memory, such as `2GiB`; also the limit of the container."),
        "disk" => size("Free disk, such as `5GiB`."),
        _ => json!(false),
    });
    if let Some(resources) = resources.as_object_mut() {
        resources.insert("description".to_owned(), json!(description));
    }
    resources
}

fn labels(description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "maxProperties": 32,
        "propertyNames": {"pattern": "^[a-z][a-z0-9-]{0,62}$"},
        "additionalProperties": {"type": ["string", "number", "boolean"], "pattern": "^[A-Za-z0-9._-]{1,63}$"},
    })
}

fn top(field: &str) -> Value {
    match field {
        "version" => json!({"description": "Version of the format.", "enum": [1, "1"]}),
        "project" => described("Name of the project.", "name"),
        "pool" => described("Pool whose agents run its jobs; `default` if left out.", "name"),
        "agents" => labels("Labels that the agents which run its jobs have to have."),
        "resources" => resources("What steps ask of their host that do not say it themselves."),
        "max_running" => number(
            "Most jobs of it that run at once, in all pools; any number if left out.",
            *limits::MAX_RUNNING.start(),
            *limits::MAX_RUNNING.end(),
        ),
        "max_queue_wait" => {
            described("How long a job may wait for an agent, up to `7d`; `7d` if left out.", "duration")
        }
        "environments" => {
            let environment = object(&project::ENVIRONMENT, &["name"], |field| match field {
                "name" => described("Its name, also the default name of Pulumi stacks in it.", "name"),
                "protected" => described("Who deploys may not approve.", "boolean"),
                "pool" => described("Pool whose agents run its jobs; the project's if left out.", "name"),
                "agents" => labels("Labels that those agents have to have, beside the project's."),
                "max_queue_wait" => described(
                    "How long a job for it may wait for an agent; as the project says if left out.",
                    "duration",
                ),
                _ => json!(false),
            });
            list("Where it is deployed to.", &environment, 1)
        }
        "lifecycle" => list(
            "Phases in the order a release passes them.",
            &object(&lifecycle::FIELDS, &["phase", "environments"], phase),
            1,
        ),
        "channels" => list(
            "Lines of releases; without them there is one, `default`, without rules.",
            &object(&channels::FIELDS, &["name"], channel),
            1,
        ),
        "libraries" => {
            let mut libraries = list(
                "Libraries of the server whose variables it may use; a later one counts before an earlier one.",
                &reference("name"),
                0,
            );
            if let Some(libraries) = libraries.as_object_mut() {
                libraries.insert("uniqueItems".to_owned(), json!(true));
            }
            libraries
        }
        "source" => {
            let mut source = object(&source::FIELDS, &["git", "ref"], source_of);
            if let Some(source) = source.as_object_mut() {
                source.insert("description".to_owned(), json!("The git repository that its packages are made of."));
            }
            source
        }
        "variables" => json!({
            "description": "Values for expressions: `${{ vars.NAME }}`, `${{ secrets.NAME }}`.",
            "type": "object",
            "propertyNames": {"pattern": VARIABLE},
            "additionalProperties": reference("variable"),
        }),
        "steps" => list("What a deployment does, one after the other.", &reference("step"), 1),
        _ => json!(false),
    }
}

fn channel(field: &str) -> Value {
    let rule = json!({"type": ["string", "number", "boolean"], "pattern": "^([0-9A-Za-z-]+[*]?|[*])$"});
    match field {
        "name" => described("Its name.", "name"),
        "versions" => json!({
            "description": "Versions of its releases, such as `>=1.0.0 <2.0.0`; all if left out.",
            "type": "string",
            "minLength": 1,
        }),
        "prerelease" => json!({
            "description": "What pre-releases of its releases begin with, such as `rc` or `rc*`, or `none` or `any`; `any` if left out.",
            "anyOf": [rule.clone(), {"type": "array", "minItems": 1, "uniqueItems": true, "items": rule}],
        }),
        "lifecycle" => list(
            "Phases of its own; those of the project if left out.",
            &object(&lifecycle::FIELDS, &["phase", "environments"], phase),
            1,
        ),
        "default" => described("Takes what more than one channel would take.", "boolean"),
        _ => json!(false),
    }
}

fn source_of(field: &str) -> Value {
    let text = |description: &str| json!({"description": description, "type": "string", "minLength": 1});
    match field {
        "git" => {
            text("Its address: `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`; without a password.")
        }
        "ref" => text("Branch, tag, or commit id in full, when nothing else is asked for."),
        "dir" => text("The folder of the repository that becomes the package; all of it if left out."),
        "credentials" => object(&source::CREDENTIALS, &[], |field| match field {
            "user" => text("Who asks by https; `git` if left out."),
            "password" => text("Name of the secret with the password or token for https."),
            "key" => text("Name of the secret with the private key for ssh."),
            "known_hosts" => text("Keys that the ssh host may show, as `ssh-keyscan` writes them."),
            _ => json!(false),
        }),
        _ => json!(false),
    }
}

fn phase(field: &str) -> Value {
    match field {
        "phase" => described("Its name.", "name"),
        "environments" => list("Its environments; each is in one phase only.", &reference("name"), 1),
        "mode" => words("Who starts its deployments; `manual` if left out.", &lifecycle::MODES),
        "require" => json!({
            "description": "How many environments need a release before it may enter the next phase; `all` if left out.",
            "anyOf": [{"enum": ["all", "optional"]}, number("At least so many.", 1, u32::MAX)],
        }),
        _ => json!(false),
    }
}

fn variable() -> Value {
    let scope = |description: &str, names: &str| {
        json!({
            "description": description,
            "type": "object",
            "propertyNames": reference(names),
            "additionalProperties": reference("text"),
        })
    };
    let secret = object(
        &["secret"],
        &["secret"],
        |_| json!({"description": "Its value is set on the server, never here.", "enum": [true, "true"]}),
    );
    let mut scoped = object(&variables::SCOPED, &[], |field| match field {
        "value" => described("The value everywhere else.", "text"),
        "environments" => scope("Values by environment.", "name"),
        "steps" => scope("Values by step.", "name"),
        "channels" => scope("Values by channel.", "name"),
        "pools" => scope("Values by pool.", "name"),
        _ => json!(false),
    });
    if let Some(scoped) = scoped.as_object_mut() {
        scoped.insert("minProperties".to_owned(), json!(1));
    }
    let prompt = object(&variables::PROMPT, &["prompt"], |field| match field {
        "prompt" => described("What is asked when a deployment is started.", "literal"),
        "required" => described("A deployment without it is refused.", "boolean"),
        "value" => described("The value when none is given.", "text"),
        "type" => {
            json!({"description": "What a value has to be; any text if left out.", "enum": ["text", "number", "boolean"]})
        }
        "options" => list("The values that there are to choose from.", &reference("text"), 1),
        _ => json!(false),
    });
    json!({"anyOf": [reference("text"), secret, scoped, prompt]})
}

/// A step of one kind: every field but those that belong to other kinds or are refused.
fn step_of(name: &str, kind: Kind) -> Value {
    let other = |field: &str| Kind::ALL.iter().any(|(other, _)| *other == field && *other != name);
    let fields = step::FIELDS.into_iter();
    let fields = fields.filter(|field| *field != "parallel" && !other(field) && kind.refuses(field).is_none());
    let mut required = vec!["name", name];
    if matches!(kind, Kind::Run | Kind::Pulumi) {
        required.push("image");
    }
    object(&fields.collect::<Vec<_>>(), &required, |field| match field {
        "run" => json!({
            "description": "A script for `sh -c`, or a list of program and arguments; without expressions.",
            "anyOf": [reference("literal"), {"type": "array", "minItems": 1, "items": reference("literal")}],
        }),
        "pulumi" => object(&action::PULUMI, &["operation"], pulumi),
        "approval" => object(&gates::APPROVAL, &[], approval),
        "http" => object(&gates::HTTP, &["url"], http),
        "deploy-release" => object(&gates::DEPLOY_RELEASE, &["project"], |field| match field {
            "project" => described("The other project.", "name"),
            "channel" => described("Its channel whose newest release it is; the default one if left out.", "name"),
            "version" => described("Version of its release; the newest one of the channel if left out.", "text"),
            _ => json!(false),
        }),
        other => common(other),
    })
}

/// A field that more than one kind of step has.
fn common(field: &str) -> Value {
    match field {
        "name" => described("Its name; steps and groups share their names.", "name"),
        "image" => json!({"description": "Image of the container.", "type": "string", "minLength": 1}),
        "mounts" => {
            let mut mounts = list("Host directories, by their names in the pool's list.", &reference("name"), 0);
            if let Some(mounts) = mounts.as_object_mut() {
                mounts.insert("uniqueItems".to_owned(), json!(true));
            }
            mounts
        }
        "accounts" => {
            let mut accounts =
                list("Accounts of the server whose environment variables it gets.", &reference("name"), 0);
            if let Some(accounts) = accounts.as_object_mut() {
                accounts.insert("uniqueItems".to_owned(), json!(true));
            }
            accounts
        }
        "env" => {
            let reserved: Vec<&str> = env::RESERVED.iter().map(|(name, _)| *name).collect();
            json!({
                "description": "Environment variables; the one way for values to reach a script.",
                "type": "object",
                "propertyNames": {
                    "pattern": VARIABLE,
                    "not": {"anyOf": [{"pattern": "^LONGSHORE_"}, {"enum": reserved}]},
                },
                "additionalProperties": reference("text"),
            })
        }
        "timeout" => described("Time it may take, from `1s` to `7d`; `1h` if left out.", "duration"),
        "network" => words("What it can reach; `longshore` if left out.", &step::NETWORKS),
        "profile" => words("What it may do on its host; `standard` if left out.", &step::PROFILES),
        "resources" => resources("What it asks of its host; what is left out, the project says."),
        "pull" => words(
            "When its image is asked of the registry; `if-not-present` if left out. A reference by digest is never asked for again.",
            &step::PULLS,
        ),
        "needs" => described("Earlier steps or groups that it waits for; those before it if left out.", "needs"),
        "when" => described(
            "Whether it runs: `success()` (if left out), `failure()`, `always()`, or an expression.",
            "condition",
        ),
        "skippable" => described("A deployment may be asked for without it: `deploy --skip`.", "boolean"),
        "retries" => object(&step::RETRIES, &["max"], |field| match field {
            "max" => number("Tries after the first.", 1, MAX_RETRIES),
            "backoff" => {
                described("Wait before the first retry, which doubles each time; `1s` if left out.", "duration")
            }
            _ => json!(false),
        }),
        _ => json!(false),
    }
}

fn pulumi(field: &str) -> Value {
    match field {
        "operation" => words("What is done.", &action::OPERATIONS),
        "stack" => described("Name of the stack; the environment's if left out.", "text"),
        "dir" => described("Where `Pulumi.yaml` is in the package; its root if left out.", "text"),
        "backend" => described("URL of the backend.", "text"),
        "install" => described("Run `pulumi install` first.", "boolean"),
        _ => json!(false),
    }
}

fn approval(field: &str) -> Value {
    match field {
        "teams" => {
            list("Teams whose members may decide; everyone who may approve here if left out.", &reference("name"), 1)
        }
        "needs" => number("How many people have to agree.", *gates::PEOPLE.start(), *gates::PEOPLE.end()),
        "plan" => described("A later `pulumi` step whose plan is shown and bound.", "name"),
        "expires" => described("How long it waits; `7d` if left out.", "duration"),
        _ => json!(false),
    }
}

fn http(field: &str) -> Value {
    match field {
        "url" => json!({
            "description": "The address that is asked.",
            "type": "string",
            "pattern": "^(https?://|\\$\\{\\{)",
        }),
        "expect" => object(&gates::EXPECT, &[], |field| match field {
            "status" => {
                number("The status that is good; 200 if left out.", *gates::STATUSES.start(), *gates::STATUSES.end())
            }
            "body" => described("Text that a good answer holds.", "literal"),
            _ => json!(false),
        }),
        _ => json!(false),
    }
}
