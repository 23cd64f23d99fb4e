use super::*;
use std::time::Duration;

use longshore_core::artifacts::Limits;
use longshore_core::fence::Fence;
use longshore_core::offer::{Network, OfferStep, Operation, OutputsKey, Plan, Profile, PulumiAction};

fn offer(network: Network) -> Offer {
    Offer {
        fence: Fence { attempt: format!("att_{}", "a".repeat(32)).parse().unwrap(), epoch: 3, incarnation: 1 },
        job: format!("job_{}", "b".repeat(32)).parse().unwrap(),
        deployment: format!("dep_{}", "c".repeat(32)).parse().unwrap(),
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        url: "https://longshore/d".to_owned(),
        steps: vec![OfferStep {
            index: 0,
            name: "infra".to_owned(),
            image: "tiny:1".to_owned(),
            profile: Profile::Standard,
            network,
            mounts: vec![],
            pulumi: true,
            resources: longshore_core::resources::Resources::default(),
            pull: longshore_core::offer::Pull::default(),
            digest: None,
        }],
        package: None,
    }
}

fn grant(action: Action, env: &[(&str, &str)]) -> Grant {
    Grant {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect(),
        secrets: vec![Secret::new("hunter2".to_owned())],
        timeout: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        action,
        outputs_key: OutputsKey([171; 32]),
        artifacts: None,
    }
}

fn image(env: &[(&str, &str)]) -> Image {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Image { reference: "tiny:1".to_owned(), id: "sha256:1".to_owned(), user: String::new(), env }
}

fn pulumi_action(operation: Operation, dir: &str) -> Action {
    let backend = Some("file:///state".to_owned());
    let (stack, dir) = ("dev".to_owned(), dir.to_owned());
    Action::Pulumi(PulumiAction {
        operation,
        stack,
        dir,
        backend,
        install: false,
        plan: Plan::None,
        over: vec!["att-1".to_owned()],
    })
}

fn orders(action: Action, env: &[(&str, &str)]) -> Result<Handover, Error> {
    let offer = offer(Network::Longshore);
    handover(&Step::of(&offer, 0).unwrap(), &offer, &grant(action, env), &image(&[]))
}

fn value<'a>(orders: &'a Handover, name: &str) -> Option<&'a str> {
    let mut found = orders.env.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} stands there twice");
    value
}

fn argv(orders: &Handover) -> Vec<String> {
    orders.commands.iter().map(|command| command.argv.join(" ")).collect()
}

#[test]
fn a_run_step_is_one_command_in_the_workspace() {
    let env = [
        ("GREETING", "hi"),
        ("HOME", "/root"),
        ("LONGSHORE_STEP", "forged"),
        ("LONGSHORE_OWN", "x"),
        ("LONGSHORE_OUTPUT", "/etc/passwd"),
    ];
    let orders = orders(Action::Run { argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()] }, &env).unwrap();
    assert_eq!(argv(&orders), ["sh -c true"]);
    assert_eq!((orders.cwd.as_str(), value(&orders, "GREETING")), (WORKSPACE, Some("hi")));
    assert_eq!(
        (value(&orders, "HOME"), value(&orders, "LONGSHORE_STEP"), value(&orders, "LONGSHORE_OWN")),
        (Some(HOME), Some("infra"), None)
    );
    assert_eq!(value(&orders, "LONGSHORE_OUTPUT"), orders.output_file.as_deref());
    assert_eq!(orders.output_file.as_deref(), Some("/run/longshore/output"));
    assert_eq!(orders.secrets, ["hunter2"]);
    assert_eq!(orders.outputs_key, Some("ab".repeat(32)));
}

