use super::variants::{MIN_ENCODED, MIN_LINE};
use super::*;
use base64::prelude::*;
use proptest::prelude::*;

/// What redaction means, slowly: all occurrences of all patterns, overlapping ones joined, each one mask.
fn reference(patterns: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for begin in 0..text.len() {
        let longest = patterns.iter().filter(|p| !p.is_empty() && text[begin..].starts_with(p)).map(Vec::len).max();
        let Some(len) = longest else { continue };
        match found.last_mut() {
            Some((_, end)) if *end > begin => *end = (*end).max(begin + len),
            _ => found.push((begin, begin + len)),
        }
    }
    let (mut out, mut at) = (Vec::new(), 0);
    for (begin, end) in found {
        out.extend(&text[at..begin]);
        out.extend(b"[secret]");
        at = end;
    }
    out.extend(&text[at..]);
    out
}

/// Pushes `text` cut at `cuts`, checking after each push that nothing is held that begins no pattern.
fn streamed(patterns: &[Vec<u8>], redactor: &mut Redactor, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    for cut in cuts.iter().copied().chain([text.len()]) {
        let cut = cut.clamp(at, text.len());
        redactor.push(&text[at..cut], &mut out);
        let may_begin =
            (1..=cut).rev().find(|len| patterns.iter().any(|p| p.len() > *len && p.starts_with(&text[cut - len..cut])));
        assert!(redactor.held() <= may_begin.unwrap_or(0), "holds {} of {:?} at {cut}", redactor.held(), text);
        at = cut;
    }
    redactor.finish(&mut out);
    out
}

fn check(patterns: &[&str], text: &str, want: &str) {
    let patterns: Vec<Vec<u8>> = patterns.iter().map(|p| p.as_bytes().to_vec()).collect();
    let mut redactor = Patterns::exactly(&patterns).unwrap().redactor();
    assert_eq!(String::from_utf8_lossy(&reference(&patterns, text.as_bytes())), want);
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let got = streamed(&patterns, &mut redactor, text.as_bytes(), &[first, second]);
            assert_eq!(String::from_utf8_lossy(&got), want, "cut at {first} and {second}");
        }
    }
}

#[test]
fn what_breaks_other_maskers() {
    check(&["s3s3cret"], "s3s3s3cret", "s3[secret]");
    check(&["11112222"], "111112222", "1[secret]");
    check(&["ababac-99"], "abababac-99!", "ab[secret]!");
    check(&["key", "key-extended"], "key key-extended key-ext", "[secret] [secret] [secret]-ext");
    check(&["abcd", "cdef"], "xabcdefx abcd cdef", "x[secret]x [secret] [secret]");
    check(&["aaa"], "aa aaa aaaa aaaaaaa", "aa [secret] [secret] [secret]");
    check(&["bcd", "abcdef"], "abcdeX abcdef bcd", "a[secret]eX [secret] [secret]");
    check(&["b", "abc"], "b ab abc bb", "[secret] a[secret] [secret] [secret][secret]");
    check(&["tok"], "toktok", "[secret][secret]");
    check(&["ab", "bcde", "d"], "abcd abcde", "[secret]c[secret] [secret]");
}

