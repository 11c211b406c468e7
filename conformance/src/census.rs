//! Which processes live.
//!
//! Owns the count of the processes that carry a marker. Must not know who started them.

use std::path::{Path, PathBuf};

use crate::MARKER;

/// The live processes whose environment carries the marker. One that is dead and was not yet collected does not count.
pub fn census(marker: &str) -> Vec<u32> {
    let wanted = format!("{MARKER}={marker}");
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            std::fs::read(folder.join("environ")).is_ok_and(|environ| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == wanted.as_bytes())
            }) && is_alive(&folder)
        })
        .collect()
}

fn is_alive(folder: &Path) -> bool {
    // The state follows the name, which may hold anything, in parentheses.
    std::fs::read_to_string(folder.join("stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}
