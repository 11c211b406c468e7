//! Counts the live processes that carry a mark in their environment, wherever they went.

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Census {
    mark: String,
}

impl Census {
    /// The marked variable; every process of a tool's tree inherits it.
    pub(crate) const VARIABLE: &str = "TOOLPOOL_TEST_CENSUS";

    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mark = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self { mark }
    }

    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// The process ids that carry the mark and live; a zombie has no environment any more.
    pub(crate) fn alive(&self) -> Vec<u32> {
        let marked = format!("{}={}", Self::VARIABLE, self.mark);
        let is_marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == marked.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").expect("this system has /proc");
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(is_marked)
            .collect()
    }
}