/// Small alphabets, so that patterns overlap, repeat and contain each other all the time.
fn letters(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![4 => Just(b'a'), 3 => Just(b'b'), 1 => Just(0), 1 => Just(0xff)], len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_cut_equals_the_whole_text(
        patterns in proptest::collection::vec(letters(0..7), 1..6),
        text in letters(0..60),
        mut cuts in proptest::collection::vec(0usize..60, 0..8),
    ) {
        cuts.sort_unstable();
        let mut redactor = Patterns::exactly(&patterns).unwrap().redactor();
        prop_assert_eq!(streamed(&patterns, &mut redactor, &text, &cuts), reference(&patterns, &text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_forms_of_any_secret_hide_it(secret in "\\PC{1,12}", before in "[ -~]{0,5}", after in "[ -~]{0,5}") {
        let patterns = Patterns::new(&[&secret]).unwrap();
        let json = serde_json::to_string(&secret).unwrap();
        let json = json.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned();
        for form in [secret.clone(), hex(secret.as_bytes()), json] {
            if form == secret || secret.len() >= 3 && form.len() >= MIN_ENCODED {
                let masked = patterns.mask(&format!("{before}{form}{after}"));
                prop_assert!(!masked.contains(&form) || "[secret]".contains(&form), "{}", masked);
            }
        }
        let encoded = BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
        if secret.len() >= 12 {
            let core = BASE64_STANDARD_NO_PAD.encode(&secret.as_bytes()[3 - before.len() % 3..secret.len() - 3]);
            let core = core.get(..core.len() - 2).unwrap();
            prop_assert!(encoded.contains(core));
            prop_assert!(!patterns.mask(&encoded).contains(core), "{}", encoded);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn hides(secret: &str, shown: &str, want: &str) {
    let patterns = Patterns::new(&[secret]).unwrap();
    assert_eq!(patterns.mask(shown), want, "of {shown:?}");
    let (mut redactor, mut out) = (patterns.redactor(), Vec::new());
    shown.bytes().for_each(|byte| redactor.push(&[byte], &mut out));
    redactor.finish(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), want, "of {shown:?} byte by byte");
}

#[test]
fn encodings_as_tools_print_them() {
    let secret = "p@ss w/ö'rd\"<&>$1";
    hides(secret, "x p@ss w/ö'rd\"<&>$1 y", "x [secret] y");
    hides(secret, "p%40ss%20w%2F%C3%B6%27rd%22%3C%26%3E%241", "[secret]");
    hides(secret, "p%40ss%20w%2f%c3%b6%27rd%22%3c%26%3e%241", "[secret]");
    hides(secret, "p%40ss+w%2F%C3%B6%27rd%22%3C%26%3E%241", "[secret]");
    hides(secret, "p%40ss%20w/%C3%B6%27rd%22%3C%26%3E%241", "[secret]");
    hides(secret, r#"{"p@ss w/ö'rd\"<&>$1"}"#, r#"{"[secret]"}"#);
    hides(secret, r#"p@ss w\/\u00f6'rd\"<&>$1"#, "[secret]");
    hides(secret, r#"p@ss w\/\u00F6'rd\"<&>$1"#, "[secret]");
    hides(secret, r#"p@ss w/ö'rd\"\u003c\u0026\u003e$1"#, "[secret]");
    hides(secret, r#"p@ss w/ö'rd\\\"<&>$1"#, "[secret]");
    hides(secret, r#"'p@ss w/ö'\''rd"<&>$1'"#, "'[secret]'");
    hides(secret, r#"p@ss\ w/ö\'rd\"\<\&\>\$1"#, "[secret]");
    hides(secret, r#"$'p@ss w/\303\266\'rd"<&>$1'"#, "$'[secret]'");
    hides(secret, r#""p@ss w/ö'rd\"<&>\$1""#, "\"[secret]\"");
    hides(secret, &hex(secret.as_bytes()), "[secret]");
    hides(secret, &hex(secret.as_bytes()).to_uppercase(), "[secret]");
}

#[test]
fn base64_wherever_it_stands() {
    let secret = "correct horse battery";
    hides(secret, &BASE64_STANDARD.encode(secret), "[secret]");
    hides(secret, &BASE64_STANDARD.encode(format!("{secret}\n")), "[secret]");
    hides(secret, &BASE64_URL_SAFE_NO_PAD.encode(secret), "[secret]");
    for user in ["a", "ab", "abc", "abcd"] {
        let shown = BASE64_STANDARD.encode(format!("{user}:{secret}"));
        let masked = Patterns::new(&[secret]).unwrap().mask(&shown);
        assert!(masked.ends_with("[secret]") && masked.len() <= 8 + 8, "{shown} became {masked}");
    }
    let long: String = ('!'..='~').cycle().take(300).collect();
    for columns in [64, 76] {
        let lines: Vec<String> = BASE64_STANDARD
            .encode(&long)
            .as_bytes()
            .chunks(columns)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        hides(&long, &lines.join("\n"), "[secret]");
        hides(&long, &lines.join("\n  "), &vec!["[secret]"; lines.len()].join("\n  "));
    }
}

#[test]
fn lines_of_a_secret() {
    let secret = "-----BEGIN KEY-----\nMIIEpAIB/AAK+CAQ\n{\nQ9x=\n-----END KEY-----\n";
    hides(secret, secret, "[secret]");
    hides(secret, secret.trim_end(), "[secret]");
    hides(secret, &secret.replace('\n', "\r\n"), "[secret]\r\n");
    hides(secret, &secret.replace('\n', " "), "[secret] ");
    hides(secret, &secret.replace('\n', "\\n"), "[secret]");
    hides(secret, "a { and MIIEpAIB/AAK+CAQ and Q9x=", "a { and [secret] and [secret]");
    hides(secret, &hex(b"MIIEpAIB/AAK+CAQ"), "[secret]");
    assert!(MIN_LINE > "{".len());
}

#[test]
fn short_secrets_are_masked_raw_alone() {
    hides("x", "x y xx 78 eA==", "[secret] y [secret][secret] 78 eA==");
    hides("ab", "ab 6162 YWI= b", "[secret] 6162 YWI= b");
    hides("abc", "abc 616263 YWJj", "[secret] [secret] [secret]");
    hides("hunter2\n", "hunter2", "[secret]");
    hides("", "anything", "anything");
}

#[test]
fn binary_secrets_and_text() {
    let patterns = Patterns::new(&[b"\x00\xff\xfe".as_slice()]).unwrap();
    assert_eq!(patterns.mask_bytes(b"a\x00\xff\x00\xff\xfe\xff"), b"a\x00\xff[secret]\xff");
    assert!(patterns.found_in(b"a\x00\xff\x00\xff\xfe\xff") && !patterns.found_in(b"a\x00\xff"));
}

#[test]
fn nothing_is_held_that_can_begin_no_secret() {
    let mut redactor = Patterns::new(&["hunter2"]).unwrap().redactor();
    let mut out = Vec::new();
    redactor.push(b"progress: 10 %, h", &mut out);
    assert_eq!(out, b"progress: 10 %, ");
    redactor.push(b"e", &mut out);
    assert_eq!((&out[..], redactor.held()), (&b"progress: 10 %, he"[..], 0));
    redactor.push(b"hunter2", &mut out);
    assert_eq!((&out[..], redactor.held()), (&b"progress: 10 %, he[secret]"[..], 0));
}

#[test]
fn secrets_too_long_are_refused_by_length_only() {
    let error = Patterns::new(&["x1%".repeat(400_000)]).unwrap_err().to_string();
    assert!(error.starts_with("secrets of 1200000 bytes in all are too long"), "{error}");
}
