//! Which user and group an image runs as, by number.
//!
//! The rules are those of the engine itself (`GetExecUser` of moby/sys): a name or number that stands in `/etc/passwd`
//! brings its group; a number that does not has group 0; a group in the image's user wins.

use std::fmt;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt as _;

use super::engine::is_missing;
use super::{Error, Executor, Image};

/// Longest `/etc/passwd` or `/etc/group` read.
const MAX_FILE: usize = 4 << 20;
/// Most links followed to one of them.
const MAX_LINKS: usize = 5;

/// User and group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl Owner {
    /// Reads what `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (uid, gid) = text.trim().split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

impl Executor {
    /// User and group that the image's containers run as. Reads the image's own files out of the created container.
    pub(super) async fn owner_of(&self, image: &Image, container: &str) -> Result<Owner, Error> {
        if image.user.is_empty() {
            return Ok(Owner { uid: 0, gid: 0 });
        }
        if let Some(owner) = self.inner.owners.lock().await.get(&image.id) {
            return Ok(*owner);
        }
        let passwd = self.read_file(container, "/etc/passwd").await?;
        let named_group = image.user.split_once(':').is_some_and(|(_, group)| group.parse::<u32>().is_err());
        let group = if named_group { self.read_file(container, "/etc/group").await? } else { None };
        let owner = resolve(&image.user, passwd.as_deref(), group.as_deref()).map_err(|cause| Error::Image {
            image: image.reference.clone(),
            cause,
            class: super::Class::Permanent,
        })?;
        self.inner.owners.lock().await.insert(image.id.clone(), owner);
        Ok(owner)
    }

    /// A file of a container as text, `None` when there is none. Links are followed inside the container only.
    async fn read_file(&self, container: &str, path: &str) -> Result<Option<String>, Error> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.read_entry(container, &path).await? {
                None => return Ok(None),
                Some(Entry::File(text)) => return Ok(Some(text)),
                Some(Entry::Link(target)) if target.starts_with('/') => path = target,
                Some(Entry::Link(target)) => {
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    path = format!("{parent}/{target}");
                }
            }
        }
        Ok(None)
    }

    async fn read_entry(&self, container: &str, path: &str) -> Result<Option<Entry>, Error> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut stream = std::pin::pin!(self.inner.docker.download_from_container(container, Some(options)));
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) if bytes.len() + chunk.len() <= MAX_FILE => bytes.extend_from_slice(&chunk),
                Ok(_) => return Ok(None),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(self.failed(format!("read `{path}` of container `{container}`"), error)),
            }
        }
        Ok(first_entry(&bytes))
    }
}

enum Entry {
    File(String),
    Link(String),
}

fn first_entry(tar: &[u8]) -> Option<Entry> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(tar);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    if let Ok(Some(target)) = entry.link_name() {
        return Some(Entry::Link(target.to_string_lossy().into_owned()));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).ok()?;
    Some(Entry::File(String::from_utf8_lossy(&content).into_owned()))
}

/// `user` as it stands in an image, resolved by the image's own files.
fn resolve(user: &str, passwd: Option<&str>, group: Option<&str>) -> Result<Owner, String> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let number = user.parse::<u32>().ok();
    let entry = passwd.into_iter().flat_map(str::lines).find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (fields.first() == Some(&user) || number == Some(uid)).then_some(Owner { uid, gid })
    });
    let found = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => Owner { uid, gid: 0 },
        (None, None) => {
            return Err(format!(
                "runs as user `{user}`, which is not in its `/etc/passwd`; use a user that is there or a number"
            ));
        }
    };
    let Some(wanted) = wanted_group else {
        return Ok(found);
    };
    let gid = wanted.parse().ok().or_else(|| {
        group.into_iter().flat_map(str::lines).find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(wanted)).then(|| fields.nth(1)?.parse().ok())?
        })
    });
    match gid {
        Some(gid) => Ok(Owner { uid: found.uid, gid }),
        None => Err(format!(
            "runs as group `{wanted}`, which is not in its `/etc/group`; use a group that is there or a number"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\npulumi:x:1000:1001::/home/pulumi:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:pulumi\n";

    #[test]
    fn users_are_resolved_as_the_engine_does() {
        for (user, uid, gid) in [
            ("pulumi", 1000, 1001),
            ("1000", 1000, 1001),
            ("1234", 1234, 0),
            ("1234:77", 1234, 77),
            ("pulumi:staff", 1000, 50),
            ("pulumi:", 1000, 1001),
            ("root", 0, 0),
        ] {
            assert_eq!(resolve(user, Some(PASSWD), Some(GROUP)), Ok(Owner { uid, gid }), "{user}");
        }
        assert_eq!(resolve("7:8", None, None), Ok(Owner { uid: 7, gid: 8 }));
    }

    #[test]
    fn unknown_names_are_errors_that_name_them() {
        assert!(resolve("ghost", Some(PASSWD), None).unwrap_err().contains("`ghost`"));
        assert!(resolve("ghost", None, None).is_err());
        assert!(resolve("pulumi:ghosts", Some(PASSWD), Some(GROUP)).unwrap_err().contains("`ghosts`"));
    }

    #[test]
    fn owners_survive_as_text() {
        let owner = Owner { uid: 7, gid: 8 };
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        assert_eq!(Owner::parse("7"), None);
    }
}
