//! The entries of one archive, one after the other.

use std::collections::HashMap;

use super::{Limits, MAX_NAMES, Refused, check_target, parts, shown};

/// What an entry is by its archive's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its length.
        bytes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// As it stands there.
        target: &'a [u8],
    },
    /// Another name of a file.
    HardLink {
        /// The file's name in the archive.
        target: &'a [u8],
    },
    /// Anything else, such as "a device".
    Other(&'a str),
}

/// An entry that may be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its name in its shortest form.
    pub path: Vec<u8>,
    /// Folders on the way to it that no entry before has named, outermost first.
    pub implied: Vec<Vec<u8>>,
    /// For a hard link: the file, in the shortest form of its name.
    pub target: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

/// Checks the entries of one archive in their order.
#[derive(Debug)]
pub struct Checker {
    limits: Limits,
    seen: HashMap<Box<[u8]>, Kind>,
    /// Entries so far, repeated ones too.
    count: usize,
    /// Bytes of names that are left.
    names: usize,
    /// Bytes of files that are left, and what to say when there are too many.
    left: u64,
    packed: u64,
}

impl Checker {
    /// For an archive of so many bytes.
    #[must_use]
    pub fn new(limits: Limits, packed: u64) -> Self {
        Self { limits, seen: HashMap::new(), count: 0, names: MAX_NAMES, left: limits.growth(packed).0, packed }
    }

    /// Checks the next entry; `None` for the package's root, which is there in any case.
    ///
    /// A file or folder may come again, as `tar -r` appends it: the later one counts.
    ///
    /// # Errors
    /// Why the whole package is refused.
    pub fn entry(&mut self, name: &[u8], what: What<'_>) -> Result<Option<Admitted>, Refused> {
        let refused = |why: String| Refused::entry(name, why);
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(Refused::TooMany(self.limits.entries));
        }
        let parts = parts(name).map_err(refused)?;
        let (kind, target) = self.kind(name, &parts, what).map_err(refused)?;
        if parts.is_empty() {
            return if kind == Kind::Folder { Ok(None) } else { Err(refused("has no name".to_owned())) };
        }
        let implied = self.folders(name, &parts)?;
        let path = parts.join(&b'/');
        match self.seen.get(path.as_slice()) {
            None => self.remember(&path, kind)?,
            Some(before) if *before == kind && kind != Kind::Link => {}
            Some(_) => return Err(refused("stands in the package twice, as different things".to_owned())),
        }
        if let What::File { bytes } = what {
            self.left = self.left.checked_sub(bytes).ok_or_else(|| self.limits.growth(self.packed).1)?;
        }
        Ok(Some(Admitted { path, implied, target }))
    }

    /// What it is and, for a hard link, the file it means.
    fn kind(&self, name: &[u8], parts: &[&[u8]], what: What<'_>) -> Result<(Kind, Option<Vec<u8>>), String> {
        match what {
            What::Folder => Ok((Kind::Folder, None)),
            What::File { .. } if name.ends_with(b"/") => Err("is a file with the name of a folder".to_owned()),
            What::File { .. } => Ok((Kind::File, None)),
            What::Symlink { target } => {
                check_target(target, parts.len().saturating_sub(1)).map(|()| (Kind::Link, None))
            }
            What::HardLink { target } => {
                let wrong = |why: &str| format!("is a hard link to `{}`, which {why}", shown(target));
                let path = super::parts(target).map_err(|why| wrong(&why))?.join(&b'/');
                match self.seen.get(path.as_slice()) {
                    Some(Kind::File) => Ok((Kind::File, Some(path))),
                    _ => Err(wrong("is no file before it in the package")),
                }
            }
            What::Other(what) => Err(format!("is {what}")),
        }
    }

    /// Makes sure that it lies in folders, and gives those that are new.
    fn folders(&mut self, name: &[u8], parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, Refused> {
        let mut implied = Vec::new();
        for end in 1..parts.len() {
            let folder = parts.get(..end).unwrap_or_default().join(&b'/');
            match self.seen.get(folder.as_slice()) {
                Some(Kind::Folder) => {}
                Some(Kind::Link) => {
                    return Err(Refused::entry(name, format!("lies behind the link `{}`", shown(&folder))));
                }
                Some(Kind::File) => {
                    let why = format!("lies below `{}`, which is not a folder", shown(&folder));
                    return Err(Refused::entry(name, why));
                }
                None => {
                    self.remember(&folder, Kind::Folder)?;
                    implied.push(folder);
                }
            }
        }
        Ok(implied)
    }

    fn remember(&mut self, path: &[u8], kind: Kind) -> Result<(), Refused> {
        if self.seen.len() >= self.limits.entries {
            return Err(Refused::TooMany(self.limits.entries));
        }
        self.names = self.names.checked_sub(path.len()).ok_or(Refused::Names)?;
        self.seen.insert(path.into(), kind);
        Ok(())
    }
}
