//! A bound on the bytes that an archive's reader takes, whatever it is told by the archive.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use super::{Limits, MAX_HEADERS, Refused, shown};

#[derive(Debug)]
struct State {
    /// Bytes that may still pass in all.
    left: u64,
    /// Between two entries: bytes that may still pass, and the entry before.
    headers: Option<(u64, String)>,
    /// The bound that was reached.
    reached: Option<Refused>,
}

/// Lets the bytes of an unpacked archive pass, up to the limits; after that it fails rather than ends. Reads nothing by itself.
#[derive(Debug)]
pub struct Gate<R> {
    inner: R,
    limits: Limits,
    packed: u64,
    state: Rc<RefCell<State>>,
}

/// The side of a [`Gate`] that its reader's owner keeps.
#[derive(Debug)]
pub struct Meter(Rc<RefCell<State>>);

impl<R: Read> Gate<R> {
    /// For an archive of `packed` bytes that `inner` unpacks.
    pub fn new(inner: R, limits: Limits, packed: u64) -> (Self, Meter) {
        let state = State { left: limits.growth(packed).0, headers: None, reached: None };
        let state = Rc::new(RefCell::new(state));
        (Self { inner, limits, packed, state: Rc::clone(&state) }, Meter(state))
    }

    /// How many bytes may pass now; the error says which bound is reached.
    fn most(&self) -> Result<u64, Refused> {
        let state = self.state.borrow();
        match &state.headers {
            Some((0, after)) => Err(Refused::Headers { after: after.clone() }),
            _ if state.left == 0 => Err(self.limits.growth(self.packed).1),
            Some((headers, _)) => Ok(state.left.min(*headers)),
            None => Ok(state.left),
        }
    }
}

impl<R: Read> Read for Gate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = match self.most() {
            Ok(most) => most.min(buffer.len() as u64),
            Err(refused) => {
                let error = io::Error::other(refused.to_string());
                self.state.borrow_mut().reached = Some(refused);
                return Err(error);
            }
        };
        let read =
            self.inner.read(buffer.get_mut(..usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or_default())?;
        let mut state = self.state.borrow_mut();
        state.left = state.left.saturating_sub(read as u64);
        if let Some((headers, _)) = &mut state.headers {
            *headers = headers.saturating_sub(read as u64);
        }
        Ok(read)
    }
}

impl Meter {
    /// The next entry is looked for: what comes now are headers, which the reader keeps in memory.
    pub fn headers(&self, after: &[u8]) {
        self.0.borrow_mut().headers = Some((MAX_HEADERS, shown(after)));
    }

    /// An entry's content comes.
    pub fn content(&self) {
        self.0.borrow_mut().headers = None;
    }

    /// What an error of the reader means: a bound that was reached, or an archive that is no `form`.
    #[must_use]
    pub fn refused(&self, form: &'static str, source: io::Error) -> Refused {
        self.0.borrow_mut().reached.take().unwrap_or(Refused::Unreadable { form, source })
    }
}
