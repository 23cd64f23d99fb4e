//! Whether a link stays within its folder.

use std::path::{Component, Path};

/// Whether a link at `link` (relative to `root`) that points to `target` leads out of `root`.
///
/// It does when the path as written climbs above the root, and when following it on this machine ends elsewhere: other
/// links on the way can make a harmless looking path climb.
pub(super) fn leaves(root: &Path, link: &Path, target: &Path) -> bool {
    if target.is_absolute() || climbs(link, target) {
        return true;
    }
    let folder = link.parent().map_or_else(|| root.to_owned(), |parent| root.join(parent));
    // A link to nothing cannot be followed; what is written decides then.
    folder.join(target).canonicalize().is_ok_and(|real| !real.starts_with(root))
}

fn climbs(link: &Path, target: &Path) -> bool {
    let mut depth = link.parent().map_or(0, |parent| parent.components().count());
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_above_the_root_leave_it() {
        let table = [
            ("a", "b", false),
            ("a", "..", true),
            ("d/a", "..", false),
            ("d/a", "../..", true),
            ("d/e/a", "../../x/../y", false),
            ("a", "x/../../y", true),
        ];
        for (link, target, leaves) in table {
            assert_eq!(climbs(Path::new(link), Path::new(target)), leaves, "{link} -> {target}");
        }
    }

    #[test]
    fn a_link_over_another_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("a/b/top")).unwrap();
        assert!(!leaves(&root, Path::new("a/b/top"), Path::new("../..")));
        assert!(leaves(&root, Path::new("a/b/out"), Path::new("top/..")));
        assert!(!leaves(&root, Path::new("a/b/none"), Path::new("missing")));
    }
}
