//! A value that must not be shown.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Text that reaches a running container and nothing else (promise P8).
///
/// There is no `Display` and no `Serialize`, and `Debug` shows nothing of it, so that a secret gets
/// into a message, a row or a frame only where [`Secret::expose`] is written. Memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of a secret's text.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The text itself. Call it only at the edge where the secret has to leave.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", Some(Secret::new("hunter2".to_owned())));
        assert_eq!(shown, "Some([secret])");
    }
}
