//! What the operating system knows: live processes that carry a marker, and what this process itself holds.
//!
//! Owns the look into `/proc`. Must not know who started what. Invariant: a process that is dead and was not yet collected
//! is a child of this one and not alive.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that marks processes, so that they can be counted; every process of a tool's tree inherits it.
pub const MARKER: &str = "TOOLPOOL_TEST_MARKER";

/// The live processes whose environment carries this marker, wherever they went.
pub fn census(marker: &str) -> Vec<u32> {
    let wanted = format!("{MARKER}={marker}");
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == wanted.as_bytes())
    };
    numbers(Path::new("/proc"))
        .filter(is_marked)
        .filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.state != 'Z'))
        .collect()
}

/// The processes of one test.
#[derive(Clone, Debug)]
pub struct Census(String);

impl Census {
    /// A census with a marker that no other one has.
    #[allow(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{}-{next}", std::process::id()))
    }

    /// The census of whatever carries this marker.
    pub fn of(marker: impl Into<String>) -> Self {
        Self(marker.into())
    }

    /// The value of [`MARKER`].
    pub fn marker(&self) -> &str {
        &self.0
    }

    /// The live processes that carry it.
    pub fn alive(&self) -> Vec<u32> {
        census(&self.0)
    }
}

/// What this process holds of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open files, the one that looking needs included.
    pub files: usize,
    /// Threads.
    pub threads: usize,
    /// Children, those among them that are dead and were not collected.
    pub children: Vec<u32>,
}

impl Holdings {
    /// Takes stock.
    pub fn now() -> Self {
        let own = std::process::id();
        let is_child = |pid: &u32| Stat::of(*pid).is_some_and(|stat| stat.parent == Some(own));
        Self {
            files: numbers(Path::new("/proc/self/fd")).count(),
            threads: numbers(Path::new("/proc/self/task")).count(),
            children: numbers(Path::new("/proc")).filter(is_child).collect(),
        }
    }
}

/// Two facts of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: Option<u32>,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The state follows the name, which may hold anything, in parentheses.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok(),
        })
    }
}

/// The entries of a folder that are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_marked_process_is_counted_while_it_lives_and_is_a_child_until_it_is_collected() {
        let census = Census::new();
        let mut child = Command::new("cat")
            .env(MARKER, census.marker())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat starts");
        assert_eq!(census.alive(), [child.id()]);
        assert_eq!(Census::new().alive(), Vec::<u32>::new());
        child.kill().expect("it lives");
        while !census.alive().is_empty() {
            std::thread::yield_now();
        }
        assert!(Holdings::now().children.contains(&child.id()));
        child.wait().expect("it has ended");
        assert!(!Holdings::now().children.contains(&child.id()));
    }

    #[test]
    fn an_open_file_and_a_thread_are_seen() {
        let before = Holdings::now();
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        let during = Holdings::now();
        // Other tests of this program run at the same time.
        assert!(during.files > before.files || during.threads > before.threads);
        drop((file, stop));
        thread
            .join()
            .expect("it ends")
            .expect_err("nothing was sent");
    }
}
