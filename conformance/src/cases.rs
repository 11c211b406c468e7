//! What is done in each case.
//!
//! Owns the steps and what must come of them. Must not know which tool it is, nor how it is told what to say. Invariant:
//! nothing here waits for time to pass: it waits for what happens, and the bench's limit ends what never does.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use toolpool::{
    Answer, AskError, ClusterManager, DoubtCause, EventKind, Events, Heard, Outcome, Reply,
    ReplyStream, Submission,
};

use crate::bench::Bench;
use crate::case::{Case, Verdict};
use crate::faults;
use crate::speech::{Endless, Expected, Fault, head};
use crate::stdin::Closable;

/// What came of a case; an error is what was seen to be wrong.
pub(crate) type Examined = Result<Verdict, String>;

/// A million bytes.
const LONG: usize = 1_000_000;

/// What a terminal does with a prompt of many rows.
const TALL: &str =
    "the prompt comes whole; being taller than the screen, a part of it may stand before the reply";

/// Longest time that a process may live on without its standard input before that is taken for its way.
const WITHOUT_INPUT: Duration = Duration::from_secs(20);

pub(crate) async fn run(case: Case, bench: &mut Bench) -> Examined {
    match case {
        Case::ColdStart => cold_start(bench).await,
        Case::OneLine => says(bench, "one line").await,
        Case::ManyLines => says(bench, "first line\n\n  an indented one\n\n\nthe last").await,
        Case::LargePrompt => {
            let spoken = bench.speech.large(1 << 20);
            let verdict = match spoken.expected {
                Expected::Ends(_) => Verdict::PassBy(TALL.to_owned()),
                _ => Verdict::Pass,
            };
            bench.say(spoken).await.map(|()| verdict)
        }
        Case::Unicode => {
            says(
                bench,
                "\u{e9} \u{1f600} \u{4f60}\u{597d} \u{5e9}\u{5dc}\u{5d5}\u{5dd} e\u{301}",
            )
            .await
        }
        Case::ForgedEnd => match bench.speech.forged() {
            Ok(spoken) => bench.say(spoken).await.map(|()| Verdict::Pass),
            Err(reason) => Ok(Verdict::NotApplicable(reason)),
        },
        Case::NeverACommand => never_a_command(bench).await,
        Case::TwentyTurns => twenty_turns(bench).await,
        Case::Reset => reset(bench).await,
        Case::Stream => stream(bench).await,
        Case::LongAnswer => {
            let spoken = bench.speech.long(LONG);
            bench.say(spoken).await.map(|()| Verdict::Pass)
        }
        Case::Edit => edit(bench).await,
        Case::Allowed => faults::permission(bench, "allowed", Some(Answer::Allow)).await,
        Case::Denied => faults::permission(bench, "denied", Some(Answer::Deny)).await,
        Case::Nobody => faults::permission(bench, "unanswered", None).await,
        Case::RateLimited => faults::model(bench, Fault::RateLimited).await,
        Case::ServerError => faults::model(bench, Fault::ServerError).await,
        Case::WrongKey => faults::model(bench, Fault::WrongKey).await,
        Case::Dropped => faults::model(bench, Fault::Dropped).await,
        Case::Interrupt => interrupt(bench).await,
        Case::Hangs => faults::hangs(bench).await,
        Case::Killed => killed(bench).await,
        Case::StdinClosed => stdin_closed(bench).await,
        Case::TwoInOneFolder => two_in_one_folder(bench).await,
        Case::KilledInCommand => faults::killed_in_command(bench).await,
        Case::CleanQuit => clean_quit(bench).await,
    }
}

async fn cold_start(bench: &mut Bench) -> Examined {
    bench.quit().await;
    bench.warm().await?;
    Ok(Verdict::Pass)
}

async fn says(bench: &mut Bench, text: &str) -> Examined {
    let spoken = bench.speech.say(text);
    bench.say(spoken).await?;
    Ok(Verdict::Pass)
}

