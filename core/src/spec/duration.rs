//! Durations as people write them: `30m`, `1h30m`, `45s`, `200ms`.

use std::time::Duration;

/// Units from large to small, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: whole numbers with `d`, `h`, `m`, `s`, `ms`, each at most once, from large to small.
/// `None` when it is written in another way or does not fit.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(end)?;
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        millis = number.parse::<u64>().ok()?.checked_mul(*length)?.checked_add(millis)?;
        rest = behind;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Writes a duration so that [`parse`] reads the same one (to the millisecond).
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `#[serde(with = "...")]` for an optional duration, kept as text.
pub(super) mod text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<std::time::Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(super::format).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<std::time::Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| super::parse(&t).ok_or_else(|| serde::de::Error::custom(format!("`{t}` is no duration"))))
            .transpose()
    }
}

/// `#[serde(with = "...")]` for a duration that has to be there, kept as text.
pub(super) mod text_required {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &std::time::Duration, serializer: S) -> Result<S::Ok, S::Error> {
        super::format(*value).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<std::time::Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no duration")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let secs = |text| parse(text).map(|d| d.as_secs_f64());
        assert_eq!(secs("30m"), Some(1800.0));
        assert_eq!(secs("1h30m"), Some(5400.0));
        assert_eq!(secs("45s"), Some(45.0));
        assert_eq!(secs("200ms"), Some(0.2));
        assert_eq!(secs("1m5ms"), Some(60.005));
        assert_eq!(secs("7d"), Some(604_800.0));
    }

    #[test]
    fn refuses_everything_else() {
        for bad in ["", "30", "m", "1.5h", "30 m", "-1s", "1m1h", "1s1s", "1y", "99999999999999999999s", "1h ", "٣s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("{}d", u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0..=u64::MAX) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}|[0-9dhms]{0,20}") {
            prop_assert!(parse(&text).is_none_or(|d| parse(&format(d)) == Some(d)));
        }
    }
}