#[test]
fn pulumi_operations_become_the_commands_that_the_real_cli_takes() {
    let tail = "--non-interactive --color never";
    let select = format!("pulumi stack select --create dev {tail}");
    let log = "--stack dev --event-log /dev/fd/3";
    let output = format!("pulumi stack output --json --show-secrets --stack dev {tail}");
    let commands = |operation| argv(&orders(pulumi_action(operation, "."), &[]).unwrap());
    assert_eq!(commands(Operation::Preview), [select.clone(), format!("pulumi preview {log} {tail}")]);
    assert_eq!(
        commands(Operation::Up),
        [select.clone(), format!("pulumi up {log} --yes --skip-preview {tail}"), output.clone()]
    );
    assert_eq!(
        commands(Operation::Refresh),
        [select, format!("pulumi refresh {log} --yes --skip-preview {tail}"), output]
    );
    assert_eq!(commands(Operation::Destroy), [format!("pulumi destroy {log} --yes --skip-preview {tail}")]);
    assert_eq!(commands(Operation::Drift), [format!("pulumi refresh {log} --preview-only {tail}")], "makes no stack");
    let up = orders(pulumi_action(Operation::Up, "."), &[]).unwrap().commands;
    assert!(up[1].events && up[1].decides && up[1].event_outputs && !up[0].decides);
    assert!(up[2].only_with_secret_outputs && up[2].stdout == Stdout::RevealedOutputs);
}

#[test]
fn an_unlock_looks_who_holds_the_lock_before_it_removes_it() {
    let orders = orders(pulumi_action(Operation::Unlock, "."), &[]).unwrap();
    let words = argv(&orders);
    assert!(words[0].starts_with("pulumi refresh --stack dev --yes --skip-preview --target urn:"), "{words:?}");
    assert!(words[1].starts_with("pulumi cancel --stack dev --yes"), "{words:?}");
    assert!(orders.commands[0].finds_lock && !orders.commands[1].finds_lock && words.len() == 2);
    assert_eq!(orders.over, ["att-1"]);
}

#[test]
fn a_plan_is_bound_to_the_state_that_is_looked_at_first() {
    let planned = |operation, plan| match pulumi_action(operation, ".") {
        Action::Pulumi(action) => orders(Action::Pulumi(PulumiAction { plan, ..action }), &[]).unwrap(),
        other => panic!("{other:?}"),
    };
    let made = planned(Operation::Preview, Plan::Save);
    let words = argv(&made);
    assert!(words[1].starts_with("pulumi stack export --stack dev"), "{words:?}");
    assert!(words[2].starts_with("pulumi preview") && words[2].contains("--save-plan /run/longshore/plan.json"));
    assert_eq!(made.commands[1].stdout, Stdout::Checkpoint);
    let file = made.plan.unwrap();
    assert_eq!((file.content, file.settings.as_str()), (None, "/longshore/workspace/Pulumi.dev.yaml"));
    let (plan, checkpoint) = (Secret::new("hunter2-plan".to_owned()), "ab".to_owned());
    let run = planned(Operation::Up, Plan::Run { plan, checkpoint });
    let words = argv(&run);
    assert!(words[1].starts_with("pulumi stack export"), "{words:?}");
    assert!(words[2].contains("--yes --skip-preview --plan /run/longshore/plan.json"), "{words:?}");
    assert!(!format!("{run:?} {:?}", run.plan).contains("hunter2"));
    let file = run.plan.unwrap();
    assert_eq!((file.content.as_deref(), file.checkpoint.as_deref()), (Some("hunter2-plan"), Some("ab")));
}

#[test]
fn the_state_is_exported_once_before_each_operation_that_writes() {
    let limits = Limits { file_bytes: 10, total_bytes: 20 };
    let keeping = |operation, plan| {
        let Action::Pulumi(action) = pulumi_action(operation, ".") else { panic!() };
        let offer = offer(Network::Longshore);
        let action = Action::Pulumi(PulumiAction { plan, ..action });
        let grant = Grant { artifacts: Some(limits), ..grant(action, &[("LONGSHORE_ARTIFACTS", "/forged")]) };
        handover(&Step::of(&offer, 0).unwrap(), &offer, &grant, &image(&[])).unwrap()
    };
    let run = || Plan::Run { plan: Secret::new("p".to_owned()), checkpoint: "ab".to_owned() };
    let writing =
        [Operation::Up, Operation::Refresh, Operation::Destroy].map(|operation| keeping(operation, Plan::None));
    for orders in writing.iter().chain([&keeping(Operation::Up, run())]) {
        let words = argv(orders);
        let export = words.iter().position(|words| words.starts_with("pulumi stack export --stack dev")).unwrap();
        assert_eq!(words.iter().filter(|words| words.contains("export")).count(), 1, "{words:?}");
        assert!(orders.commands[export].keeps_state && orders.commands[export].stdout == Stdout::Checkpoint);
        assert!(orders.commands[export + 1].decides, "right before the operation: {words:?}");
    }
    assert!(keeping(Operation::Preview, Plan::None).commands.iter().all(|command| command.stdout == Stdout::Log));
    assert!(keeping(Operation::Preview, Plan::Save).commands.iter().all(|command| !command.keeps_state));
    // Each try has a folder of its own; without limits there is none.
    let [up, ..] = &writing;
    assert_eq!(value(up, "LONGSHORE_ARTIFACTS"), Some("/longshore/artifacts/0/files"));
    assert_eq!(up.artifacts, Some(Collect { folder: "/longshore/artifacts/0".to_owned(), limits }));
    let none = orders(pulumi_action(Operation::Up, "."), &[]).unwrap();
    assert_eq!((value(&none, "LONGSHORE_ARTIFACTS"), &none.artifacts), (None, &None));
}

