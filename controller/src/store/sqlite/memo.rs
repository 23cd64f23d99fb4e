//! Values that were parsed from the same text before. A spec is read at every step of a deployment, and is the same text each time.
//!
//! Nothing has to be forgotten when rows change: what is found, is found by the whole text.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of text that are kept; the oldest go first.
const MOST: usize = 1 << 20;

/// What was parsed, the newest last.
#[derive(Debug)]
pub(super) struct Memo<T>(RefCell<VecDeque<(String, Arc<T>)>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Memo<T> {
    /// The value of a text, parsed if it was not.
    ///
    /// # Errors
    /// Those of `parse`; nothing is kept then.
    pub(super) fn get<E>(&self, text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut kept = self.0.borrow_mut();
        if let Some((_, value)) = kept.iter().rev().find(|(known, _)| known == text) {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(parse(text)?);
        kept.push_back((text.to_owned(), Arc::clone(&value)));
        while kept.len() > 1 && kept.iter().map(|(text, _)| text.len()).sum::<usize>() > MOST {
            kept.pop_front();
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_parsed_once_and_the_oldest_are_forgotten() {
        let memo = Memo::default();
        let parsed = RefCell::new(0);
        let parse = |text: &str| {
            *parsed.borrow_mut() += 1;
            if text.is_empty() { Err("empty") } else { Ok(text.len()) }
        };
        for (text, times) in [("ab", 1), ("ab", 1), ("abc", 2), ("ab", 2)] {
            assert_eq!((*memo.get(text, parse).unwrap(), *parsed.borrow()), (text.len(), times));
        }
        assert_eq!(memo.get("", parse), Err("empty"));
        memo.get(&"x".repeat(MOST), parse).unwrap();
        assert_eq!(memo.0.borrow().len(), 1);
        memo.get("ab", parse).unwrap();
        assert_eq!(*parsed.borrow(), 5);
    }
}
