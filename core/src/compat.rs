//! Which versions of agent and controller work together.
//!
//! The controller is upgraded first, so it is never behind an agent; what an older agent cannot do it says by not having the
//! capability. Versions of a program are `MAJOR.MINOR.PATCH`; releases that differ in the last number alone speak the same.

/// Why an agent of one version gets no new jobs from a controller of another; `None` when it may have them.
///
/// What cannot be read as a version is not held against an agent: its capabilities say what it can do.
#[must_use]
pub fn ahead(agent: &str, controller: &str) -> Option<String> {
    if release(agent)? <= release(controller)? {
        return None;
    }
    Some(format!(
        "has version {agent}, and this controller is older ({controller}): upgrade the controller first, or put the agent's \
         former version back; jobs that it has go on"
    ))
}

/// What must be in a list of capabilities and is not.
#[must_use]
pub fn lacks<'n>(has: &[String], needs: &[&'n str]) -> Vec<&'n str> {
    needs.iter().copied().filter(|need| !has.iter().any(|name| name == need)).collect()
}

/// The two numbers that count.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_release_is_ahead() {
        for (agent, controller) in [
            ("1.2.3", "1.2.3"),
            ("1.2.9", "1.2.0"),
            ("1.1.0", "1.2.0"),
            ("0.9.0", "1.0.0"),
            ("", "1.0.0"),
            ("x.2.3", "1.0.0"),
        ] {
            assert_eq!(ahead(agent, controller), None, "{agent} on {controller}");
        }
        for (agent, controller) in [("1.3.0", "1.2.9"), ("1.10.0", "1.9.0"), ("2.0.0-rc.1", "1.9.0")] {
            let why = ahead(agent, controller).unwrap();
            assert!(why.contains(agent) && why.contains(controller), "{why}");
        }
    }

    #[test]
    fn what_is_lacking_is_named() {
        let has = ["a".to_owned(), "new".to_owned()];
        assert_eq!(lacks(&has, &["a"]), [""; 0]);
        assert_eq!(lacks(&has, &["a", "b"]), ["b"]);
    }
}
