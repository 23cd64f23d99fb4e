//! Times and sizes for people.

use std::time::Duration;

use jiff::Timestamp;

/// An RFC 3339 time as `2026-11-21 10:00:00Z`; as it came when it is something else.
#[must_use]
pub fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Time between two RFC 3339 times, when both are there.
#[must_use]
pub fn between(start: Option<&str>, end: Option<&str>) -> Option<String> {
    let (start, end): (Timestamp, Timestamp) = (start?.parse().ok()?, end?.parse().ok()?);
    let millis = u64::try_from(end.as_millisecond().saturating_sub(start.as_millisecond())).ok()?;
    Some(length(Duration::from_millis(millis)))
}

/// A duration in two units at most: `0.4s`, `12.3s`, `4m 10s`, `3h 5m`.
#[must_use]
pub fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes: `812 B`, `1.4 KiB`, `64.0 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut rest) = (bytes, 0);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024, whole / 1024, larger);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{} {unit}", rest * 10 / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units() {
        for (millis, shown) in
            [(0, "0.0s"), (449, "0.4s"), (12_345, "12.3s"), (250_000, "4m 10s"), (11_100_000, "3h 5m")]
        {
            assert_eq!(length(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn sizes_have_one_unit() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KiB"), (64 << 20, "64.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn times_are_read_as_the_server_writes_them() {
        assert_eq!(moment("2026-11-21T10:00:00.123Z"), "2026-11-21 10:00:00Z");
        assert_eq!(moment("soon"), "soon");
        assert_eq!(
            between(Some("2026-11-21T10:00:00.000Z"), Some("2026-11-21T10:00:12.300Z")).as_deref(),
            Some("12.3s")
        );
        assert_eq!(between(Some("2026-11-21T10:00:00.000Z"), None), None);
    }
}
