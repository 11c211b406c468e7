//! A cgroup for each tool, where this program may make some.
//!
//! Owns the folder of the cgroup file system that stands for one tool and everything it starts. Must not know signals or
//! process trees. Invariant: it only adds to what the [keeper](crate::keeper) does: where a cgroup cannot be made, or
//! this process cannot come back out of it, there is none.
//!
//! One write ends all of it at once, which a process that forks faster than it can be listed does not outrun, and which
//! does not need the keeper to be alive. The cgroup lies below that of this program, and no controller is switched on.
//! Entering and leaving one costs 0.05 ms with Linux 6.18 (measured); `cgroup.kill` came with Linux 5.14.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::planted::planted;

const KILL: &str = "cgroup.kill";
const PROCESSES: &str = "cgroup.procs";

/// The cgroup of one tool.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Calls `start`, so that the processes that it starts are in a new cgroup; this process, which must have one thread,
    /// is not in it afterwards. The new one is named after a tool's private folder, whose name nobody else has.
    pub(crate) fn around<T>(folder: &Path, start: impl FnOnce() -> T) -> (T, Option<Self>) {
        let Some((own, inner)) = own().and_then(|own| {
            let inner = make(&own.join(folder.file_name()?)).ok()?;
            Some((own, inner))
        }) else {
            return (start(), None);
        };
        if enter(&inner.0).is_err() {
            inner.remove();
            return (start(), None);
        }
        let started = start();
        (started, enter(&own).is_ok().then_some(inner))
    }

    /// What a keeper that was killed has left of the tool with this private folder.
    pub(crate) fn left(folder: &Path) -> Option<Self> {
        let inner = own()?.join(folder.file_name()?);
        inner.is_dir().then_some(Self(inner))
    }

    /// Ends every process in it, at once. They may be there for a moment yet.
    pub(crate) fn kill(&self) {
        if !planted("pid_only") {
            // Without the word, the keeper still has its own way.
            fs::write(self.0.join(KILL), "1").ok();
        }
    }

    /// Removes it, if no process is in it; whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        match fs::remove_dir(&self.0) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

/// Whether this program may make a cgroup for each tool.
pub(crate) fn is_available() -> bool {
    let probe = format!("toolpool-probe-{}", std::process::id());
    own().is_some_and(|own| {
        access(own.join(PROCESSES), Access::WRITE_OK).is_ok()
            && make(&own.join(probe)).is_ok_and(|inner| inner.remove())
    })
}

fn make(inner: &Path) -> io::Result<Cgroup> {
    fs::create_dir(inner)?;
    let inner = Cgroup(inner.to_owned());
    if !inner.0.join(KILL).exists() {
        inner.remove();
        return Err(ErrorKind::Unsupported.into());
    }
    Ok(inner)
}

fn enter(cgroup: &Path) -> io::Result<()> {
    fs::write(cgroup.join(PROCESSES), "0")
}

/// The folder of the cgroup that this process is in.
fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    folder_of(&mounts, &memberships)
}

/// The same, from what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
fn folder_of(mounts: &str, memberships: &str) -> Option<PathBuf> {
    let path = memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // Beside those in front of the hyphen, whose number varies: the fourth is the mounted part, the fifth its place.
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ');
        let (root, place) = (front.nth(3)?, front.next()?);
        if back.split(' ').next() != Some("cgroup2") || place.contains('\\') {
            return None;
        }
        let below = Path::new(path).strip_prefix(root).ok()?;
        // A process that a cgroup namespace does not show is told as `/../…`.
        let strays = below
            .components()
            .any(|part| part.as_os_str() == OsStr::new(".."));
        (!strays).then(|| Path::new(place).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_folder_is_found_in_what_linux_says() {
        let unified =
            "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "35 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      44 24 0:39 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let part = "29 23 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let cases = [
            (
                unified,
                "0::/user.slice/run.scope\n",
                Some("/sys/fs/cgroup/user.slice/run.scope"),
            ),
            (unified, "0::/\n", Some("/sys/fs/cgroup/")),
            (
                hybrid,
                "9:name=systemd:/\n4:memory:/x\n0::/a\n",
                Some("/sys/fs/cgroup/unified/a"),
            ),
            (part, "0::/box/a\n", Some("/sys/fs/cgroup/a")),
            (part, "0::/elsewhere\n", None),
            (unified, "0::/../outside\n", None),
            (unified, "4:memory:/x\n", None),
            ("", "0::/\n", None),
            ("what", "0::/\n", None),
        ];
        for (mounts, memberships, folder) in cases {
            assert_eq!(
                folder_of(mounts, memberships).as_deref(),
                folder.map(Path::new),
                "{memberships} in {mounts}"
            );
        }
    }
}
