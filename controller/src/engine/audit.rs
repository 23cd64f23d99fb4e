//! The audit, as it is read: a page at a time, in the order of time.

use longshore_core::time::Timestamp;

use super::view::{AuditPage, AuditView};
use super::{Engine, Error, Result};
use crate::store::people::AuditFilter;

/// Most lines of a page.
const PAGE: u32 = 500;

impl Engine {
    /// A page of the audit: not before `since`, behind the cursor that an earlier page ended with.
    ///
    /// # Errors
    /// A cursor that is none.
    pub async fn audit(&self, since: Option<Timestamp>, after: Option<&str>, limit: Option<u32>) -> Result<AuditPage> {
        let after = after.map(cursor).transpose()?;
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        // One more tells whether there is more.
        let filter = AuditFilter { since, after, limit: limit + 1 };
        let mut rows = self.read(move |tx| Box::pin(async move { Ok(tx.audit(&filter).await?) })).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > wanted;
        rows.truncate(wanted);
        let next = rows.last().filter(|_| more).map(|row| format!("{}.{}", row.at.as_micros(), row.id));
        Ok(AuditPage { events: rows.into_iter().map(AuditView::of).collect(), next })
    }
}

fn cursor(text: &str) -> Result<(Timestamp, i64)> {
    let read = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let (at, id) =
        read.ok_or_else(|| Error::invalid("after", "is no cursor: send `next` of a page as it came", None))?;
    Ok((Timestamp::from_micros(at), id))
}
