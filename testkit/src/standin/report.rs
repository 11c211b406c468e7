//! What the process can say about itself, for tests of how it was started.
//!
//! Owns the shape of the report. Must not show the values of environment variables: they may be secrets.

use std::io::IsTerminal as _;

use rustix::process::{getpid, getppid};
use serde_json::{Value, json};

/// The open file descriptors and what they lead to, without the one that looking needs.
pub(super) fn open_files() -> Vec<(u64, String)> {
    let own = format!("/proc/{}/fd", getpid().as_raw_nonzero());
    let mut files: Vec<(u64, String)> = std::fs::read_dir(&own)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .filter(|(_, target)| *target != own)
        .collect();
    files.sort();
    files
}

/// One line of JSON. `sleepers` are the process ids of what `fork` started. The signal sets are the kernel's bit masks
/// in hex; 0x1000, SIGPIPE, is ignored by every Rust program.
pub(super) fn describe(open_files: &[(u64, String)], sleepers: &[u32]) -> Value {
    let mut names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    let files: Vec<Value> = open_files
        .iter()
        .map(|(number, target)| json!({"fd": number, "target": target}))
        .collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    json!({
        "pid": getpid().as_raw_nonzero(),
        "ppid": getppid().map(|pid| pid.as_raw_nonzero()),
        "pgid": stat_field(&stat, 2),
        "sid": stat_field(&stat, 3),
        "cwd": std::env::current_dir().ok().map(|path| path.to_string_lossy().into_owned()),
        "isatty": {
            "stdin": std::io::stdin().is_terminal(),
            "stdout": std::io::stdout().is_terminal(),
            "stderr": std::io::stderr().is_terminal(),
        },
        "env": names,
        "open_fds": files,
        "signals_blocked": field("SigBlk:"),
        "signals_ignored": field("SigIgn:"),
        "umask": field("Umask:"),
        "sleepers": sleepers,
    })
}

/// A number of `/proc/PID/stat`, counted from 0 behind the name. Group and session are read here and not asked for by
/// `getpgid` and `getsid`: both are 0 where their leader lives outside the PID namespace, as in a container that was
/// entered from outside, and rustix takes 0 for impossible.
fn stat_field(stat: &str, index: usize) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(index)?.parse().ok()
}
