//! `toolpool ask --all`: one prompt to every instance, the answers grouped.
//!
//! Owns the fan-out. Must not know formats beyond printing. Invariant: every instance is asked at the same time, and an
//! answer is shown whole, when it is there.

use tokio::task::JoinSet;
use toolpool::{AskError, Reply, Submission};

use crate::console::{Console, Format, Tone, print, print_answer, print_document};
use crate::documents::{TurnReplies, TurnReply};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running::Running;
use crate::{duration, story};

pub(super) async fn ask(
    running: &mut Running,
    submission: &Submission,
    format: Format,
    interrupts: &mut Interrupts,
    console: Console,
) -> Result<Exit, CliError> {
    let mut asking = JoinSet::new();
    for index in 0..running.cluster.instances().len() {
        let cluster = running.cluster.clone();
        let submission = submission.clone().on_instance(index);
        asking.spawn(async move {
            let instance = cluster.instances()[index].to_string();
            (instance, cluster.ask(submission).await)
        });
    }
    let mut replies = Vec::new();
    let mut failed = 0;
    loop {
        tokio::select! {
            biased;
            // Leaving withdraws what has not ended.
            _ = interrupts.next() => break,
            Some(event) = running.events.recv() => {
                if let Some((tone, line)) = story::line(&event) {
                    console.tell(tone, &line);
                }
            }
            joined = asking.join_next() => match joined {
                None => break,
                Some(joined) => {
                    let (instance, answer) = joined.expect("asking does not panic and is not aborted");
                    let problem = answer.as_ref().err().map(ToString::to_string);
                    let reply = match answer {
                        Ok(reply) => Some(reply),
                        Err(AskError::Turn(reply)) => Some(*reply),
                        Err(_) => None,
                    };
                    if let Some(problem) = problem {
                        failed += 1;
                        console.tell(Tone::Bad, &format!("{instance}: {problem}"));
                    }
                    if let Some(reply) = reply {
                        show(&instance, &reply, format)?;
                        replies.push((instance, reply));
                    }
                }
            }
        }
    }
    if format == Format::Json {
        // In the order of the instances, not of their speed.
        replies.sort_by_key(|(instance, _)| {
            running
                .cluster
                .instances()
                .iter()
                .position(|name| **name == **instance)
        });
        let items = replies
            .iter()
            .map(|(_, reply)| TurnReply::from(reply))
            .collect();
        print_document(&TurnReplies { items })?;
    }
    let asked = running.cluster.instances().len();
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

fn show(instance: &str, reply: &Reply, format: Format) -> Result<(), CliError> {
    match format {
        Format::Text => {
            print(
                format!(
                    "── {instance} · {} · {}\n",
                    reply.outcome.word(),
                    duration::show(reply.took)
                )
                .as_bytes(),
            )?;
            print_answer(reply.text.as_bytes())?;
            if reply.text.ends_with('\n') || reply.text.is_empty() {
                Ok(())
            } else {
                print(b"\n")
            }
        }
        Format::Json => Ok(()),
        Format::Jsonl => print_document(&TurnReply::from(reply)),
    }
}
