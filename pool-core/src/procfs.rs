//! What Linux says of processes under `/proc`.
//!
//! Owns the reading of it. Must not know why anybody asks. Invariant: an answer is a snapshot, and a process that ends
//! meanwhile is no error.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};

/// The resident memory of a process in bytes; None if there is no such process, or only its zombie.
///
/// Pages that it shares with others count in full, as they do in `ps`.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    (pages > 0).then_some(pages * page)
}

/// Whether a process group has no living process. Zombies do not live: where process 1 does not collect orphans, as in
/// many containers, they stay for ever.
pub(crate) fn group_is_empty(group: Pid) -> bool {
    if test_kill_process_group(group) == Err(Errno::SRCH) {
        return true;
    }
    let group = group.as_raw_nonzero().get();
    !stats().any(|stat| Fields::read(&stat).is_some_and(|fields| fields.lives_in(group)))
}

/// The process groups of a session that have a living process, each once.
pub(crate) fn session_groups(session: Pid) -> Vec<Pid> {
    let session = session.as_raw_nonzero().get();
    let mut groups: Vec<Pid> = stats()
        .filter_map(|stat| Fields::read(&stat))
        .filter(|fields| fields.lives && fields.session == session)
        .filter_map(|fields| Pid::from_raw(fields.group))
        .collect();
    groups.sort_unstable_by_key(|group| group.as_raw_nonzero());
    groups.dedup();
    groups
}

/// The living children of a process.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    stats()
        .filter_map(|stat| {
            let fields = Fields::read(&stat)?;
            Pid::from_raw(fields.pid).filter(|_| fields.lives && fields.parent == parent)
        })
        .collect()
}

/// The lines of `/proc/PID/stat` of all processes; none where they cannot be listed.
fn stats() -> impl Iterator<Item = String> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
}

/// What a line of `/proc/PID/stat` tells.
#[derive(Debug, PartialEq)]
struct Fields {
    pid: i32,
    lives: bool,
    parent: i32,
    group: i32,
    session: i32,
}

impl Fields {
    fn read(stat: &str) -> Option<Self> {
        // The name is in parentheses and may contain anything, so the fields are counted behind the last one: state,
        // parent, group, session.
        let (head, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        Some(Self {
            pid: head.split(' ').next()?.parse().ok()?,
            lives: !matches!(fields.next()?, "Z" | "X"),
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
        })
    }

    fn lives_in(&self, group: i32) -> bool {
        self.lives && self.group == group
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_whatever_its_name() {
        let read = |stat| {
            Fields::read(stat).map(|fields| {
                (
                    fields.pid,
                    fields.parent,
                    fields.lives_in(7),
                    fields.session,
                )
            })
        };
        assert_eq!(read("7 (a) S 1 7 5 0"), Some((7, 1, true, 5)));
        assert_eq!(read("8 (a) Z 1 (x) ) R 1 7 5 0"), Some((8, 1, true, 5)));
        assert_eq!(read("7 (a) Z 1 7 5 0"), Some((7, 1, false, 5)));
        assert_eq!(read("7 (a) S 7 1 7 0"), Some((7, 7, false, 7)));
        assert_eq!(read("7 (a) S 1"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn this_process_has_memory_and_a_group_that_lives() {
        assert!(rss_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(rss_bytes(u32::MAX), None);
        let mut leader = std::process::Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .expect("a process of its own group");
        let group = Pid::from_child(&leader);
        assert!(!group_is_empty(group));
        leader.kill().expect("it lives");
        leader.wait().expect("it ends");
        assert!(group_is_empty(group));
    }
}
