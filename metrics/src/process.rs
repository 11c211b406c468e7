//! This process itself, under the names that every Prometheus client gives.
//!
//! Owns the `process_*` families. Must not know clusters: the tools' processes are not counted in. Invariant: read anew
//! for each rendering; what cannot be read is left out.

use std::fmt::Write;
use std::fs;

use metrics_exporter_prometheus::formatting::{write_help_line, write_type_line};

/// What the kernel says of a process, in its own units.
#[derive(Debug, PartialEq)]
struct Stat {
    /// Processor time in user and kernel mode, in clock ticks.
    cpu_ticks: u64,
    /// Start after the machine's own, in clock ticks.
    start_ticks: u64,
    /// Resident memory in pages.
    resident_pages: u64,
}

/// Appends the families that can be read.
pub(crate) fn write(text: &mut String) {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    if let Some(stat) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(parse_stat)
    {
        family(
            text,
            "process_cpu_seconds_total",
            "counter",
            "Processor time in user and kernel mode, in seconds.",
            stat.cpu_ticks as f64 / ticks,
        );
        family(
            text,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory in bytes.",
            (stat.resident_pages * rustix::param::page_size() as u64) as f64,
        );
        if let Some(boot) = fs::read_to_string("/proc/stat")
            .ok()
            .as_deref()
            .and_then(parse_boot)
        {
            family(
                text,
                "process_start_time_seconds",
                "gauge",
                "Start of the process, in seconds since 1970.",
                boot as f64 + stat.start_ticks as f64 / ticks,
            );
        }
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is being read.
        let open = descriptors.count().saturating_sub(1);
        family(
            text,
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            open as f64,
        );
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, kind);
    // Writing to a string cannot fail.
    writeln!(text, "{name} {value}\n").ok();
}

/// Reads `/proc/PID/stat`, whose fields are described in `proc_pid_stat(5)`.
fn parse_stat(stat: &str) -> Option<Stat> {
    // The program's name may contain anything, so the fields are counted behind its last parenthesis, from the third on.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        start_ticks: field(22)?,
        resident_pages: field(24)?,
    })
}

/// When the machine was started, from `/proc/stat`.
fn parse_boot(stat: &str) -> Option<u64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 5 0 9000 1000000 250 18446744073709551615 1 1";
        let expected = Stat {
            cpu_ticks: 46,
            start_ticks: 9000,
            resident_pages: 250,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
        assert_eq!(
            parse_boot("cpu 1 2\nbtime 1700000000\nprocesses 1\n"),
            Some(1_700_000_000)
        );
        assert_eq!(parse_boot("cpu 1 2\n"), None);
    }
}
