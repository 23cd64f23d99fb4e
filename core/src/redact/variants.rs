//! The forms of a secret that are looked for.
//!
//! - The secret itself, however short, also without the white space around it.
//! - A secret of several lines: with its line ends as CR LF or as spaces, and each line of at least
//!   [`MIN_LINE`] bytes alone (shorter ones, such as `{`, stand everywhere in a log).
//! - Of each of these the encoded forms, if [`MIN_ENCODED_FROM`] bytes or more are encoded and the form is of
//!   [`MIN_ENCODED`] bytes or more: base64 (three shifts, both alphabets, at the end of the encoded text and within it,
//!   wrapped at 64 and 76 columns), percent-encoding, JSON, shell quoting, hex. Below these lengths a
//!   form is so short that chance finds it in every other line (two bytes of hex are a four-digit number), and masks hide
//!   the log and not the secret.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use std::collections::BTreeSet;

/// Shortest line of a secret that is masked alone.
pub(super) const MIN_LINE: usize = 4;
/// Fewest bytes of which encoded forms are made.
pub(super) const MIN_ENCODED_FROM: usize = 3;
/// Shortest encoded form that is masked.
pub(super) const MIN_ENCODED: usize = 4;
/// Shortest line of a wrapped encoding that is masked alone; with the lines around it a shorter one is.
const MIN_WRAPPED: usize = 8;
/// Columns at which encoders break base64: PEM's, and MIME's and coreutils'.
const COLUMNS: [usize; 2] = [64, 76];

/// Adds all forms of `secret`.
pub(super) fn add(secret: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    let mut forms = BTreeSet::from([secret.to_vec(), secret.trim_ascii().to_vec()]);
    let lines = || secret.trim_ascii().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    if secret.trim_ascii().contains(&b'\n') {
        let unix: Vec<_> = lines().collect();
        for line_end in [&b"\n"[..], b"\r\n", b" "] {
            forms.insert(unix.join(line_end));
        }
        forms.extend(lines().filter(|line| line.len() >= MIN_LINE).map(<[u8]>::to_vec));
    }
    for form in forms {
        if form.len() >= MIN_ENCODED_FROM {
            let mut encoded = Vec::new();
            base64_forms(&form, &mut encoded);
            hex(&form, &mut encoded);
            percent(&form, &mut encoded);
            shell(&form, &mut encoded);
            if let Ok(text) = std::str::from_utf8(&form) {
                json(text, &mut encoded);
            }
            all.extend(encoded.into_iter().filter(|pattern| pattern.len() >= MIN_ENCODED));
        }
        if !form.is_empty() {
            all.insert(form);
        }
    }
}

fn base64_forms(form: &[u8], out: &mut Vec<Vec<u8>>) {
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        let encoder = GeneralPurpose::new(alphabet, GeneralPurposeConfig::new());
        // `echo` and here-documents put a line end behind.
        for end in [&b""[..], b"\n"] {
            for shift in 0..3 {
                let text = [&[0; 2][..shift], form, end].concat();
                let whole = encoder.encode(&text).into_bytes();
                // The digits before hold bits of the bytes in front.
                let first = [0, 2, 3][shift];
                let unpadded = whole.len() - whole.iter().rev().take_while(|byte| **byte == b'=').count();
                out.push(whole[first..].to_vec());
                out.push(whole[first..unpadded].to_vec());
                if end.is_empty() {
                    // Within a longer text: without the digit that holds bits of the byte behind.
                    out.push(whole[first..text.len() * 8 / 6].to_vec());
                }
                if shift == 0 {
                    wrapped(&whole, out);
                }
            }
        }
    }
}

fn wrapped(whole: &[u8], out: &mut Vec<Vec<u8>>) {
    for columns in COLUMNS {
        if whole.len() > columns {
            let lines: Vec<&[u8]> = whole.chunks(columns).collect();
            out.extend([lines.join(&b"\n"[..]), lines.join(&b"\r\n"[..])]);
            out.extend(lines.iter().filter(|line| line.len() >= MIN_WRAPPED).map(|line| line.to_vec()));
        }
    }
}

const HEX: [&[u8; 16]; 2] = [b"0123456789abcdef", b"0123456789ABCDEF"];

