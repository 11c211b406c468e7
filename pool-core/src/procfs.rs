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
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    !processes
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .any(|stat| lives_in(&stat, group.as_raw_nonzero().get()))
}

/// Whether a line of `/proc/PID/stat` tells of a living process of the group.
fn lives_in(stat: &str, group: i32) -> bool {
    // The name is in parentheses and may contain anything, so the fields are counted behind the last one: state,
    // parent, group.
    let Some((_, fields)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = fields.split(' ');
    let state = fields.next();
    !matches!(state, Some("Z" | "X"))
        && fields.nth(1).and_then(|field| field.parse().ok()) == Some(group)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_whatever_its_name() {
        assert!(lives_in("7 (a) S 1 7 7 0", 7));
        assert!(lives_in("8 (a) Z 1 (x) ) R 1 7 7 0", 7));
        assert!(!lives_in("7 (a) Z 1 7 7 0", 7));
        assert!(!lives_in("7 (a) S 7 1 7 0", 7));
        assert!(!lives_in("", 7));
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
