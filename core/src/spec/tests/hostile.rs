//! Files that were made to break the reader, and random ones.

use proptest::prelude::*;

use super::*;

/// The one error of a file that cannot be read at all.
fn refusal(text: &str) -> String {
    let errors = parse(text).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].message.clone()
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    let large = format!("version: 1\n# {}\n", "x".repeat(10 << 20));
    assert!(refusal(&large).contains("at most 1048576"));
}

#[test]
fn aliases_cannot_multiply() {
    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let alias = format!("*a{}", i - 1);
        bomb.push_str(&format!("b{i}: &a{i} [{}]\n", [alias.as_str(); 9].join(", ")));
    }
    assert!(refusal(&bomb).contains("holds too much"));
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 100_000].join(","));
    assert!(refusal(&text).contains("holds too much"));
}

#[test]
fn an_alias_cannot_hold_itself() {
    assert!(refusal("version: &a [*a]\n").contains("inside of what it refers to"));
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
        assert!(refusal(&text).contains("this is not YAML"));
    }
    // Nesting that is made of aliases is not nesting of the text.
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for i in 1..2000 {
        chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(parse(&chain).is_err());
}

#[test]
fn a_step_gets_no_option_of_containers_that_is_not_in_the_list() {
    let fields = [
        "privileged: true",
        "pid: host",
        "pid_mode: host",
        "ipc: host",
        "userns: host",
        "cap_add: [SYS_ADMIN]",
        "capabilities: {add: [ALL]}",
        "security_opt: [seccomp=unconfined]",
        "devices: [/dev/kmsg]",
        "volumes: ['/:/host', '/var/run/docker.sock:/var/run/docker.sock']",
        "volumes_from: [agent]",
        "entrypoint: /bin/sh",
        "user: root",
        "runtime: sysbox",
        "cgroup_parent: /",
        "extra_hosts: ['metadata:169.254.169.254']",
        "options: '--privileged'",
        "docker: {args: ['--privileged']}",
        "labels: {longshore.agent: agt_1}",
    ];
    for field in fields {
        let name = field.split(':').next().unwrap();
        let errors = parse(&with_step(&format!("run: echo\n{field}"))).unwrap_err();
        assert!(errors.iter().any(|e| e.message.contains(&format!("unknown field `{name}`"))), "{field}: {errors:?}");
    }
    let values = [
        "network: host",
        "network: 'container:longshore-agent'",
        "network: bridge",
        "profile: privileged",
        "profile: none",
        "mounts: ['/']",
        "mounts: ['/var/run/docker.sock']",
        "mounts: ['/:/host']",
        "mounts: ['../state']",
        "mounts: [{source: /, target: /host}]",
        "env: {'A=B': c}",
        "env: {\"A\\nB\": c}",
        "env: {'': c}",
    ];
    for value in values {
        parse(&with_step(&format!("run: echo\n{value}"))).expect_err(value);
    }
}

#[test]
fn many_mistakes_are_cut() {
    let many: String = (0..50_000).map(|i| format!("x{i}: y\n")).collect();
    assert_eq!(parse(&many).unwrap_err().len(), 200);
    let many: String = (0..10_000).map(|i| format!("  v{i}: x\n")).collect();
    let errors = parse(&format!("variables:\n{many}")).unwrap_err();
    assert!(errors.iter().any(|e| e.message.contains("at most 500")));
}

#[test]
fn a_value_of_many_expressions_costs_no_more_than_its_length() {
    let value = "${{ vars.nowhere }}".repeat(50_000);
    let errors = parse(&with_step(&format!("run: echo\nenv: {{A: \"{value}\"}}"))).unwrap_err();
    assert_eq!(errors.len(), 200);
    let value = "$${{".repeat(250_000);
    let project = parse(&with_step(&format!("run: echo\nenv: {{A: \"{value}\"}}"))).unwrap();
    assert_eq!(project.steps[1].env[0].1.source(), value);
}

#[test]
fn a_value_of_a_user_fits_into_a_message() {
    let spec = with_step("run: echo").replace("name: one", &format!("name: \"\\e[31m{}\"", "x".repeat(5000)));
    let errors = parse(&spec).unwrap_err();
    assert!(errors[0].to_string().chars().all(|c| !c.is_control()), "{errors:?}");
    assert!(errors[0].to_string().len() < 400, "{errors:?}");
}

