//! Cases in which something is refused or goes wrong.
//!
//! Owns the permissions and the model's faults. Must not know which tool it is. Invariant: after each of them the tool
//! takes the next prompt.

use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, getsid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use toolpool::{Answer, DoubtCause, EventKind, FailureClass, Outcome, Submission};

use crate::bench::Bench;
use crate::case::Verdict;
use crate::cases::{Examined, ended, kill, next_event, nothing_is_left};
use crate::speech::{Fault, head};

/// A tool that has asked its model so often in one turn is taken to try again by itself.
const TRIES: usize = 4;

/// What some tools do with an answer that broke off.
const KEEPS_THE_HALF: &str = "keeps the half that came, and may put another try behind it: the reply is `completed`, and is not the answer";

/// How long a question waits that nobody answers.
const NOBODY: Duration = Duration::from_secs(2);

/// How long one waits at most that is answered, as soon as it is heard.
const ANSWERED: Duration = Duration::from_secs(300);

/// How long a model that hangs is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Orders a command that leaves the file, answers each question about it so, or not at all, and sees that this is obeyed.
pub(crate) async fn permission(bench: &mut Bench, file: &str, answer: Option<Answer>) -> Examined {
    let prompt = match bench.speech.shell(&format!("sh -c 'echo > {file}'")) {
        Ok(prompt) => prompt,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    let patience = answer.map_or(NOBODY, |_| ANSWERED);
    let Some(cluster) = bench.asking(patience).await? else {
        return Ok(Verdict::not_applicable("never asks"));
    };
    let mut events = cluster.subscribe();
    let turn = cluster.stream(Submission::text(prompt).fresh()).await;
    let turn = turn.map_err(|error| error.to_string())?;
    let wanted = match answer {
        Some(answer) => (answer == Answer::Allow, "person"),
        None => (false, "timeout"),
    };
    let mut answered = Vec::new();
    loop {
        match next_event(&mut events).await? {
            EventKind::PermissionAsked { permission, .. } => {
                if let Some(answer) = answer {
                    let heard = cluster.answer(permission, answer).await;
                    heard.map_err(|error| error.to_string())?;
                }
            }
            EventKind::PermissionAnswered { allowed, by, .. } => answered.push((allowed, by)),
            EventKind::TurnEnded { turn: ended, .. } if ended == turn.turn() => break,
            _ => {}
        }
    }
    // Some tools tell the model of a denial and go on, others end the turn.
    let outcome = ended(turn).await?.outcome;
    let ran = bench.folder.join(file).exists();
    let said = bench.speech.say(&format!("after it was {file}"));
    let reply = cluster.ask(said.prompt).await;
    let reply = reply.map_err(|error| format!("the next turn: {error}"))?;
    said.expected.judge(&reply.text)?;
    let obeyed = !answered.is_empty() && answered.iter().all(|answer| *answer == wanted);
    if obeyed && ran == wanted.0 {
        return Ok(Verdict::Pass);
    }
    Err(format!(
        "answered {answered:?}, the command {}, the turn ended as {outcome:?}",
        if ran { "ran" } else { "did not run" }
    ))
}

/// A model's server that answers with an error, or not to the end.
pub(crate) async fn model(bench: &mut Bench, fault: Fault) -> Examined {
    let class = match fault {
        Fault::RateLimited => FailureClass::RateLimit,
        Fault::ServerError => FailureClass::Overloaded,
        Fault::WrongKey => FailureClass::Auth,
        Fault::Dropped | Fault::Hangs => FailureClass::Network,
    };
    let text = format!("fault {}", bench.number());
    let spoken = match bench.speech.fault(fault, &text) {
        Ok(spoken) => spoken,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    let before = bench.generation().await?;
    let cluster = bench.warm().await?;
    let turn = cluster
        .stream(Submission::text(spoken.prompt).fresh())
        .await;
    let mut turn = turn.map_err(|error| error.to_string())?;
    let tries = tokio::select! {
        () = async { while turn.chunk().await.is_some() {} } => false,
        // What becomes of a half answer is known at the end only, however often the tool tries.
        () = bench.speech.asked(&text, TRIES), if fault != Fault::Dropped => true,
    };
    if tries {
        turn.cancel().await;
    }
    let reply = ended(turn).await?;
    let after = bench.next_turn().await?;
    match reply.outcome {
        Outcome::Failed(failure) if failure.class == class && after == before => Ok(Verdict::Pass),
        Outcome::Cancelled if tries && after == before => Ok(Verdict::PassBy(format!(
            "asks the model again by itself, {TRIES} times and on; a cancel ends that"
        ))),
        // What makes something of a prompt elsewhere may have done so before it failed.
        Outcome::Indeterminate(doubt)
            if doubt.cause == DoubtCause::AnswerLost && after == before =>
        {
            Ok(Verdict::PassBy(
                "the turn ends in doubt: what was asked for may have begun, and is not asked for again".to_owned(),
            ))
        }
        // It is completed for all that anybody can tell: the text is no part of how a turn ends.
        Outcome::Completed if fault == Fault::Dropped => {
            Ok(match spoken.expected.judge(&reply.text) {
                Ok(()) => Verdict::PassBy("asks the model again by itself".to_owned()),
                Err(_) => Verdict::not_applicable(KEEPS_THE_HALF),
            })
        }
        other => Err(format!(
            "the turn ended as {other:?} on process {before} with {:?}, the next one on {after}",
            head(&reply.text)
        )),
    }
}

pub(crate) async fn hangs(bench: &mut Bench) -> Examined {
    let text = format!("fault {}", bench.number());
    let spoken = match bench.speech.fault(Fault::Hangs, &text) {
        Ok(spoken) => spoken,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    let before = bench.generation().await?;
    let cluster = bench.warm().await?;
    let submission = Submission::text(spoken.prompt)
        .fresh()
        .turn_timeout(PATIENCE);
    let turn = cluster.stream(submission).await;
    let outcome = ended(turn.map_err(|error| error.to_string())?)
        .await?
        .outcome;
    let after = bench.next_turn().await?;
    match outcome {
        Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::TimedOut && after > before => {
            Ok(Verdict::Pass)
        }
        other => Err(format!(
            "the turn ended as {other:?} on process {before}, the next one on {after}"
        )),
    }
}

/// Kills the tool while a command of its own runs, which must not survive it.
pub(crate) async fn killed_in_command(bench: &mut Bench) -> Examined {
    let path = bench.folder.join("begun.fifo");
    let prompt = match bench.speech.shell("echo > begun.fifo; tail -f /dev/null") {
        Ok(prompt) => prompt,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).map_err(|error| wrong(error.into()))?;
    // Open for both, it does not end when a writer goes.
    let mut begun = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&path)
        .map_err(wrong)?;
    let cluster = bench.warm().await?;
    let turn = cluster.stream(Submission::text(prompt).fresh()).await;
    let mut turn = turn.map_err(|error| error.to_string())?;
    let mut byte = [0];
    let began = tokio::select! {
        () = async { while turn.chunk().await.is_some() {} } => false,
        read = begun.read_exact(&mut byte) => read.map_err(wrong).map(|_| true)?,
    };
    if !began {
        ended(turn).await?;
        return Ok(Verdict::not_applicable("runs no commands"));
    }
    let tool = kill(&cluster).await?;
    let outcome = ended(turn).await?.outcome;
    if !matches!(&outcome, Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::Crashed) {
        return Err(format!("the turn ended as {outcome:?}"));
    }
    bench.quit().await;
    let left = bench.census();
    if !left.is_empty() && left.iter().all(|pid| session(*pid) != Some(tool)) {
        bench.clear_away();
        return Ok(Verdict::not_applicable(
            "runs commands in sessions of their own, which outlive it when it is killed",
        ));
    }
    nothing_is_left(bench)?;
    Ok(Verdict::Pass)
}

/// The session of a process.
fn session(pid: u32) -> Option<Pid> {
    getsid(Pid::from_raw(pid.cast_signed())).ok()
}
