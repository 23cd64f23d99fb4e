//! Lowercase hex, for digests, serial numbers and key files.

/// Bytes as lowercase hex digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes of lowercase hex digits; `None` for anything else.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// Whether a text is a SHA-256 in lowercase hex.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_both_ways() {
        assert_eq!(encode(&[0, 15, 160, 255]), "000fa0ff");
        assert_eq!(decode("000fa0ff").unwrap(), [0, 15, 160, 255]);
        for bad in ["0", "0g", "FF", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert!(is_sha256(&"a0".repeat(32)) && !is_sha256(&"A0".repeat(32)) && !is_sha256("a0"));
    }
}