#[test]
fn a_step_may_replace_defaults_but_not_what_its_outcome_is_read_from() {
    let env = [
        ("PULUMI_CI_BRANCH_NAME", "main"),
        ("USER", "me"),
        ("PULUMI_HOME", "/tmp"),
        ("PULUMI_BACKEND_URL", "s3://x"),
        ("PULUMI_DEBUG_COMMANDS", "false"),
    ];
    let orders = orders(pulumi_action(Operation::Up, "infra/./net/"), &env).unwrap();
    assert_eq!(orders.cwd, "/longshore/workspace/infra/net");
    assert_eq!((value(&orders, "PULUMI_CI_BRANCH_NAME"), value(&orders, "USER")), (Some("main"), Some("me")));
    assert_eq!(value(&orders, "PULUMI_HOME"), Some("/longshore/home/.pulumi"));
    assert_eq!(value(&orders, "PULUMI_BACKEND_URL"), Some("file:///state"));
    assert_eq!(value(&orders, "PULUMI_DEBUG_COMMANDS"), Some("true"));
    assert_eq!(value(&orders, "PULUMI_CREDENTIALS_PATH"), Some("/run/longshore"));
    assert_eq!(value(&orders, "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"), None);
}

#[test]
fn all_nine_ci_variables_are_set() {
    let orders = orders(pulumi_action(Operation::Up, "."), &[]).unwrap();
    for name in [
        "PULUMI_CI_SYSTEM",
        "PULUMI_CI_BUILD_ID",
        "PULUMI_CI_BUILD_NUMBER",
        "PULUMI_CI_BUILD_TYPE",
        "PULUMI_CI_BUILD_URL",
        "PULUMI_CI_PULL_REQUEST_SHA",
        "PULUMI_CI_BRANCH_NAME",
        "PULUMI_COMMIT_MESSAGE",
        "PULUMI_PR_NUMBER",
    ] {
        assert!(value(&orders, name).is_some(), "{name}");
    }
}

#[test]
fn plugins_are_looked_for_where_the_image_says() {
    let offer = offer(Network::None);
    let image = image(&[("PULUMI_HOME", "/opt/pulumi/"), ("HOME", "/root"), ("USER", "root")]);
    let orders =
        handover(&Step::of(&offer, 0).unwrap(), &offer, &grant(pulumi_action(Operation::Up, "."), &[]), &image)
            .unwrap();
    let Prepare::LinkFarm { sources, target, shared } = &orders.prepare[2] else { panic!("{:?}", orders.prepare) };
    assert_eq!(sources, &["/opt/pulumi/plugins", "/root/.pulumi/plugins", "/home/pulumi/.pulumi/plugins"]);
    assert_eq!(target, "/longshore/home/.pulumi/plugins");
    assert_eq!(shared.as_deref(), Some("/longshore/pulumi/plugins"));
    assert_eq!(
        (value(&orders, "USER"), value(&orders, "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION")),
        (None, Some("true"))
    );
}

#[test]
fn folders_that_leave_the_package_are_refused() {
    for dir in ["..", "a/../../b", "/etc"] {
        let error = orders(pulumi_action(Operation::Up, dir), &[]).unwrap_err().to_string();
        assert!(error.contains(dir) && error.contains("`infra`"), "{error}");
    }
    assert!(orders(Action::Run { argv: vec![] }, &[]).is_err());
}
