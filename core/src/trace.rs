//! Ids of traces and spans, and the header `traceparent` by which callers name theirs (W3C Trace Context).
//!
//! Ids are never random where something durable names what they are of: a trace that no caller began has the id of its
//! deployment, and a span's id follows from what it is of. Whoever says the same fact twice, before a crash and after it, says
//! the same span.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::DeploymentId;
use crate::time::Timestamp;

/// Id of a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Id of a span; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// What a caller says of its trace: `00-<trace>-<span>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that called.
    pub span: SpanId,
    /// The caller records it.
    pub sampled: bool,
}

/// Most that is told of one step.
pub const MAX_TOOK: usize = 16;

/// A part of what an agent does for a step, and when, by the agent's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// `image`, `package`, `container`, `confirm`, `run`, `ship`.
    pub what: String,
    /// When it began.
    pub began: Timestamp,
    /// When it had ended.
    pub ended: Timestamp,
}

impl Took {
    /// `None` for what is no word of ours, or ended before it began: the clock was set meanwhile, and nothing is known.
    #[must_use]
    pub fn new(what: &str, began: Timestamp, ended: Timestamp) -> Option<Self> {
        let word = !what.is_empty() && what.len() <= 32 && what.bytes().all(|byte| byte.is_ascii_lowercase());
        (word && began <= ended).then(|| Self { what: what.to_owned(), began, ended })
    }
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no `traceparent` as in `00-<32 hex digits>-<16 hex digits>-01`")]
pub struct InvalidTraceParent;

impl TraceId {
    /// Of these bytes; `None` when all are zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The trace of a deployment that no caller's trace goes on in: the bytes of its id.
    #[must_use]
    pub fn of(deployment: DeploymentId) -> Self {
        Self(deployment.bytes())
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether it belongs to the given part (0 to 1) of all traces. The same one always does or never does, and one that belongs
    /// to a part belongs to every greater one.
    #[must_use]
    pub fn within(self, part: f64) -> bool {
        // The end of an id is random, the beginning may be a time. 53 bits are what a float holds.
        let mut end = [0; 8];
        end.copy_from_slice(&self.0[8..]);
        let place = u64::from_be_bytes(end) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let place = place as f64 / (1_u64 << 53) as f64;
        place < part
    }
}

impl SpanId {
    /// Of these bytes; `None` when all are zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The span of a kind that is about something of a deployment, as (`attempt`, `att_...`).
    #[must_use]
    pub fn of(deployment: DeploymentId, kind: &str, what: &str) -> Self {
        let hash = Sha256::digest(format!("longshore span\n{deployment}\n{kind}\n{what}").as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash[..8]);
        // No text is known that makes it zero; and no span may have such an id.
        Self::new(bytes).unwrap_or(Self([1; 8]))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        // Upper case is not allowed there.
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = unhex::<1>(version).ok_or(InvalidTraceParent)?;
        // A later version may say more after the flags; version 0 says nothing more, and 255 is none.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(InvalidTraceParent);
        }
        let [flags] = unhex::<1>(flags).ok_or(InvalidTraceParent)?;
        let trace = unhex(trace).and_then(TraceId::new).ok_or(InvalidTraceParent)?;
        let span = unhex(span).and_then(SpanId::new).ok_or(InvalidTraceParent)?;
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().unwrap();
        assert_eq!((parent.to_string().as_str(), parent.sampled), (text, true));
        let quiet: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02".parse().unwrap();
        assert!(!quiet.sampled, "only the last bit counts");
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like";
        assert_eq!(later.parse::<TraceParent>().unwrap(), parent);
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ß-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_taken() {
        let at = Timestamp::from_micros;
        assert!(Took::new("image", at(1), at(1)).is_some());
        for (what, began, ended) in
            [("image", 2, 1), ("", 1, 2), ("Image", 1, 2), ("a b", 1, 2), (&*"a".repeat(33), 1, 2)]
        {
            assert_eq!(Took::new(what, at(began), at(ended)), None);
        }
    }

    #[test]
    fn ids_follow_from_what_they_are_of() {
        let (one, two) = (
            DeploymentId::new(Timestamp::from_micros(1), [1; 10]),
            DeploymentId::new(Timestamp::from_micros(1), [2; 10]),
        );
        assert_eq!(TraceId::of(one).to_string(), one.hex());
        assert_eq!(SpanId::of(one, "step", "0"), SpanId::of(one, "step", "0"));
        let all = [
            SpanId::of(one, "step", "0"),
            SpanId::of(two, "step", "0"),
            SpanId::of(one, "step", "1"),
            SpanId::of(one, "try", "0"),
        ];
        for (n, id) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other != id));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace: [u8; 16], span: [u8; 8], sampled: bool) {
            let (Some(trace), Some(span)) = (TraceId::new(trace), SpanId::new(span)) else { return Ok(()) };
            let parent = TraceParent { trace, span, sampled };
            prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,80}") {
            let _read = text.parse::<TraceParent>().is_ok();
        }

        #[test]
        fn a_part_of_the_traces_is_within_every_greater_part(bytes: [u8; 16], a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
            let Some(trace) = TraceId::new(bytes) else { return Ok(()) };
            prop_assert!(trace.within(1.0) && !trace.within(0.0));
            prop_assert!(!trace.within(a.min(b)) || trace.within(a.max(b)));
        }
    }
}