fn hex_digits(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

fn hex(form: &[u8], out: &mut Vec<Vec<u8>>) {
    for digits in HEX {
        out.push(form.iter().flat_map(|byte| hex_digits(*byte, digits)).collect());
    }
}

/// Characters that encoders leave as they are besides letters and digits, and whether a space becomes `+`:
/// RFC 3986 (strict), JavaScript's `encodeURIComponent`, Python's `quote`, Go's `PathEscape`, JavaScript's `encodeURI`,
/// HTML forms, and Python's and Go's query escapes.
const PERCENT: [(&[u8], bool); 7] = [
    (b"-._~", false),
    (b"-._~!*'()", false),
    (b"-._~/", false),
    (b"-._~$&+=:@", false),
    (b"-._~!*'();,/?:@&=+$#", false),
    (b"-._*", true),
    (b"-._~", true),
];

fn percent(form: &[u8], out: &mut Vec<Vec<u8>>) {
    for (kept, plus) in PERCENT {
        for digits in HEX {
            let mut encoded = Vec::with_capacity(form.len() * 3);
            for byte in form {
                match byte {
                    b' ' if plus => encoded.push(b'+'),
                    byte if byte.is_ascii_alphanumeric() || kept.contains(byte) => {
                        encoded.push(*byte);
                    }
                    byte => {
                        encoded.push(b'%');
                        encoded.extend(hex_digits(*byte, digits));
                    }
                }
            }
            out.push(encoded);
        }
    }
}

fn json(text: &str, out: &mut Vec<Vec<u8>>) {
    // Characters some encoders escape by number: none, Go's for HTML, .NET's.
    for by_number in ["", "<>&\u{2028}\u{2029}", "\"'+<>&`"] {
        for slash in [false, true] {
            for ascii in [false, true] {
                for digits in HEX {
                    out.push(json_text(text, by_number, slash, ascii, digits));
                }
            }
        }
    }
    let once = json_text(text, "", false, false, HEX[0]);
    if let Ok(once) = String::from_utf8(once) {
        // JSON within JSON.
        out.push(json_text(&once, "", false, false, HEX[0]));
    }
}

fn json_text(text: &str, by_number: &str, slash: bool, ascii: bool, digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut units = [0; 2];
    for character in text.chars() {
        let short = match character {
            '"' if !by_number.contains('"') => Some('"'),
            '\\' => Some('\\'),
            '/' if slash => Some('/'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            _ => None,
        };
        if let Some(short) = short {
            out.extend([b'\\', short as u8]);
        } else if character < ' ' || by_number.contains(character) || (ascii && !character.is_ascii()) {
            for unit in character.encode_utf16(&mut units) {
                out.extend(b"\\u");
                out.extend(unit.to_be_bytes().iter().flat_map(|byte| hex_digits(*byte, digits)));
            }
        } else {
            out.extend(character.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    out
}

fn shell(form: &[u8], out: &mut Vec<Vec<u8>>) {
    out.push(replaced(form, |byte| (byte == b'\'').then(|| br"'\''".to_vec())));
    out.push(replaced(form, |byte| (byte == b'\'').then(|| br#"'"'"'"#.to_vec())));
    out.push(replaced(form, |byte| b"\\\"$`".contains(&byte).then(|| vec![b'\\', byte])));
    out.push(replaced(form, |byte| b"\\\"$`!".contains(&byte).then(|| vec![b'\\', byte])));
    // `printf %q` of bash and of others.
    for kept in [&b"_@%+=:,./-"[..], b"_@%+=:./-", b"_./-"] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || kept.contains(&byte);
        out.push(replaced(form, |byte| (!plain(byte)).then(|| vec![b'\\', byte])));
    }
    for octal in [false, true] {
        out.push(replaced(form, |byte| dollar(byte, octal)));
    }
}

/// A byte within bash's `$'...'`; `octal` is how it writes bytes beyond ASCII outside of UTF-8 locales.
fn dollar(byte: u8, octal: bool) -> Option<Vec<u8>> {
    let short = match byte {
        b'\'' | b'\\' => byte,
        b'\n' => b'n',
        b'\t' => b't',
        b'\r' => b'r',
        7 => b'a',
        8 => b'b',
        11 => b'v',
        12 => b'f',
        27 => b'E',
        byte if byte < b' ' || byte == 127 || (octal && !byte.is_ascii()) => {
            return Some(vec![b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
        }
        _ => return None,
    };
    Some(vec![b'\\', short])
}

fn replaced(form: &[u8], by: impl Fn(u8) -> Option<Vec<u8>>) -> Vec<u8> {
    form.iter().flat_map(|byte| by(*byte).unwrap_or_else(|| vec![*byte])).collect()
}