async fn never_a_command(bench: &mut Bench) -> Examined {
    let texts = match bench.speech.commands() {
        Ok(texts) => texts,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    for spoken in texts {
        let text = head(&spoken.prompt);
        let said = bench.say(spoken).await;
        said.map_err(|wrong| format!("{text:?}: {wrong}"))?;
        if bench.folder.join("canary").exists() {
            return Err(format!("{text:?} was run as a command"));
        }
    }
    Ok(Verdict::Pass)
}

async fn twenty_turns(bench: &mut Bench) -> Examined {
    let cluster = bench.warm().await?;
    if !keeps_conversations(&cluster) {
        return match cluster.session("refused").ask("one").await {
            Err(error) if error.code() == "invalid" => Ok(Verdict::not_applicable(
                "each prompt begins an empty conversation; a session is refused",
            )),
            other => Err(format!("a session was not refused: {other:?}")),
        };
    }
    let mut events = cluster.subscribe();
    let session = cluster.session("twenty turns");
    let first = bench.number();
    let mut running = Vec::new();
    for turn in 1..=20 {
        let spoken = match turn {
            1 => bench.speech.remember(first),
            20 => bench.speech.recall(first, true),
            _ => {
                let number = bench.number();
                bench.speech.remember(number)
            }
        };
        let stream = session.stream(spoken.prompt).await;
        let stream = stream.map_err(|error| format!("turn {turn}: {error}"))?;
        running.push((turn, stream, spoken.expected));
    }
    let submitted: Vec<_> = running.iter().map(|(_, stream, _)| stream.turn()).collect();
    let mut generations = Vec::new();
    for (turn, stream, expected) in running {
        let reply = stream.reply().await;
        let reply = reply.map_err(|error| format!("turn {turn}: {error}"))?;
        let judged = expected.judge(&reply.text);
        judged.map_err(|wrong| format!("turn {turn}: {wrong}"))?;
        generations.push(reply.generation);
    }
    session.close().await;
    let mut ended = Vec::new();
    while ended.len() < submitted.len() {
        if let EventKind::TurnEnded { turn, .. } = next_event(&mut events).await?
            && submitted.contains(&turn)
        {
            ended.push(turn);
        }
    }
    generations.dedup();
    match (ended == submitted, generations.as_slice()) {
        (true, [_]) => Ok(Verdict::Pass),
        (false, _) => Err(format!("sent as {submitted:?}, ended as {ended:?}")),
        (_, many) => Err(format!("answered by the processes {many:?}")),
    }
}

async fn reset(bench: &mut Bench) -> Examined {
    let number = bench.number();
    let cluster = bench.warm().await?;
    let remember = bench.speech.remember(number);
    let reply = cluster.ask(remember.prompt).await;
    remember
        .expected
        .judge(&reply.map_err(|error| error.to_string())?.text)?;
    let kept = keeps_conversations(&cluster);
    let recall = bench.speech.recall(number, kept);
    let reply = cluster.ask(recall.prompt).await;
    let reply = reply.map_err(|error| error.to_string())?;
    let known = recall.expected.judge(&reply.text);
    known.map_err(|wrong| format!("before the reset: {wrong}"))?;
    if !kept {
        return Ok(Verdict::not_applicable(
            "each prompt begins an empty conversation",
        ));
    }
    let afresh = bench.speech.recall(number, false);
    match bench.say(afresh.clone()).await {
        Ok(()) => Ok(Verdict::Pass),
        Err(_) if is_program(&cluster) => {
            let restarted = cluster.restart_instance(0).await;
            restarted.map_err(|error| error.to_string())?;
            bench.say(afresh).await?;
            Ok(Verdict::not_applicable(
                "its profile has no reset: what was kept is there in a fresh turn, and gone after `restart_instance`",
            ))
        }
        Err(wrong) => Err(wrong),
    }
}

/// Whether it speaks a language of its own, which need not have a word for a fresh beginning.
fn is_program(cluster: &ClusterManager) -> bool {
    let profiles = cluster.profiles();
    profiles
        .iter()
        .all(|profile| ["lines", "screen"].contains(&profile.protocol_name()))
}

/// Whether a prompt may know of the one before.
fn keeps_conversations(cluster: &ClusterManager) -> bool {
    let profiles = cluster.profiles();
    profiles.iter().all(|profile| profile.keeps_conversations())
}

async fn stream(bench: &mut Bench) -> Examined {
    let cluster = bench.warm().await?;
    let number = bench.number();
    let endless = bench.speech.endless(number);
    if endless.begins.is_none() {
        return Ok(Verdict::not_applicable("writes each answer at its end"));
    }
    let turn = begin(&cluster, &endless).await?;
    let (turn, came) = until_it_began(bench, turn, &endless).await;
    if !came {
        let outcome = ended(turn).await?.outcome;
        return Err(format!(
            "the turn ended as {outcome:?} before anything came"
        ));
    }
    turn.cancel().await;
    ended(turn).await?;
    bench.next_turn().await?;
    Ok(Verdict::Pass)
}

async fn edit(bench: &mut Bench) -> Examined {
    let prompt = match bench.speech.edit("edited.txt", "edited by the tool") {
        Ok(prompt) => prompt,
        Err(reason) => return Ok(Verdict::NotApplicable(reason)),
    };
    let order = bench.order(prompt);
    bench.say(order).await?;
    has_line(bench, "edited.txt", "edited by the tool")?;
    Ok(Verdict::Pass)
}

/// Sees that a file in the working folder has a line; what else is in it is the tool's way to edit.
fn has_line(bench: &Bench, file: &str, line: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(bench.folder.join(file))
        .map_err(|error| format!("{file}: {error}"))?;
    if text.lines().any(|other| other == line) {
        Ok(())
    } else {
        Err(format!("{file} holds {:?}", head(&text)))
    }
}

/// A turn that has begun and goes on until somebody ends it.
async fn endless_turn(bench: &mut Bench, cluster: &ClusterManager) -> Result<ReplyStream, String> {
    let number = bench.number();
    let endless = bench.speech.endless(number);
    let turn = begin(cluster, &endless).await?;
    let (turn, began) = until_it_began(bench, turn, &endless).await;
    if began {
        return Ok(turn);
    }
    let outcome = ended(turn).await?.outcome;
    Err(format!("it was to go on and ended as {outcome:?}"))
}

async fn interrupt(bench: &mut Bench) -> Examined {
    let before = bench.generation().await?;
    let cluster = bench.warm().await?;
    let turn = endless_turn(bench, &cluster).await?;
    turn.cancel().await;
    let outcome = ended(turn).await?.outcome;
    let after = bench.next_turn().await?;
    match outcome {
        Outcome::Cancelled if after == before => Ok(Verdict::Pass),
        Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::CancelUnconfirmed => {
            Ok(Verdict::not_applicable(if after == before {
                "cannot be interrupted: the turn ends in doubt and goes on elsewhere; the next turn is good"
            } else {
                "cannot be interrupted: the turn ends in doubt and its process is replaced; the next turn is good"
            }))
        }
        other => Err(format!(
            "the turn ended as {other:?} on process {before}, the next one on {after}"
        )),
    }
}

async fn killed(bench: &mut Bench) -> Examined {
    let before = bench.generation().await?;
    let cluster = bench.warm().await?;
    let turn = endless_turn(bench, &cluster).await?;
    kill(&cluster).await?;
    match ended(turn).await?.outcome {
        Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::Crashed => {}
        other => return Err(format!("the turn ended as {other:?}")),
    }
    let after = bench.next_turn().await?;
    if after > before {
        Ok(Verdict::Pass)
    } else {
        Err(format!("process {before} was killed and {after} answered"))
    }
}

async fn stdin_closed(bench: &mut Bench) -> Examined {
    let closable = Closable::default();
    let builder = bench
        .builder()
        .launcher(std::sync::Arc::new(closable.clone()));
    let cluster = builder.await.map_err(|error| error.to_string())?;
    let mut events = cluster.subscribe();
    closable.close();
    let exited = async {
        loop {
            if let EventKind::InstanceExited { .. } = next_event(&mut events).await? {
                return Ok::<(), String>(());
            }
        }
    };
    let verdict = match tokio::time::timeout(WITHOUT_INPUT, exited).await {
        Ok(exited) => {
            exited?;
            Verdict::Pass
        }
        Err(_) => Verdict::PassBy(
            "lives on without it, deaf; the next prompt is handed back unwritten and a new process answers it".to_owned(),
        ),
    };
    let spoken = bench.speech.say("is anybody there?");
    let reply = cluster.ask(spoken.prompt).await;
    let reply = reply.map_err(|error| format!("the next turn: {error}"))?;
    spoken.expected.judge(&reply.text)?;
    cluster.shutdown().await;
    if reply.generation < 2 {
        return Err("a process without an input answered".to_owned());
    }
    Ok(verdict)
}

async fn two_in_one_folder(bench: &mut Bench) -> Examined {
    let cluster = bench.builder().count(2).await;
    let cluster = cluster.map_err(|error| error.to_string())?;
    let ask = async |index: usize| {
        let spoken = bench.speech.say(&format!("to instance {index}"));
        let submission = Submission::text(spoken.prompt).on_instance(index);
        let reply = cluster.ask(submission).await;
        spoken
            .expected
            .judge(&reply.map_err(|error| error.to_string())?.text)
    };
    let (first, second) = tokio::join!(ask(0), ask(1));
    first.map_err(|wrong| format!("the first: {wrong}"))?;
    second.map_err(|wrong| format!("the second: {wrong}"))?;
    // One after the other: two that commit at once are in the way of each other's git, which is no matter of the tool.
    for index in [0, 1] {
        let (file, line) = (
            format!("shared_{index}.txt"),
            format!("by instance {index}"),
        );
        if let Ok(prompt) = bench.speech.edit(&file, &line) {
            let submission = Submission::text(prompt).fresh().on_instance(index);
            let edited = cluster.ask(submission).await;
            edited.map_err(|error| format!("the edit by instance {index}: {error}"))?;
            has_line(bench, &file, &line)?;
        }
    }
    cluster.shutdown().await;
    Ok(Verdict::Pass)
}

async fn clean_quit(bench: &mut Bench) -> Examined {
    bench.next_turn().await?;
    bench.quit_within(Duration::from_secs(30)).await;
    nothing_is_left(bench)?;
    Ok(Verdict::Pass)
}

/// Kills the process of the first instance, and says which it was.
pub(crate) async fn kill(cluster: &ClusterManager) -> Result<Pid, String> {
    let status = cluster.status().await.map_err(|error| error.to_string())?;
    let pid = status.instances.first().and_then(|instance| instance.pid);
    let pid = pid
        .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        .ok_or("its process id is not known")?;
    kill_process(pid, Signal::KILL).map_err(|error| format!("cannot kill it: {error}"))?;
    Ok(pid)
}

/// Sees that no process of the bench lives.
pub(crate) fn nothing_is_left(bench: &Bench) -> Result<(), String> {
    let left = bench.census();
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = left
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    Err(format!("processes are left: {}", names.join(", ")))
}

/// Sends a prompt whose answer does not end.
async fn begin(cluster: &ClusterManager, endless: &Endless) -> Result<ReplyStream, String> {
    let submission = Submission::text(endless.prompt.as_str()).fresh();
    cluster
        .stream(submission)
        .await
        .map_err(|error| error.to_string())
}

/// Waits until the beginning of the answer has come, or should have if nothing comes before the end. False if the turn
/// ended without it.
async fn until_it_began(
    bench: &Bench,
    mut turn: ReplyStream,
    endless: &Endless,
) -> (ReplyStream, bool) {
    let Some(begins) = &endless.begins else {
        let began = tokio::select! {
            () = async { while turn.chunk().await.is_some() {} } => false,
            () = bench.speech.asked(&endless.prompt, 1) => true,
        };
        return (turn, began);
    };
    let mut text = Vec::new();
    while let Some(bytes) = turn.chunk().await {
        text.extend(bytes);
        if String::from_utf8_lossy(&text).contains(begins) {
            return (turn, true);
        }
    }
    (turn, false)
}

/// The end of a turn, however it ended.
pub(crate) async fn ended(turn: ReplyStream) -> Result<Reply, String> {
    match turn.reply().await {
        Ok(reply) => Ok(reply),
        Err(AskError::Turn(reply)) => Ok(*reply),
        Err(error) => Err(error.to_string()),
    }
}

/// The next thing that happens in the cluster.
pub(crate) async fn next_event(events: &mut Events) -> Result<EventKind, String> {
    match events.next().await {
        Some(Heard::Event(event)) => Ok(event.kind),
        Some(Heard::Missed(missed)) => Err(format!("{missed} events were missed")),
        None => Err("the cluster has stopped".to_owned()),
    }
}
