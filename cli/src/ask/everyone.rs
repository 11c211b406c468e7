//! `toolpool ask --all`: one prompt to every instance, the answers grouped.
//!
//! Owns the fan-out. Must not know formats beyond printing. Invariant: every instance is asked at the same time, and an
//! answer is shown whole, when it is there.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::task::JoinSet;
use toolpool::{AskError, ClusterManager, Reply, Submission};

use crate::console::{Console, Format, Tone, print, print_answer, print_document};
use crate::documents::{RefusedReport, TurnReplies, TurnReply};
use crate::duration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running::Running;

/// What came of the prompt to one instance.
enum Answer {
    Reply(Box<TurnReply>),
    Refused(RefusedReport),
}

/// Asks the instances of these indices.
pub(super) async fn ask(
    running: &mut Running,
    submission: &Submission,
    instances: &[usize],
    format: Format,
    interrupts: &mut Interrupts,
    console: Console,
) -> Result<Exit, CliError> {
    let (withdraw, withdrawn) = watch::channel(false);
    let mut asking = JoinSet::new();
    for index in instances.iter().copied() {
        let cluster = running.cluster.clone();
        let submission = submission.clone().on_instance(index);
        let withdrawn = withdrawn.clone();
        asking.spawn(async move { (index, one(&cluster, submission, withdrawn).await) });
    }
    // By instance: the order in which they are told at the end is not that of their speed.
    let mut answers = BTreeMap::new();
    let mut failed = 0;
    loop {
        tokio::select! {
            biased;
            count = interrupts.next() => {
                if count > 1 {
                    console.tell(Tone::Note, super::STOPPING);
                    running.kill();
                } else {
                    let what = format!("cancelling {} turns; Ctrl-C again to kill their tools", asking.len());
                    console.tell(Tone::Note, &what);
                    withdraw.send_replace(true);
                }
            }
            Some((_, lines)) = running.event() => {
                for (tone, line) in lines {
                    console.tell(tone, &line);
                }
            }
            joined = asking.join_next() => match joined {
                None => break,
                Some(joined) => {
                    let (index, asked) = joined.expect("asking does not panic and is not aborted");
                    if let Err(problem) = &asked {
                        failed += 1;
                        if let Some(reply) = problem.reply() {
                            for (tone, line) in running.sequel(reply).await {
                                console.tell(tone, &line);
                            }
                        }
                        let instance = &running.cluster.instances()[index];
                        console.tell(Tone::Bad, &format!("{instance}: {problem}"));
                    }
                    let answer = answer(running, index, asked);
                    if let Answer::Reply(reply) = &answer {
                        show(reply, format)?;
                    }
                    answers.insert(index, answer);
                }
            }
        }
    }
    if format == Format::Json {
        let mut document = TurnReplies {
            items: Vec::new(),
            refused: Vec::new(),
        };
        for answer in answers.into_values() {
            match answer {
                Answer::Reply(reply) => document.items.push(*reply),
                Answer::Refused(refused) => document.refused.push(refused),
            }
        }
        print_document(&document)?;
    }
    let asked = instances.len();
    console.tell(
        Tone::Plain,
        &format!("{} of {asked} answered", asked - failed),
    );
    Ok(if failed == 0 {
        Exit::Done
    } else {
        Exit::SomeFailed
    })
}

/// One prompt, which can be withdrawn while it runs; what became of it is told all the same.
async fn one(
    cluster: &ClusterManager,
    submission: Submission,
    mut withdrawn: watch::Receiver<bool>,
) -> Result<Reply, AskError> {
    let mut stream = cluster.stream(submission).await?;
    tokio::select! {
        // Whoever would withdraw it has gone: that is one too.
        () = async { drop(withdrawn.wait_for(|withdrawn| *withdrawn).await) } => stream.cancel().await,
        () = async { while stream.chunk().await.is_some() {} } => {}
    }
    stream.reply().await
}

/// The answer under the name of the instance that was asked, even if it never got to run.
fn answer(running: &Running, index: usize, asked: Result<toolpool::Reply, AskError>) -> Answer {
    let instance = running.cluster.instances()[index].to_string();
    let tool = running.cluster.profiles()[index].name.clone();
    let reply = match asked {
        Ok(reply) => reply,
        Err(AskError::Turn(reply)) => *reply,
        Err(refusal) => {
            return Answer::Refused(RefusedReport {
                instance,
                tool,
                code: refusal.code(),
                message: refusal.to_string(),
            });
        }
    };
    Answer::Reply(Box::new(TurnReply {
        instance: Some(instance),
        tool: Some(tool),
        ..TurnReply::from(&reply)
    }))
}

fn show(reply: &TurnReply, format: Format) -> Result<(), CliError> {
    match format {
        Format::Text => {
            let header = format!(
                "── {} · {} · {} · {}\n",
                reply.instance.as_deref().unwrap_or_default(),
                reply.tool.as_deref().unwrap_or_default(),
                reply.outcome,
                duration::show(std::time::Duration::from_secs_f64(reply.took_s))
            );
            print(header.as_bytes())?;
            print_answer(reply.text.as_bytes())?;
            if reply.text.ends_with('\n') || reply.text.is_empty() {
                Ok(())
            } else {
                print(b"\n")
            }
        }
        Format::Json => Ok(()),
        Format::Jsonl => print_document(reply),
    }
}
