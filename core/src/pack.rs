//! A text that is kept smaller on its way, when it would not fit as it is.
//!
//! Invariants: a text that fits is left as it is, so that who knows nothing of this reads it. A packed one begins with a byte that no
//! text in UTF-8 has, and never becomes longer than what was agreed when it is unpacked, whatever it claims.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use zeroize::Zeroizing;

/// Begins a packed text.
const MARK: u8 = 0xff;
/// How hard it is tried: beyond this it takes much longer for little.
const LEVEL: u8 = 6;

/// Why a text cannot be packed or unpacked. Says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Packed it still has too many bytes.
    #[error("it has {0} bytes when it is packed")]
    TooLong(usize),
    /// What is packed is damaged, or longer than may be.
    #[error("it cannot be unpacked: it is damaged, or has more than {0} bytes")]
    Damaged(usize),
}

/// A text as it is if it has at most `most` bytes, else packed into as many.
///
/// # Errors
/// When it does not fit even so.
pub fn pack(text: Zeroizing<Vec<u8>>, most: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    if text.len() <= most && text.first() != Some(&MARK) {
        return Ok(text);
    }
    let body = Zeroizing::new(compress_to_vec(&text, LEVEL));
    if body.len() >= most {
        return Err(Error::TooLong(body.len() + 1));
    }
    let mut packed = Zeroizing::new(Vec::with_capacity(body.len() + 1));
    packed.push(MARK);
    packed.extend_from_slice(&body);
    Ok(packed)
}

/// What [`pack`] was given, or a text that never was packed.
///
/// # Errors
/// When it is damaged, or would have more than `most` bytes.
pub fn unpack(packed: Zeroizing<Vec<u8>>, most: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let Some(body) = packed.strip_prefix(&[MARK]) else { return Ok(packed) };
    decompress_to_vec_with_limit(body, most).map(Zeroizing::new).map_err(|_| Error::Damaged(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(text: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.to_vec())
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let text = kept(b"settings\0plan");
        assert_eq!(pack(text.clone(), text.len()), Ok(text.clone()));
        assert_eq!(unpack(text.clone(), 1), Ok(text), "what an older agent sent has no limit of this one");
        assert_eq!(pack(kept(b""), 0), Ok(kept(b"")));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_length() {
        // Nothing of it repeats.
        let mut at = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            at.to_le_bytes()[3]
        })
        .take(10_000)
        .collect();
        let Err(Error::TooLong(length)) = pack(kept(&noise), 5_000) else { panic!("it fits") };
        assert!(length > 5_000);
        let edge = pack(kept(&noise[..6_000]), 5_999);
        assert!(edge.is_err(), "not even by one byte");
    }

    #[test]
    fn nothing_grows_out_of_proportion() {
        let bomb = pack(kept(&vec![0; 10_000_000]), 100_000).unwrap();
        assert!(bomb.len() < 20_000);
        assert_eq!(unpack(bomb.clone(), 9_999_999), Err(Error::Damaged(9_999_999)));
        assert_eq!(unpack(bomb.clone(), 10_000_000).unwrap().len(), 10_000_000);
        let cut = kept(&bomb[..bomb.len() - 5]);
        assert_eq!(unpack(cut, 10_000_000), Err(Error::Damaged(10_000_000)));
        assert_eq!(unpack(kept(&[MARK]), 10), Err(Error::Damaged(10)));
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(
            text in proptest::collection::vec(any::<u8>(), 0..2_000), repeats in 1_usize..50, most in 0_usize..20_000
        ) {
            let whole = text.repeat(repeats);
            match pack(kept(&whole), most) {
                Ok(packed) => {
                    prop_assert!(packed.len() <= most);
                    prop_assert_eq!(&*unpack(packed, whole.len()).unwrap(), &whole);
                }
                Err(Error::TooLong(length)) => prop_assert!(length > most),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let marked = [&[MARK][..], &bytes].concat();
            if let Ok(text) = unpack(kept(&marked), 1_000) {
                prop_assert!(text.len() <= 1_000);
            }
        }

        /// A text never begins with the mark, so an older one is never taken for a packed one.
        #[test]
        fn a_text_is_never_taken_for_a_packed_one(text in ".{0,50}") {
            prop_assert_eq!(&*unpack(kept(text.as_bytes()), 0).unwrap(), text.as_bytes());
        }
    }
}
