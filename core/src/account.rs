//! Accounts: what a cloud or Pulumi wants to know of who calls it, as one bundle with a type.
//!
//! The type says which fields there are, which of them are secrets, and in which environment variables a step finds them. Nothing here
//! holds a value.

use std::fmt;
use std::str::FromStr;

/// The type of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Amazon Web Services.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Cloud.
    Gcp,
    /// Pulumi Cloud, or one's own.
    Pulumi,
}

/// A field of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The environment variable that a step finds it in.
    pub env: &'static str,
    /// Never shown again, masked in logs.
    pub secret: bool,
    /// An account without it is refused.
    pub required: bool,
}

const fn field(name: &'static str, env: &'static str, (secret, required): (bool, bool)) -> Field {
    Field { name, env, secret, required }
}

/// Plain and needed; plain; secret and needed; secret.
const PLAIN: (bool, bool) = (false, true);
const PLAIN_OPTIONAL: (bool, bool) = (false, false);
const SECRET: (bool, bool) = (true, true);
const SECRET_OPTIONAL: (bool, bool) = (true, false);

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aws, Self::Azure, Self::Gcp, Self::Pulumi];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
            Self::Pulumi => "pulumi",
        }
    }

    /// Its fields.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Aws => {
                const {
                    &[
                        field("access_key_id", "AWS_ACCESS_KEY_ID", PLAIN),
                        field("secret_access_key", "AWS_SECRET_ACCESS_KEY", SECRET),
                        field("session_token", "AWS_SESSION_TOKEN", SECRET_OPTIONAL),
                        field("region", "AWS_REGION", PLAIN_OPTIONAL),
                    ]
                }
            }
            Self::Azure => {
                const {
                    &[
                        field("client_id", "ARM_CLIENT_ID", PLAIN),
                        field("client_secret", "ARM_CLIENT_SECRET", SECRET),
                        field("tenant_id", "ARM_TENANT_ID", PLAIN),
                        field("subscription_id", "ARM_SUBSCRIPTION_ID", PLAIN),
                    ]
                }
            }
            Self::Gcp => {
                const {
                    &[
                        field("credentials", "GOOGLE_CREDENTIALS", SECRET),
                        field("project", "GOOGLE_PROJECT", PLAIN_OPTIONAL),
                    ]
                }
            }
            Self::Pulumi => {
                const {
                    &[
                        field("access_token", "PULUMI_ACCESS_TOKEN", SECRET),
                        field("backend_url", BACKEND, PLAIN_OPTIONAL),
                    ]
                }
            }
        }
    }

    /// A field by its name.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }
}

/// The environment variable in which Pulumi finds its backend.
pub const BACKEND: &str = "PULUMI_BACKEND_URL";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no type of account: write aws, azure, gcp or pulumi"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_secret_and_no_name_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert!(kind.fields().iter().any(|field| field.secret && field.required), "{kind}");
            for field in kind.fields() {
                assert!(seen.insert(field.env), "{}", field.env);
                assert!(crate::spec::names::is_variable(field.name) && crate::spec::names::is_variable(field.env));
            }
        }
        assert!("ssh".parse::<Kind>().is_err());
    }
}
