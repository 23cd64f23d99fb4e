//! What a job asks of its agent's host, and what the host has: processors, memory, disk.
//!
//! Integers only, so that sums are exact: processors in thousandths, the rest in bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units of bytes, from large to small.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
/// Most processors that may be asked for.
const MAX_CPUS: u64 = 4_096;
/// Most bytes: more than any host has, and far from where sums overflow.
const MAX_BYTES: u64 = 1 << 50;

/// Processors, in thousandths. As text a number such as `1.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(pub u64);

/// Bytes. As text a whole number with a unit, such as `2GiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Amounts of all three; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Cpus::is_none")]
    pub cpus: Cpus,
    /// Memory.
    #[serde(default, skip_serializing_if = "Bytes::is_none")]
    pub memory: Bytes,
    /// Disk.
    #[serde(default, skip_serializing_if = "Bytes::is_none")]
    pub disk: Bytes,
}

/// A text that is no amount. Says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Of processors.
    #[error(
        "`{0}` is no number of processors: write it as `2` or `1.5`, from 0.01 to {MAX_CPUS}, with at most 3 digits after the point"
    )]
    Cpus(String),
    /// Of bytes.
    #[error("`{0}` is no size: write a whole number with its unit, as `512MiB` or `2GiB` (KiB, MiB, GiB, TiB)")]
    Bytes(String),
}

impl Cpus {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl Bytes {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Cpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Cpus(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 6 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
        let millis = whole * 1_000 + part;
        (10..=MAX_CPUS * 1_000).contains(&millis).then_some(Self(millis)).ok_or_else(wrong)
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Bytes(text.chars().take(40).collect());
        let (number, unit) =
            UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).ok_or_else(wrong)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.filter(|bytes| (1..=MAX_BYTES).contains(bytes)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1_000 {
            0 => write!(f, "{}", self.0 / 1_000),
            part => write!(f, "{}.{}", self.0 / 1_000, format!("{part:03}").trim_end_matches('0')),
        }
    }
}

impl fmt::Display for Bytes {
    /// Exact where a unit fits, else to a tenth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit) {
            None if self.0 == 0 => f.write_str("0"),
            None => write!(f, "{}B", self.0),
            Some((name, unit)) if self.0.is_multiple_of(*unit) => write!(f, "{}{name}", self.0 / unit),
            Some((name, unit)) => {
                let part = u128::from(self.0 % unit) * 10 / u128::from(*unit);
                write!(f, "{}.{part}{name}", self.0 / unit)
            }
        }
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Bytes {
    /// In the largest unit that loses nothing.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => serializer.collect_str(&format_args!("{}{name}", self.0 / unit)),
            // What a file asks for is whole KiB, since there is no smaller unit.
            None => serializer.collect_str(&format_args!("{}KiB", self.0.div_ceil(1 << 10))),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Resources {
    /// Nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Of each the greater one.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { cpus: self.cpus.max(other.cpus), memory: self.memory.max(other.memory), disk: self.disk.max(other.disk) }
    }

    /// What this says, and of what it does not say what `other` does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let cpus = if self.cpus.is_none() { other.cpus } else { self.cpus };
        let memory = if self.memory.is_none() { other.memory } else { self.memory };
        let disk = if self.disk.is_none() { other.disk } else { self.disk };
        Self { cpus, memory, disk }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_add(other.cpus.0)),
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            disk: Bytes(self.disk.0.saturating_add(other.disk.0)),
        }
    }

    /// What is left when `other` is taken.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_sub(other.cpus.0)),
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
            disk: Bytes(self.disk.0.saturating_sub(other.disk.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        for (text, millis) in [("1", 1_000), ("1.5", 1_500), ("0.01", 10), ("2.125", 2_125), ("4096", 4_096_000)] {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.0, cpus.to_string().as_str()), (millis, text));
        }
        for (text, bytes) in [("6MiB", 6 << 20), ("2GiB", 2 << 30), ("1536MiB", 1_536 << 20), ("1TiB", 1 << 40)] {
            let size: Bytes = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            let json = serde_json::to_string(&size).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), size, "{json}");
        }
        assert_eq!(Bytes(1_610_612_736).to_string(), "1.5GiB");
        assert_eq!([Bytes(0).to_string(), Bytes(7).to_string()], ["0", "7B"]);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "0", "0.001", "-1", "1.2345", ".5", "1.", "4097", "1e3", "2 ", "99999999999999999999"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
        for text in ["", "GiB", "2", "2GB", "2 GiB", "-1GiB", "1.5GiB", "0MiB", "1025TiB", "99999999999999999999KiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sums_never_overflow_and_rests_never_fall_below_zero() {
        let all = Resources { cpus: Cpus(u64::MAX), memory: Bytes(u64::MAX), disk: Bytes(u64::MAX) };
        let one = Resources { cpus: Cpus(1), memory: Bytes(1), disk: Bytes(1) };
        assert_eq!((all.plus(one), one.less(all)), (all, Resources::default()));
        assert_eq!(Resources { cpus: Cpus(2), ..Resources::default() }.or(one), Resources { cpus: Cpus(2), ..one });
        assert_eq!(one.max(Resources { cpus: Cpus(2), ..Resources::default() }), Resources { cpus: Cpus(2), ..one });
    }
}