#[test]
fn names_that_lead_nowhere_cost_little() {
    let steps = |more: &dyn Fn(usize) -> String| -> String {
        (0..990).map(|i| format!("  - {{name: step-{i}, image: i, run: x{}}}\n", more(i))).collect()
    };
    let head = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps:\n";
    let unknown: Vec<String> = (0..120).map(|i| format!("stip-{i}")).collect();
    let needs =
        |i: usize| if i == 0 { format!(", needs: &n [{}]", unknown.join(", ")) } else { ", needs: *n".to_owned() };
    assert_eq!(parse(&format!("{head}{}", steps(&needs))).unwrap_err().len(), 200);
    let compared: Vec<String> = (0..80).map(|i| format!("steps.stip-{i}.outputs.x == ''")).collect();
    let when = |i: usize| {
        if i == 0 { format!(", when: &w \"{}\"", compared.join("&&")) } else { ", when: *w".to_owned() }
    };
    assert_eq!(parse(&format!("{head}{}", steps(&when))).unwrap_err().len(), 200);
    // Every step that waits for all before it is half a million edges, written out or not.
    let all: Vec<String> = (0..499).map(|i| format!("step-{i}")).collect();
    let needs = |i: usize| match i {
        0..500 => ", needs: []".to_owned(),
        500 => format!(", needs: &n [{}]", all.join(", ")),
        _ if i < 800 => ", needs: *n".to_owned(),
        _ => String::new(),
    };
    let project = parse(&format!("{head}{}", steps(&needs))).unwrap();
    assert_eq!(project.before(989).len(), 499 + 190);
}

#[test]
fn conditions_and_groups_cannot_nest_deep() {
    let spec = with_step(&format!("run: echo\nwhen: \"{}\"", "(".repeat(4000)));
    assert!(refusal(&spec).contains("nested deeper"));
    let group = |inner: &str| format!("{{name: g, parallel: [{inner}]}}");
    let spec = with_step(&format!("run: echo\nparallel: [{}]", group(&group("{name: a}"))));
    assert!(parse(&spec).unwrap_err().iter().any(|e| e.message.contains("a group cannot stand in a group")));
}

/// Pieces that mean something to the reader.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\\n]{0,8}",
        "\\PC{0,3}",
        prop::sample::select(vec![
            "${{",
            "}}",
            "$",
            "vars.",
            "secrets.",
            "steps.",
            "\n",
            "\n  ",
            "\t",
            ": ",
            "- ",
            "&a ",
            "*a",
            "!!str ",
            "|\n",
            ">-\n",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'",
            "#",
            "---\n",
            "...\n",
            "%",
            "? ",
            "~",
            "\0",
            "\u{feff}",
            "\u{85}",
            "\r",
            "é",
            "😀",
            ",",
            "parallel: ",
            "needs: ",
            "when: ",
            "always()",
            "approval: ",
            "http: ",
            "retries: ",
            "infra",
            "both",
            "go",
            "a",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in prop::collection::vec(piece(), 0..40)) {
        let text = text.concat();
        if let Err(errors) = parse(&text) {
            let lines = 2 + text.matches(['\n', '\r']).count();
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.iter().all(|e| e.line >= 1 && e.line <= lines), "{:?}", errors);
            prop_assert!(errors.is_sorted_by_key(|e| e.line));
        }
    }

    #[test]
    fn arbitrary_changes_of_a_good_spec_never_panic(
        releases in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, piece()), 1..4),
    ) {
        let mut chars: Vec<char> = if releases { RELEASES } else { CONTRACT }.chars().collect();
        for (at, cut, piece) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        let text: String = chars.into_iter().collect();
        match parse(&text) {
            Ok(project) => {
                let json = serde_json::to_string(&project).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Project>(&json).unwrap(), &project);
                for (index, before) in ancestors(&project.steps).into_iter().enumerate() {
                    prop_assert!(before.iter().all(|other| *other < index));
                }
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse_bytes(&bytes).is_err());
    }
}
