//! Whether the lock on a stack may be removed, by what Pulumi reports of it.

use longshore_core::stack_lock::{self, Report};

/// Whether there is a lock, which then was left behind by what is known to be over; `None` where the report is about something else.
/// An error is a sentence for the exit record.
pub fn judge(report: &[u8], over: &[String]) -> Result<Option<bool>, String> {
    match stack_lock::read(&String::from_utf8_lossy(report)) {
        Report::Free => Ok(Some(false)),
        Report::Other => Ok(None),
        Report::Unclear => Err(
            "the stack is locked, but not everything that Pulumi says about the lock is understood; nothing was unlocked".to_owned(),
        ),
        Report::Held(holders) => {
            let strangers = stack_lock::strangers(&holders, over);
            if strangers.is_empty() {
                return Ok(Some(true));
            }
            let who = strangers.iter().map(|who| format!("`{who}`")).collect::<Vec<_>>().join(", ");
            Err(format!(
                "the lock is held by {who}, which is no attempt at this stack that is proven to be over; nothing was unlocked; make sure \
                 that nothing of it runs any more, then run `pulumi cancel` yourself"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_of_what_is_over_is_left_behind() {
        let held = b"error: the stack is currently locked by 1 lock(s). Either wait\n  f: created by root@att-1 (pid 2) at 2026-11-28T10:00:00Z\n";
        assert_eq!(judge(held, &["att-1".to_owned()]), Ok(Some(true)));
        let refused = judge(held, &["att-2".to_owned()]).unwrap_err();
        assert!(refused.contains("`root@att-1`") && refused.contains("nothing was unlocked"), "{refused}");
        assert!(judge(b"the stack is currently locked by 1 lock(s)", &[]).unwrap_err().contains("not everything"));
        assert_eq!(judge(b"error: no stack named 'x' found", &[]), Ok(None));
    }
}
