use std::io::Read as _;

use super::*;

fn checked(limits: Limits, entries: &[(&str, What<'_>)]) -> Result<Vec<Option<Admitted>>, Refused> {
    let mut checker = Checker::new(limits, 1);
    entries.iter().map(|(name, what)| checker.entry(name.as_bytes(), *what)).collect()
}

const FILE: What<'static> = What::File { bytes: 0 };

fn link(target: &str) -> What<'_> {
    What::Symlink { target: target.as_bytes() }
}

fn hard(target: &str) -> What<'_> {
    What::HardLink { target: target.as_bytes() }
}

#[test]
fn good_entries_are_admitted_in_their_shortest_form() {
    let got = checked(
        Limits::default(),
        &[
            ("./", What::Folder),
            ("./a//b/./c", FILE),
            ("a/b/", What::Folder),
            ("a/b/c", FILE),
            ("a/up", link("../a/./b")),
            ("a/b/dangling", link("../../x/y")),
            ("hard", hard("./a/b/c")),
            ("again", hard("hard")),
            ("\u{e4}\\..", FILE),
        ],
    )
    .unwrap();
    assert_eq!(got[0], None);
    let first = got[1].clone().unwrap();
    assert_eq!((first.path, first.implied), (b"a/b/c".to_vec(), vec![b"a".to_vec(), b"a/b".to_vec()]));
    assert!(got[2..].iter().flatten().all(|entry| entry.implied.is_empty()));
    assert_eq!(got[6].clone().unwrap().target, Some(b"a/b/c".to_vec()));
}

#[test]
fn what_reaches_outside_or_changes_its_kind_is_refused_by_name() {
    let long = "x".repeat(MAX_PART + 1);
    let longer = format!("{}x", "x/".repeat(MAX_NAME / 2));
    let deep = "d/".repeat(MAX_DEPTH + 1);
    let cases: &[(&[(&str, What<'_>)], &str)] = &[
        (&[("/etc/passwd", FILE)], "absolute"),
        (&[("a/../../b", FILE)], "`..`"),
        (&[("..", What::Folder)], "`..`"),
        (&[("", FILE)], "empty"),
        (&[("a\0b", FILE)], "NUL"),
        (&[(".", FILE)], "no name"),
        (&[(".", link("x"))], "no name"),
        (&[("dir/", FILE)], "name of a folder"),
        (&[(&long, FILE)], "longer than 255"),
        (&[(&longer, FILE)], "longer than 4000"),
        (&[(&deep, What::Folder)], "deeper"),
        (&[("out", link("/etc"))], "outside"),
        (&[("out", link(".."))], "outside"),
        (&[("a/b/out", link("../../../x"))], "outside"),
        (&[("a/out", link("x/../../.."))], "beginning"),
        (&[("out", link(""))], "empty"),
        (&[("out", link(&longer))], "overlong"),
        (&[("out", hard("/etc/passwd"))], "absolute"),
        (&[("out", hard("../x"))], "`..`"),
        (&[("out", hard("missing"))], "no file before it"),
        (&[("d", What::Folder), ("out", hard("d"))], "no file before it"),
        (&[("l", link("x")), ("out", hard("l"))], "no file before it"),
        (&[("in", link("dir")), ("in/x", FILE)], "behind the link"),
        (&[("in/x", FILE), ("in", link("dir"))], "twice"),
        (&[("f", FILE), ("f/x", FILE)], "not a folder"),
        (&[("f", FILE), ("f", What::Folder)], "twice"),
        (&[("d", What::Folder), ("d", FILE)], "twice"),
        (&[("l", link("x")), ("l", link("y"))], "twice"),
        (&[("null", What::Other("a device"))], "is a device"),
    ];
    for (entries, why) in cases {
        let error = checked(Limits::default(), entries).unwrap_err();
        let name = shown(entries.last().unwrap().0.as_bytes());
        assert!(error.to_string().contains(why) && error.to_string().contains(&name), "{error}: {why}");
    }
    assert_eq!(shown(b"a\x1b[31m\n\xff"), "a?[31m?\u{fffd}");
}

#[test]
fn numbers_sizes_and_names_are_bounded() {
    let limits = Limits { entries: 3, unpacked: 100, ..Limits::default() };
    assert!(matches!(checked(limits, &[("a/b/c/d", FILE)]), Err(Refused::TooMany(3))));
    assert!(matches!(checked(limits, &[("a", FILE); 4]), Err(Refused::TooMany(3))));
    let sized = |bytes| ("a", What::File { bytes });
    assert!(checked(limits, &[sized(50), sized(50)]).is_ok());
    assert!(matches!(checked(limits, &[sized(50), sized(51)]), Err(Refused::TooLarge(100))));
    assert!(matches!(checked(Limits::default(), &[sized(RATIO_FROM + 1)]), Err(Refused::Ratio(200))));
    let part = "n".repeat(MAX_PART);
    let many: Vec<String> = (0..20_000).map(|n| format!("{n}/{}", [part.as_str(); 14].join("/"))).collect();
    let many: Vec<(&str, What<'_>)> = many.iter().map(|name| (name.as_str(), FILE)).collect();
    let limits = Limits { entries: 1 << 20, ..Limits::default() };
    assert!(matches!(checked(limits, &many), Err(Refused::Names)));
}

#[test]
fn a_gate_fails_at_its_bounds_and_says_which() {
    let limits = Limits { unpacked: 3 << 20, ..Limits::default() };
    let (mut gate, meter) = Gate::new(io::repeat(0), limits, 1 << 30);
    meter.headers(b"before");
    let error = io::copy(&mut gate, &mut io::sink()).unwrap_err();
    assert!(matches!(meter.refused("tar", error), Refused::Headers { after } if after == "before"));
    meter.content();
    let mut all = Vec::new();
    let error = gate.read_to_end(&mut all).unwrap_err();
    assert_eq!(all.len(), 2 << 20);
    assert!(matches!(meter.refused("tar", error), Refused::TooLarge(_)));
    assert!(matches!(meter.refused("tar", io::ErrorKind::Other.into()), Refused::Unreadable { form: "tar", .. }));
}
