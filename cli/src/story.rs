//! What happened, in words.
//!
//! Owns the lines about events, turns and landings. Must not know where they are shown. Invariant: a line says what
//! happened to which instance and why; nothing routine is told twice.

use toolpool::worktree::Landed;
use toolpool::{Books, Event, EventKind, InstanceState, Next, Reply, Usage};

use crate::console::{Tone, shortened};
use crate::duration;

/// Characters of a reason that are shown: the last words of a tool can be a flood.
const REASON: usize = 200;

/// The line about an event, if it is worth one. Turns are told by their replies.
pub(crate) fn line(event: &Event) -> Option<(Tone, String)> {
    match &event.kind {
        EventKind::InstanceChanged {
            instance,
            generation,
            to,
            reason,
            start,
            next,
            ..
        } => match to {
            // The one sentence about the pause says it for all.
            _ if matches!(next, Next::Resume { .. }) => None,
            // The first start is told by whoever launched.
            InstanceState::Ready => {
                let took = (*start).filter(|_| *generation > 1)?;
                let line = format!("{instance} ready again in {}", duration::show(took));
                Some((Tone::Plain, line))
            }
            InstanceState::Backoff | InstanceState::Tripped | InstanceState::Failed => {
                let tone = match to {
                    InstanceState::Backoff => Tone::Note,
                    _ => Tone::Bad,
                };
                let reason = shortened(reason, REASON);
                Some((tone, format!("{instance}: {reason}; {next}")))
            }
            _ => None,
        },
        EventKind::GroupPaused { message, .. } => Some((Tone::Bad, message.clone())),
        EventKind::GroupResumed { tool, after, .. } => Some((
            Tone::Plain,
            format!("{tool} goes on after {}", duration::show(*after)),
        )),
        EventKind::TurnRetrying { turn, instance } => Some((
            Tone::Plain,
            format!("{instance} · {turn} · the tool tries its model again"),
        )),
        EventKind::PermissionAnswered {
            turn,
            instance,
            act,
            allowed: false,
            by,
            ..
        } => {
            let why = match *by {
                "timeout" => "nobody answered in time, so the answer is no".to_owned(),
                "limit" => "it asked too many questions at once, so the answer is no".to_owned(),
                "policy" => format!("it may not {}; `--approvals` says what it may", verb(act)),
                _ => return None,
            };
            Some((Tone::Note, format!("{instance} · {turn} · {why}")))
        }
        EventKind::AnswerRefused { permission } => Some((
            Tone::Note,
            format!("the answer came too late: {permission} waits for none any more"),
        )),
        EventKind::PromptLeft { turn, reason } => Some((
            Tone::Note,
            format!("{turn} of an earlier run is still queued: {reason}"),
        )),
        EventKind::TurnElsewhere {
            turn,
            instance,
            place,
        } => Some((Tone::Plain, format!("{instance} · {turn} · {place}"))),
        EventKind::JournalFailed { detail } => Some((Tone::Bad, detail.clone())),
        EventKind::TurnRetried {
            turn,
            instance,
            attempt,
            outcome,
            cause,
            ..
        } => Some((
            Tone::Note,
            format!(
                "{instance} · {turn} · attempt {attempt} is {outcome} ({}), so it is tried again",
                cause.unwrap_or("unknown")
            ),
        )),
        EventKind::SessionsResumed { instance, .. } => Some((
            Tone::Plain,
            format!("{instance} goes on with the conversation"),
        )),
        EventKind::ContextLost { turn, instance } => Some((
            Tone::Note,
            format!("{instance} · {turn} · the conversation is lost, and this begins another"),
        )),
        EventKind::ContextReplayed {
            turn,
            instance,
            turns,
            bytes,
        } => {
            let turns = match turns {
                1 => "the last turn".to_owned(),
                turns => format!("the last {turns} turns"),
            };
            let line = format!(
                "{instance} · {turn} · the conversation is lost, and this begins another with a record of {turns} ({bytes} bytes)"
            );
            Some((Tone::Note, line))
        }
        EventKind::TurnHandedBack { turn, instance } => Some((
            Tone::Plain,
            format!("{instance} · {turn} · was not sent yet, so it is queued again"),
        )),
        _ => None,
    }
}

/// What a tool wants to do, by the act's word.
fn verb(act: &str) -> &str {
    match act {
        "read" => "look at files",
        "edit" => "change files",
        "execute" => "run commands",
        _ => "do that",
    }
}

/// `main/2 · t7 · 0.0 s queued · 6.2 s · 412→188 tokens · $0.0041`
pub(crate) fn turn(reply: &Reply) -> String {
    let mut parts = Vec::new();
    if let Some(instance) = &reply.instance {
        parts.push(instance.to_string());
    }
    parts.push(reply.turn.to_string());
    parts.push(format!("{} queued", duration::show(reply.queued)));
    parts.push(duration::show(reply.took));
    if let Some(usage) = &reply.usage {
        parts.extend(tokens(usage));
    }
    parts.join(" · ")
}

fn tokens(usage: &Usage) -> Vec<String> {
    let mut parts = Vec::new();
    if let (Some(input), Some(output)) = (usage.input_tokens, usage.output_tokens) {
        parts.push(format!("{input}→{output} tokens"));
    }
    parts.extend(usage.cost_usd.map(|cost| format!("${cost:.4}")));
    parts
}

/// `5 prompts: 3 completed, 2 in doubt`
pub(crate) fn books(books: &Books) -> String {
    let counts = [
        (books.completed, "completed"),
        (books.failed, "failed"),
        (books.cancelled, "cancelled"),
        (books.expired, "expired"),
        (books.indeterminate, "in doubt"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match counts.as_slice() {
        [] => "no prompt was sent".to_owned(),
        counts => format!("{} prompts: {}", books.accepted, counts.join(", ")),
    }
}

/// What became of the changes of a turn; None if there were none.
pub(crate) fn landed(landed: &Result<Landed, String>, branch: &str) -> Option<(Tone, String)> {
    let names = |files: &[std::path::PathBuf]| {
        let mut names: Vec<String> = files
            .iter()
            .take(3)
            .map(|file| file.display().to_string())
            .collect();
        if files.len() > 3 {
            names.push(format!("{} more", files.len() - 3));
        }
        names.join(", ")
    };
    match landed {
        Ok(Landed::Nothing) => None,
        Ok(Landed::Commit { commit, files }) => Some((
            Tone::Good,
            format!("landed on {branch} as {}: {}", short(commit), names(files)),
        )),
        Ok(Landed::Conflict {
            branch,
            files,
            show,
        }) => Some((
            Tone::Bad,
            format!(
                "not landed: others changed {} meanwhile; the work is kept on {branch}; see it with: {show}",
                names(files)
            ),
        )),
        Ok(Landed::Blocked {
            branch,
            reason,
            show,
        }) => Some((
            Tone::Bad,
            format!("not landed: {reason}; the work is kept on {branch}; see it with: {show}"),
        )),
        Err(reason) => Some((Tone::Bad, format!("not landed: {reason}"))),
    }
}

/// Whether everything that a turn changed is where it should be.
pub(crate) fn is_home(reply: &Reply) -> bool {
    matches!(
        reply.landed,
        None | Some(Ok(Landed::Nothing | Landed::Commit { .. }))
    )
}

/// A commit's id as people write it.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..9).unwrap_or(commit)
}
