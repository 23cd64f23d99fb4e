//! Pulumi's own lock on a stack in a self-managed backend, as the CLI reports it.
//!
//! The lock is a file beside the state that names user, host and process (`pkg/backend/diy/lock.go` of Pulumi). It never ends by
//! itself, so what was killed leaves it. A job's container has a host name of its own, which says whose lock it is. Invariant: a
//! report that is not understood to the last line is [`Report::Unclear`], and nothing is removed then.

/// A resource that no stack has. An operation on it alone finds the lock, or nothing to do.
pub const NOBODY: &str = "urn:pulumi:longshore::longshore::longshore:lock:Probe::nobody";
/// Longest report in bytes that is looked at.
pub const MAX_REPORT: usize = 64 << 10;

/// What an operation on [`NOBODY`] said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The stack is not locked.
    Free,
    /// These hold it.
    Held(Vec<Holder>),
    /// It is locked, but not all that is said about it is understood.
    Unclear,
    /// It failed for another reason.
    Other,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `USER@HOST`, as it is reported.
    pub who: String,
    /// The host.
    pub host: String,
}

/// Reads the standard error of an operation on [`NOBODY`].
#[must_use]
pub fn read(report: &str) -> Report {
    let Some((_, after)) = report.split_once("the stack is currently locked by ") else {
        let free = report.contains(NOBODY) && report.contains("no resource named");
        return if free { Report::Free } else { Report::Other };
    };
    let announced = after.split_once(" lock(s)").and_then(|(count, _)| count.parse::<usize>().ok());
    let lines = after.lines().skip(1).filter(|line| !line.trim().is_empty());
    let Some(holders) = lines.map(holder).collect::<Option<Vec<Holder>>>() else { return Report::Unclear };
    if announced == Some(holders.len()) && !holders.is_empty() { Report::Held(holders) } else { Report::Unclear }
}

/// `  FILE: created by USER@HOST (pid N) at TIME`
fn holder(line: &str) -> Option<Holder> {
    let (_, who) = line.rsplit_once(": created by ")?;
    let (who, rest) = who.rsplit_once(" (pid ")?;
    let (pid, _) = rest.split_once(") at ")?;
    pid.parse::<u64>().ok()?;
    let (_, host) = who.rsplit_once('@')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(plain)).then(|| Holder { who: who.to_owned(), host: host.to_owned() })
}

/// Those who are not known to be over; none: the lock is left behind.
#[must_use]
pub fn strangers<'a>(holders: &'a [Holder], over: &[String]) -> Vec<&'a str> {
    let unknown = |holder: &&Holder| !over.contains(&holder.host);
    holders.iter().filter(unknown).map(|holder| holder.who.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Pulumi 3.259.0 wrote it.
    const HELD: &str = "error: the stack is currently locked by 2 lock(s). Either wait for the other process(es) to end or delete the lock file with `pulumi cancel`.\n  \
        file:///state/.pulumi/locks/organization/quickstart/dev/1.json?no_tmp_dir=true: created by root@att-9 (pid 16) at 2026-11-28T10:00:00Z\n  \
        file:///state/.pulumi/locks/organization/quickstart/dev/2.json?no_tmp_dir=true: created by we ird@att-8 (pid 17) at 2026-11-28T10:01:00Z\n";

    #[test]
    fn holders_are_read() {
        let Report::Held(holders) = read(HELD) else { panic!("{:?}", read(HELD)) };
        assert_eq!(holders.iter().map(|h| h.host.as_str()).collect::<Vec<_>>(), ["att-9", "att-8"]);
        assert_eq!(strangers(&holders, &["att-9".to_owned()]), ["we ird@att-8"]);
        assert!(strangers(&holders, &["att-8".to_owned(), "att-9".to_owned()]).is_empty());
    }

    #[test]
    fn no_lock_is_known_by_the_resource_that_is_not_there() {
        assert_eq!(read(&format!("error: no resource named '{NOBODY}' found\n")), Report::Free);
        assert_eq!(read("error: no resource named 'urn:x' found\n"), Report::Other);
        assert_eq!(read("error: no stack named 'dev' found\n"), Report::Other);
        assert_eq!(read(""), Report::Other);
    }

    #[test]
    fn what_is_not_understood_is_unclear() {
        for broken in [
            HELD.replace("by 2 lock", "by 3 lock"),
            HELD.replace("by 2 lock", "by some lock"),
            HELD.replace("(pid 17)", "(pid x)"),
            HELD.replace("we ird@att-8", "nobody"),
            HELD.replace("att-8 ", "att-8\u{202e} "),
            HELD.lines().next().unwrap_or_default().to_owned(),
            format!("{HELD}and more\n"),
            // Somebody who may name himself cannot add a second, dead holder to one line.
            HELD.replace("we ird@att-8", "x@live (pid 1) at T: created by root@att-9")
                .replace("by 2 lock", "by 3 lock"),
        ] {
            assert_eq!(read(&broken), Report::Unclear, "{broken}");
        }
    }

    #[test]
    fn the_last_host_of_a_line_counts_for_nobody_else() {
        // A user name that looks like a report: the host is the last one, which is where the CLI writes it.
        let odd = HELD.replace("we ird@att-8", "root@att-9 (pid 3) at x@live");
        let Report::Held(holders) = read(&odd) else { panic!("{:?}", read(&odd)) };
        assert_eq!(holders[1].host, "live");
    }
}
