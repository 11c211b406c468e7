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
    /// The tests: the file of each, from the workspace's root, and its name.
    pub(crate) tests: &'static [(&'static str, &'static str)],
}

/// All of them, by number.
pub(crate) const SHOWN: &[Shown] = &[
    Shown {
        number: 44,
        name: "what comes too late for a breaker",
        injects: "a success and a failure of a process after its turn's time was up, 3 times",
        tests: &[(
            "cluster/tests/memory/healing.rs",
            "what_comes_too_late_changes_no_count_of_a_breaker",
        )],
    },
    Shown {
        number: 45,
        name: "the waits between tries",
        injects: "200 draws of 10,000 seeds",
        tests: &[(
            "cluster/src/backoff/draws.rs",
            "ten_thousand_seeds_keep_to_the_envelope_and_are_even_on_the_whole",
        )],
    },
    Shown {
        number: 47,
        name: "a crash after ten healthy minutes",
        injects: "4 crashes, 601 s on a clock that jumps, one more",
        tests: &[(
            "cluster/tests/memory/healing.rs",
            "ten_healthy_minutes_bring_the_first_wait_back",
        )],
    },
    Shown {
        number: 48,
        name: "a rate limit and a refused login",
        injects: "turns that fail with a limit of 30 s, and with a refused login",
        tests: &[
            (
                "cluster/tests/memory/pausing.rs",
                "a_tool_that_can_be_asked_again_in_30_s_gets_no_prompt_until_then_and_no_restart",
            ),
            (
                "cluster/tests/memory/pausing.rs",
                "a_refused_login_keeps_the_queue_until_the_instances_were_restarted",
            ),
        ],
    },
    Shown {
        number: 61,
        name: "a budget for retries",
        injects: "20 clients, half of the turns crash, and each may be tried 5 times",
        tests: &[(
            "cluster/tests/memory/retrying.rs",
            "at_most_one_of_five_prompts_under_way_is_a_retry_while_half_of_the_turns_fail",
        )],
    },
    Shown {
        number: 66,
        name: "a damaged journal",
        injects: "its log cut at each byte of the last records, with bits flipped and a tail of zeros; bits flipped and pages damaged in its main file",
        tests: &[
            (
                "journal/tests/damaged.rs",
                "a_log_that_is_cut_anywhere_tells_exactly_what_comes_before_the_cut",
            ),
            (
                "journal/tests/damaged.rs",
                "a_log_with_a_tail_of_zeros_or_a_flipped_bit_in_its_last_page_tells_what_comes_before_it",
            ),
            (
                "journal/tests/damaged.rs",
                "a_log_that_is_damaged_before_its_end_is_refused_and_nothing_is_written",
            ),
            (
                "journal/tests/damaged.rs",
                "a_flipped_bit_in_the_main_file_is_found_or_changes_nothing",
            ),
            (
                "journal/tests/damaged.rs",
                "a_damaged_page_is_refused_on_opening_with_a_way_out_and_nothing_is_written",
            ),
        ],
    },
    Shown {
        number: 72,
        name: "journals of other formats",
        injects: "the format before, a later one, and files of others",
        tests: &[
            (
                "journal/tests/damaged.rs",
                "the_format_before_is_read_and_brought_up_to_date",
            ),
            (
                "journal/tests/damaged.rs",
                "a_later_format_is_refused_and_left_byte_for_byte",
            ),
            (
                "journal/tests/damaged.rs",
                "files_of_others_are_refused_and_left_byte_for_byte",
            ),
        ],
    },
    Shown {
        number: 83,
        name: "a request to terminate in full work",
        injects: "SIGTERM with 100 running turns; a second and a third signal",
        tests: &[
            (
                "cli/tests/cli/interrupts.rs",
                "a_hundred_running_turns_get_the_drain_timeout_after_a_request_to_terminate",
            ),
            (
                "cli/tests/cli/interrupts.rs",
                "the_second_signal_of_a_batch_kills_what_runs_and_the_report_is_whole",
            ),
            (
                "cli/tests/cli/interrupts.rs",
                "the_third_signal_leaves_at_once_whatever_it_is_doing",
            ),
        ],
    },
    Shown {
        number: 86,
        name: "a program that is stopped for a while",
        injects: "SIGSTOP to toolpool until the time of its running turn is up, then SIGCONT",
        tests: &[(
            "cli/tests/cli/stopped.rs",
            "a_turn_whose_time_was_up_while_the_program_was_stopped_has_it_afterwards",
        )],
    },
    Shown {
        number: 87,
        name: "a reader that goes away",
        injects: "the reader of an answer closes its pipe, and that of a batch's results does",
        tests: &[
            (
                "cli/tests/cli/ask.rs",
                "a_reader_that_goes_away_ends_the_command_at_once",
            ),
            (
                "cli/tests/cli/batch.rs",
                "a_reader_that_goes_away_lets_what_runs_finish_and_nothing_more_is_started",
            ),
        ],
    },
    Shown {
        number: 89,
        name: "what a careless parent leaves behind",
        injects: "signals ignored, all signals blocked, files 0 to 2 closed, umask 0",
        tests: &[
            (
                "cli/tests/cli/inherited.rs",
                "a_tool_is_not_touched_by_what_a_careless_parent_left_behind",
            ),
            (
                "cli/tests/cli/inherited.rs",
                "how_a_tool_ended_is_known_although_sigchld_was_ignored",
            ),
            (
                "cli/tests/cli/inherited.rs",
                "a_signal_that_was_blocked_ends_the_program_all_the_same",
            ),
            (
                "cli/tests/cli/interrupts.rs",
                "a_hang_up_ends_what_it_may_and_nohup_keeps_it_from_that",
            ),
        ],
    },
];

impl Shown {
    /// What stands in the last column of the table.
    pub(crate) fn by(&self) -> String {
        let tests = self.tests.iter();
        let tests: Vec<String> = tests
            .map(|(file, test)| format!("`{test}` in `{file}`"))
            .collect();
        format!("shown by {}", tests.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Whether each test is there, below its attribute.
    fn are_there(shown: &Shown) -> bool {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        shown.tests.iter().all(|(file, test)| {
            let text = std::fs::read_to_string(root.join(file)).expect("the file is there");
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
            tests: &[("battery/src/shown.rs", "are_there")],
        };
        assert!(!are_there(&shown));
    }
}
