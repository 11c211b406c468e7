//! Puts known bugs in, one after the other, to see that the tests and the battery find them.
//!
//! Owns the list of bugs, who is to find each, and the verdict. Must not know the tests. Invariants: a name without a bug
//! behind it changes nothing, so that it survives and is seen; whoever is to find a bug passes without it.
//!
//! All bugs are in one build with `--cfg planted`; the variable `TOOLPOOL_PLANTED` chooses one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::runner::{cargo, run, workspace};

/// Who is to find a bug.
#[derive(Clone, Copy)]
enum By {
    /// This test of a core: made-up processes, bytes and clocks.
    Test(&'static str),
    /// This test of the journal: made-up damage to real files.
    Books(&'static str),
    /// This case of the battery: real processes.
    Case(u16),
    /// Each of the two by itself.
    Both(&'static str, u16),
}

use By::{Books, Both, Case, Test};

impl By {
    /// The package of a test, which of its programs may have it, and its name.
    fn test(self) -> Option<(&'static [&'static str], &'static str)> {
        match self {
            Case(_) => None,
            Test(test) | Both(test, _) => Some((&["toolpool-cluster", "--lib"], test)),
            Books(test) => Some((&["toolpool-journal", "--tests"], test)),
        }
    }

    fn case(self) -> Option<u16> {
        match self {
            Test(_) | Books(_) => None,
            Case(case) | Both(_, case) => Some(case),
        }
    }
}

/// The bugs, each under its name in the sources, what it would do to people, and who is to find it.
const BUGS: &[(&str, &str, By)] = &[
    (
        "sent_again",
        "a prompt that was read by a dead process is sent again",
        Both("a_limit_without_end_is_no_overflow", 4),
    ),
    (
        "kept_after_timeout",
        "a process lives on after its turn timed out",
        Both(
            "a_kill_for_a_cancel_feeds_the_breaker_only_where_the_tool_could_have_been_interrupted",
            31,
        ),
    ),
    (
        "second_process",
        "a restart does not wait for the old process",
        Test("a_limit_without_end_is_no_overflow"),
    ),
    (
        "start_while_open",
        "a start while the breaker is open",
        Both("a_limit_without_end_is_no_overflow", 41),
    ),
    (
        "probe_early",
        "a probe before its time",
        Test("a_failed_probe_opens_it_again_for_longer_and_a_good_one_closes_it"),
    ),
    (
        "backoff_zero",
        "no wait before a restart",
        Test("delays_stay_in_their_envelope"),
    ),
    (
        "restarts_unlimited",
        "one that works a little and dies is restarted for ever",
        Both(
            "one_that_works_a_little_and_dies_again_and_again_is_found_though_its_breaker_never_trips",
            1,
        ),
    ),
    (
        "permanent_restarted",
        "a tool that says that another start cannot help is started again",
        Both("an_end_and_a_policy_say_what_follows", 8),
    ),
    (
        "silence_ignored",
        "a tool that shows no life keeps its turn",
        Both(
            "every_input_in_every_reachable_state_keeps_every_promise",
            10,
        ),
    ),
    (
        "human_counted",
        "a turn is killed as silent because a human thought for long",
        Test("who_waits_for_a_human_is_not_silent_and_has_all_its_time_again_afterwards"),
    ),
    (
        "wait_without_timer",
        "a stop that waits for the process for ever",
        Both(
            "a_kill_for_a_cancel_feeds_the_breaker_only_where_the_tool_could_have_been_interrupted",
            13,
        ),
    ),
    (
        "stale_end",
        "the late end of another turn ends this one",
        Test("a_limit_without_end_is_no_overflow"),
    ),
    (
        "turn_lost",
        "a turn for an instance that is not ready vanishes",
        Both("a_limit_without_end_is_no_overflow", 18),
    ),
    (
        "process_unchecked",
        "a turn for an old process runs on the new one",
        Test("a_limit_without_end_is_no_overflow"),
    ),
    (
        "answer_to_another",
        "a person's answer goes to another question",
        Test("a_limit_without_end_is_no_overflow"),
    ),
    (
        "place_leaked",
        "a prompt that left the queue keeps its place",
        Test("a_random_life_keeps_the_books_the_order_and_every_promise"),
    ),
    (
        "client_unfair",
        "a client that asks much is served as long as it asks",
        Both(
            "a_random_life_keeps_the_books_the_order_and_every_promise",
            56,
        ),
    ),
    (
        "ended_twice",
        "a turn that did not run ends twice",
        Both(
            "a_random_life_keeps_the_books_the_order_and_every_promise",
            58,
        ),
    ),
    (
        "withdrawn_sent",
        "a turn is sent elsewhere after its cancel",
        Test("a_turn_that_was_withdrawn_and_then_handed_back_is_not_run_elsewhere"),
    ),
    (
        "deadline_forgotten",
        "a turn that was handed back never expires",
        Test("a_random_life_keeps_the_books_the_order_and_every_promise"),
    ),
    (
        "loss_untold",
        "a session goes on in a process that does not know it",
        Test("a_random_life_keeps_the_books_the_order_and_every_promise"),
    ),
    (
        "all_at_once",
        "more starts at once than the machine can take",
        Both(
            "never_more_than_the_limit_and_every_asker_gets_its_turn",
            46,
        ),
    ),
    (
        "place_kept",
        "a start that is over keeps its place",
        Both("never_more_than_the_limit_and_every_asker_gets_its_turn", 6),
    ),
    (
        "each_for_itself",
        "instances that fail alike are restarted each for itself",
        Test("a_pause_takes_two_instances_that_fail_alike_with_no_success_between_them"),
    ),
    (
        "probes_together",
        "a pause lets every start out as a probe",
        Test("one_probes_at_a_time_later_and_later_until_one_is_ready"),
    ),
    (
        "limit_ignored",
        "a tool that named a time is asked before it",
        Test("a_random_life_keeps_the_books_the_order_and_every_promise"),
    ),
    (
        "spare_idle",
        "a spare stays idle while another is missing",
        Test("as_many_as_wanted_are_on_duty_and_none_is_missing_while_a_spare_is_ready"),
    ),
    (
        "half_open_unlimited",
        "a half-open breaker lets out a second prompt behind its probe",
        Case(41),
    ),
    (
        "permit_leaked",
        "a probe whose caller goes away takes the only permit with it",
        Case(43),
    ),
    (
        "session_spills",
        "a session whose instance is busy is served by another one, and nobody is told",
        Case(55),
    ),
    (
        "session_label",
        "each session has a series of metrics of its own",
        Case(82),
    ),
    (
        "mark_anywhere",
        "an end mark counts anywhere, whosever it is",
        Case(28),
    ),
    (
        "lines_raw",
        "a prompt of several lines is typed as several prompts",
        Case(30),
    ),
    (
        "keys_typed",
        "escape sequences of a prompt are typed into a terminal",
        Case(37),
    ),
    (
        "line_unbounded",
        "a line without an end is kept as long as it grows",
        Case(23),
    ),
    ("stderr_undrained", "nobody reads standard error", Case(24)),
    (
        "eof_is_exit",
        "an output that is closed counts as the end of its process",
        Case(16),
    ),
    (
        "cont_forgotten",
        "a stopped process is asked to end and not woken for it",
        Case(12),
    ),
    (
        "pid_only",
        "a tool is killed, and what it has started is not",
        Case(14),
    ),
    (
        "spawned_by_passer_by",
        "a thread that ends starts the processes, which the kernel then ends with it",
        Case(54),
    ),
    (
        "files_passed_on",
        "a tool inherits what somebody has left open",
        Case(77),
    ),
    (
        "accepted_before_durable",
        "a caller is told that its prompt is accepted before the journal has it",
        Both("every_seed_keeps_every_promise", 64),
    ),
    (
        "dispatched_before_durable",
        "a prompt is given to a tool before the journal has that",
        Both("every_seed_keeps_every_promise", 64),
    ),
    (
        "ended_before_durable",
        "a caller is told an end before the journal has it",
        Both("every_seed_keeps_every_promise", 64),
    ),
    (
        "answered_before_durable",
        "a tool is allowed something before the journal has who allowed it",
        Test("a_policys_answer_reaches_the_tool_when_the_journal_has_it"),
    ),
    (
        "sync_skipped",
        "a commit of the journal counts as durable before the disk has it",
        Case(68),
    ),
    (
        "wall_clock",
        "limits and waits are told by the wall clock",
        Case(69),
    ),
    (
        "retried_once",
        "what may have been read is sent again though nobody allowed it",
        Test("a_policy_says_after_which_ends_a_prompt_is_tried_again"),
    ),
    (
        "retried_after_output",
        "a prompt is tried again after a tool has begun with it",
        Test("until_output_ends_when_anything_may_have_been_done_and_after_three_attempts"),
    ),
    (
        "retries_unlimited",
        "a trouble of many is made worse by trying all of it again",
        Test("one_of_five_may_be_a_retry_and_three_in_any_case"),
    ),
    (
        "seal_unchecked",
        "what was changed in a journal's file is told as if it were the truth",
        Books("what_was_changed_in_a_row_or_a_text_is_told_by_nobody"),
    ),
    (
        "damage_accepted",
        "a journal that is damaged is opened and written to",
        Books("a_damaged_page_is_refused_on_opening_with_a_way_out_and_nothing_is_written"),
    ),
    (
        "log_cut_short",
        "what comes behind damage in a journal's log is dropped, and nobody is told",
        Books("a_log_that_is_damaged_before_its_end_is_refused_and_nothing_is_written"),
    ),
];

/// What `cargo xtask planted` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these bugs.
    bugs: Vec<String>,
}

/// Runs what is to find each bug with the bug in it, and prints a table of what did.
///
/// # Errors
/// If something fails without a bug, or a bug is not found.
pub(crate) fn find_all(options: &Options) -> Result<()> {
    let is_wanted = |bug: &str| options.bugs.is_empty() || options.bugs.iter().any(|it| it == bug);
    if let Some(unknown) = options
        .bugs
        .iter()
        .find(|name| BUGS.iter().all(|(bug, ..)| bug != name))
    {
        bail!("no bug is named {unknown}");
    }
    let wanted: Vec<_> = BUGS.iter().filter(|(bug, ..)| is_wanted(bug)).collect();
    let begun = Instant::now();
    let planted = Planted::build()?;
    for test in wanted.iter().filter_map(|(.., by)| by.test()) {
        if planted.is_failed_by(test, None)? {
            bail!("without any bug {} fails", test.1);
        }
    }
    let cases = wanted.iter().filter_map(|(.., by)| by.case());
    planted.all_pass(cases)?;
    println!(
        "without a bug everything passes ({:.0} s)",
        begun.elapsed().as_secs_f64()
    );
    let mut survivors = Vec::new();
    for (bug, harm, by) in &wanted {
        println!("{bug}: {harm}");
        let mut tell = |who: String, found: Option<String>| match found {
            Some(found) => println!("  found by {who}: {found}"),
            None => {
                println!("  SURVIVED {who}");
                survivors.push(*bug);
            }
        };
        if let Some(test) = by.test() {
            let is_found = planted.is_failed_by(test, Some(bug))?;
            tell(test.1.to_owned(), is_found.then(|| "it fails".to_owned()));
        }
        if let Some(case) = by.case() {
            tell(format!("case {case}"), planted.case(case, bug)?);
        }
    }
    if !survivors.is_empty() {
        bail!("these were not found: {}", survivors.join(", "));
    }
    println!(
        "all of {} planted bugs were found in {:.0} s",
        wanted.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The build that all bugs are in.
struct Planted {
    battery: PathBuf,
}

impl Planted {
    fn build() -> Result<Self> {
        run(&mut with_bugs(&["build", "--package", "toolpool-battery"]))?;
        let targets = std::env::var_os("CARGO_TARGET_DIR");
        let targets = targets.map_or_else(|| workspace().join("target"), PathBuf::from);
        let battery = targets.join(FOLDER).join("debug/battery");
        Ok(Self { battery })
    }

    /// Whether a test fails.
    fn is_failed_by(&self, test: (&[&str], &str), bug: Option<&str>) -> Result<bool> {
        let (package, test) = test;
        let mut command = with_bugs(&["test", "-p"]);
        command
            .args(package)
            .args(["--", test])
            // What a bug makes fail is no lesson for later runs.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0");
        let (good, text, complaints) = run_with(&mut command, bug)?;
        let ended = |word: &str| {
            let is_its = |line: &str| line.contains(test) && line.ends_with(word);
            text.lines().any(is_its)
        };
        match (good, ended("... ok"), ended("... FAILED")) {
            (true, true, false) => Ok(false),
            (false, _, true) => Ok(true),
            _ => bail!("{test} neither passed nor failed:\n{text}{complaints}"),
        }
    }

    /// What a case saw, short enough for a line; None if it passes.
    fn case(&self, case: u16, bug: &str) -> Result<Option<String>> {
        let mut command = Command::new(&self.battery);
        command.args(["--case", &case.to_string()]);
        let (_, text, complaints) = run_with(&mut command, Some(bug))?;
        match verdict(&text, case) {
            Some(("pass", _)) => Ok(None),
            Some(("FAIL", saw)) => Ok(Some(saw.chars().take(LONGEST).collect())),
            _ => bail!("case {case} was not run: {text}{complaints}"),
        }
    }

    /// Demands that the cases pass without a bug.
    fn all_pass(&self, cases: impl Iterator<Item = u16>) -> Result<()> {
        let mut cases: Vec<u16> = cases.collect();
        cases.sort_unstable();
        cases.dedup();
        if cases.is_empty() {
            return Ok(());
        }
        let mut command = Command::new(&self.battery);
        for case in &cases {
            command.args(["--case", &case.to_string()]);
        }
        let (_, text, complaints) = run_with(&mut command, None)?;
        for case in cases {
            if !matches!(verdict(&text, case), Some(("pass", _))) {
                bail!("without any bug case {case} fails:\n{text}{complaints}");
            }
        }
        Ok(())
    }
}

/// Below the folder of all builds.
const FOLDER: &str = "planted";

/// How much of what a case saw is shown.
const LONGEST: usize = 160;

/// Cargo, for the build with bugs.
fn with_bugs(arguments: &[&str]) -> Command {
    let (task, rest) = arguments.split_at(1);
    // Not `--quiet`, by which the tests' names would be lost.
    let targets = std::env::var_os("CARGO_TARGET_DIR");
    let targets = targets.map_or_else(|| workspace().join("target"), PathBuf::from);
    let mut command = cargo(task);
    command
        .arg("--target-dir")
        .arg(targets.join(FOLDER))
        .args(rest)
        .env("RUSTFLAGS", "--cfg planted");
    command
}

/// Runs a command with a bug, and gives whether it ended well and what it printed on its two streams.
fn run_with(command: &mut Command, bug: Option<&str>) -> Result<(bool, String, String)> {
    command.env_remove("TOOLPOOL_PLANTED");
    if let Some(bug) = bug {
        command.env("TOOLPOOL_PLANTED", bug);
    }
    let output = command.stdin(Stdio::null()).current_dir(workspace());
    let output = output.output().context("cannot start what is to find it")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

/// The word of a case's line, and what the case saw.
fn verdict(text: &str, case: u16) -> Option<(&str, &str)> {
    text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(&case.to_string())?;
        let (word, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
        let saw = rest.splitn(3, "; ").nth(2).unwrap_or(rest);
        Some((word, saw))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_case_gives_its_word_and_what_was_seen() {
        let text = "  4 pass a crash; injected: exit 3; counted: 1 (0.1 s)\n 41 FAIL half; injected: 64; 2 prompts; 1 more (1 s)\n2 cases";
        assert_eq!(verdict(text, 4), Some(("pass", "counted: 1 (0.1 s)")));
        assert_eq!(verdict(text, 41), Some(("FAIL", "2 prompts; 1 more (1 s)")));
        assert_eq!(verdict(text, 1), None);
    }

    #[test]
    fn the_document_tells_of_each_bug_and_who_is_to_find_it() {
        let document = std::fs::read_to_string(workspace().join("docs/reliability.md"));
        let document = document.expect("it is there");
        for (bug, harm, by) in BUGS {
            let who = match by {
                Test(test) | Books(test) => format!("`{test}`"),
                Case(case) => format!("case {case}"),
                Both(test, case) => format!("`{test}`, case {case}"),
            };
            let row = format!("| `{bug}` | {harm} | {who} |");
            assert!(document.contains(&row), "this row is missing:\n{row}");
        }
    }
}
