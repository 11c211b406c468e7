//! Each case in a process of its own, several at once.
//!
//! Owns those processes, their time limit and the lines that are printed. Must not know what a case does. Invariant: when
//! a case's process has ended, nothing that it has started lives; a case after which something does has failed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use toolpool_testkit::census::{Census, MARKER};

use crate::case::{Case, Verdict};
use crate::lab;

/// Cases that run at the same time: most of them wait for something most of the time.
const AT_ONCE: u32 = 4;

/// After this long a case of tier 1 has failed. Those of tier 2 have [`LIMIT_LONG`].
const LIMIT: Duration = Duration::from_secs(if cfg!(planted) { 60 } else { 120 });
const LIMIT_LONG: Duration = Duration::from_secs(20 * 60);

/// How long the processes of a case that was killed may take to end: their keepers end them.
const AFTERMATH: Duration = Duration::from_secs(2);

/// The cases that may be skipped where the machine has not what they need.
const MAY_BE_SKIPPED: &[u16] = &[67, 68, 69, 78];

/// What came of a case, and how long it took.
pub(crate) struct Outcome {
    pub(crate) case: &'static Case,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// Runs the cases, those that measure one by one at the end, and prints a line for each.
pub(crate) async fn run(cases: &[&'static Case]) -> Result<Vec<Outcome>> {
    let free = Arc::new(Semaphore::new(AT_ONCE as usize));
    let mut running = JoinSet::new();
    let (alone, together): (Vec<&Case>, Vec<&Case>) =
        cases.iter().copied().partition(|case| case.alone);
    for case in together.into_iter().chain(alone) {
        let needed = if case.alone { AT_ONCE } else { 1 };
        // The semaphore is never closed. It is taken here, so that they begin in this order.
        let place = Arc::clone(&free).acquire_many_owned(needed).await.ok();
        running.spawn(async move {
            let begun = Instant::now();
            let verdict = match judge(case).await {
                Ok(verdict) => verdict,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            };
            drop(place);
            let outcome = Outcome {
                case,
                verdict,
                took: begun.elapsed(),
            };
            println!("{}", outcome.line());
            outcome
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.join_next().await {
        outcomes.push(outcome.context("a case panicked")?);
    }
    outcomes.sort_by_key(|outcome| outcome.case.number);
    Ok(outcomes)
}

/// One case in a process of its own.
async fn judge(case: &Case) -> Result<Verdict> {
    let census = Census::new();
    let mut child = Command::new(lab::program()?)
        .args([
            "--alone",
            &case.number.to_string(),
            "--marker",
            census.marker(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the case's process")?;
    let limit = if case.tier == 1 { LIMIT } else { LIMIT_LONG };
    let output = read_all(&mut child);
    let verdict = match tokio::time::timeout(limit, output).await {
        Ok(output) => verdict_of(&output?),
        Err(_) => Verdict::Failed(format!("it did not end within {} s", limit.as_secs())),
    };
    child.kill().await.ok();
    let left = aftermath(&census).await;
    if left.is_empty() {
        return Ok(verdict);
    }
    for pid in &left {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        // One that has gone meanwhile is no error.
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    }
    let also = match verdict {
        Verdict::Failed(why) => format!("{why}; "),
        Verdict::Passed(_) | Verdict::Skipped(_) => String::new(),
    };
    Ok(Verdict::Failed(format!(
        "{also}processes outlive the case ({MARKER}={}): {left:?}",
        census.marker()
    )))
}

/// The standard output and error of a process, to their ends.
async fn read_all(child: &mut tokio::process::Child) -> Result<(String, String)> {
    use tokio::io::AsyncReadExt as _;
    let (mut said, mut complained) = (String::new(), String::new());
    let stdout = child.stdout.take().context("stdout was piped")?;
    let stderr = child.stderr.take().context("stderr was piped")?;
    let (mut stdout, mut stderr) = (stdout, stderr);
    tokio::try_join!(
        stdout.read_to_string(&mut said),
        stderr.read_to_string(&mut complained)
    )
    .context("cannot read what the case's process says")?;
    Ok((said, complained))
}

fn verdict_of((said, complained): &(String, String)) -> Verdict {
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| {
        Verdict::Failed(format!(
            "its process ended without a verdict: {said}{complained}"
        ))
    })
}

/// What still lives of a case when its keepers have had their time.
async fn aftermath(census: &Census) -> Vec<u32> {
    let deadline = Instant::now() + AFTERMATH;
    loop {
        let left = census.alive();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Outcome {
    fn line(&self) -> String {
        let case = self.case;
        let (word, what) = match &self.verdict {
            Verdict::Passed(counted) => ("pass", format!("counted: {}", counted.counts)),
            Verdict::Skipped(reason) => ("skip", reason.clone()),
            Verdict::Failed(evidence) => ("FAIL", evidence.replace('\n', " ")),
        };
        let mut line = format!(
            "{:>3} {word} {}; injected: {}; {what} ({:.1} s)",
            case.number,
            case.name,
            case.injects,
            self.took.as_secs_f64()
        );
        if let Verdict::Passed(counted) = &self.verdict {
            for (name, value) in &counted.figures {
                line.push_str(&format!("\n         {name}: {value}"));
            }
        }
        line
    }
}

/// Prints the totals.
///
/// # Errors
/// If a case failed, or one was skipped that must not be.
pub(crate) fn summarize(outcomes: &[Outcome]) -> Result<()> {
    let numbers = |wanted: fn(&Verdict) -> bool| -> Vec<u16> {
        let chosen = outcomes.iter().filter(|outcome| wanted(&outcome.verdict));
        chosen.map(|outcome| outcome.case.number).collect()
    };
    let passed = numbers(|verdict| matches!(verdict, Verdict::Passed(_)));
    let failed = numbers(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = numbers(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    println!(
        "{} cases: {} passed, {} failed, {} skipped; {:.0} s of work",
        outcomes.len(),
        passed.len(),
        failed.len(),
        skipped.len(),
        total.as_secs_f64()
    );
    for outcome in outcomes {
        if let Verdict::Skipped(reason) = &outcome.verdict {
            println!(
                "skipped: case {} ({}): {reason}",
                outcome.case.number, outcome.case.name
            );
        }
    }
    if !failed.is_empty() {
        bail!("these cases failed: {failed:?}; what was seen is above");
    }
    if let Some(number) = skipped
        .iter()
        .find(|number| !MAY_BE_SKIPPED.contains(number))
    {
        bail!("case {number} was skipped, and it must run everywhere");
    }
    Ok(())
}
