//! What the exit code says.

use super::Error;

/// Wrong arguments or a wrong configuration (`EX_USAGE` of `sysexits.h`).
pub const BAD_USAGE: u8 = 64;
/// The identity is missing, expired or cannot be used: someone has to enroll the agent (`EX_NOPERM`).
const NO_IDENTITY: u8 = 77;

/// The exit code for an error: 64 bad configuration, 77 not enrolled or expired, 1 anything else.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<crate::config::Error>() {
        return BAD_USAGE;
    }
    if matches!(error.downcast_ref(), Some(Error::Identity(_) | Error::Tls(_))) { NO_IDENTITY } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_has_to_do_something() {
        let config = crate::config::Error::Environment { variable: "X".to_owned(), message: "no".to_owned() };
        let identity = Error::from(crate::identity::Error::NotEnrolled { path: "x".into() });
        let system = Error::System { what: "x", source: std::io::Error::other("x") };
        assert_eq!([exit_code(&config.into()), exit_code(&identity.into()), exit_code(&system.into())], [64, 77, 1]);
    }
}
