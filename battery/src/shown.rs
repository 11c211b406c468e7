//! Faults that another test shows completely, so that no case plays them again.
//!
//! Owns which test shows what. Must not run it: `cargo xtask test` does. Invariant: each test that is named is there.

/// One numbered fault, and who shows it.
pub(crate) struct Shown {
    /// Its number; the numbers are those of the cases.
    pub(crate) number: u16,
    /// What is shown, in a few words.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) injects: &'static str,
    /// The file of the tests, from the workspace's root.
    pub(crate) file: &'static str,
    /// Their names.
    pub(crate) tests: &'static [&'static str],
}

/// All of them, by number.
pub(crate) const SHOWN: &[Shown] = &[
    Shown {
        number: 44,
        name: "what comes too late for a breaker",
        injects: "a success and a failure of a process after its turn's time was up, 3 times",
        file: "cluster/tests/memory/healing.rs",
        tests: &["what_comes_too_late_changes_no_count_of_a_breaker"],
    },
    Shown {
        number: 45,
        name: "the waits between tries",
        injects: "200 draws of 10,000 seeds",
        file: "cluster/src/backoff/draws.rs",
        tests: &["ten_thousand_seeds_keep_to_the_envelope_and_are_even_on_the_whole"],
    },
    Shown {
        number: 47,
        name: "a crash after ten healthy minutes",
        injects: "4 crashes, 601 s on a clock that jumps, one more",
        file: "cluster/tests/memory/healing.rs",
        tests: &["ten_healthy_minutes_bring_the_first_wait_back"],
    },
    Shown {
        number: 48,
        name: "a rate limit and a refused login",
        injects: "turns that fail with a limit of 30 s, and with a refused login",
        file: "cluster/tests/memory/pausing.rs",
        tests: &[
            "a_tool_that_can_be_asked_again_in_30_s_gets_no_prompt_until_then_and_no_restart",
            "a_refused_login_keeps_the_queue_until_the_instances_were_restarted",
        ],
    },
    Shown {
        number: 83,
        name: "a request to terminate in full work",
        injects: "SIGTERM with 100 running turns; a second and a third signal",
        file: "cli/tests/cli/interrupts.rs",
        tests: &[
            "a_hundred_running_turns_get_the_drain_timeout_after_a_request_to_terminate",
            "the_second_signal_of_a_batch_stops_what_runs_and_the_report_is_whole",
            "the_third_signal_leaves_at_once_and_the_keepers_end_what_does_not_want_to",
        ],
    },
    Shown {
        number: 87,
        name: "a reader that goes away",
        injects: "the reader of an answer closes its pipe; that of a batch does",
        file: "cli/tests/cli/batch.rs",
        tests: &["a_reader_that_goes_away_lets_what_runs_finish_and_nothing_more_is_started"],
    },
];

impl Shown {
    /// What stands in the last column of the table.
    pub(crate) fn by(&self) -> String {
        let tests: Vec<String> = self.tests.iter().map(|test| format!("`{test}`")).collect();
        format!("shown by {} in `{}`", tests.join(", "), self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Whether each test is there, below its attribute.
    fn are_there(shown: &Shown) -> bool {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(shown.file);
        let text = std::fs::read_to_string(path).expect("the file is there");
        shown.tests.iter().all(|test| {
            let begins = format!("fn {test}(");
            let lines = text.lines().zip(text.lines().skip(1));
            let mut found = lines.filter(|(_, line)| line.contains(&begins));
            found.any(|(above, _)| above.trim().starts_with("#[") && above.contains("test"))
        })
    }

    #[test]
    fn each_test_that_shows_a_case_is_there() {
        for shown in SHOWN {
            assert!(are_there(shown), "case {}: {}", shown.number, shown.by());
        }
    }

    #[test]
    fn a_function_that_is_no_test_shows_nothing() {
        let shown = Shown {
            number: 1,
            name: "",
            injects: "",
            file: "battery/src/shown.rs",
            tests: &["are_there"],
        };
        assert!(!are_there(&shown));
    }
}
