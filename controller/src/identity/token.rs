//! Bearer tokens and join tokens: 32 random bytes behind a prefix that says what they are for.
//!
//! They are random, not passwords, so one unsalted SHA-256 is enough; a look-up by the hash of what was sent does not
//! tell by its time how much of a token was right.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_core::secret::Secret;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// One agent joins with it, once.
    Join,
    /// A person or a CI server uses the API with it.
    Api,
}

/// SHA-256 of a whole token, prefix and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenKind {
    /// What its tokens start with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "lsj_",
            Self::Api => "lst_",
        }
    }

    /// A token from 32 random bytes.
    #[must_use]
    pub fn make(self, random: [u8; 32]) -> Secret {
        Secret::new(format!("{}{}", self.prefix(), URL_SAFE_NO_PAD.encode(random)))
    }

    /// The hash of a token as it was sent; `None` when it cannot be one of this kind.
    #[must_use]
    pub fn hash(self, token: &str) -> Option<TokenHash> {
        let body = token.strip_prefix(self.prefix())?;
        (body.len() == 43).then(|| TokenHash::of(token))
    }
}

impl TokenHash {
    /// The hash of a whole token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_not_mixed_up() {
        let token = TokenKind::Join.make([9; 32]);
        assert!(token.expose().starts_with("lsj_") && token.expose().len() == 47);
        assert_eq!(TokenKind::Join.hash(token.expose()), Some(TokenHash::of(token.expose())));
        assert_eq!(TokenKind::Api.hash(token.expose()), None);
        for bad in ["", "lsj_", "lsj_short", "Bearer lsj_x"] {
            assert_eq!(TokenKind::Join.hash(bad), None, "{bad}");
        }
    }
}
