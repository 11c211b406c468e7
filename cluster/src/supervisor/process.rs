//! The process of an instance: its start, what it says, and how it ends.
//!
//! Owns the way from a connection's happenings to the machine's inputs, and what a process leaves behind. Must not decide
//! whether one is started or ended. Invariant: what is told of a process has its generation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use toolpool_pool_core::launcher::{Exit, GroupSignal};
use toolpool_pool_core::outcome::DoubtCause;
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{
    Connection, Conversation, Happening, LaunchError, Printed, Pulse, rss_bytes,
};

use super::{Supervisor, now};
use crate::instance::{Input, InstanceState};
use crate::reply::End;
use crate::turn::Report;

/// How many of its last lines a process leaves as evidence.
const LAST_LINES: usize = 3;

pub(super) type Launching = Pin<Box<dyn Future<Output = Launched> + Send>>;
pub(super) type Launched = Result<Box<Connection>, LaunchError>;

impl Supervisor {
    pub(super) fn launch(&mut self) {
        self.spawned_at = now();
        let profile = Arc::clone(&self.recipe.profile);
        let launcher = Arc::clone(&self.recipe.launcher);
        let mut options = self.recipe.options.clone();
        options.env.extend([
            ("TOOLPOOL_INSTANCE".to_owned(), self.name.to_string()),
            (
                "TOOLPOOL_GENERATION".to_owned(),
                self.machine.generation().to_string(),
            ),
        ]);
        if let Some(wanted) = self.wanted.take() {
            self.memory.take_up();
            // What is not there any more is lost, and told so when the process begins without it.
            let found = |name| Conversation::found(name, wanted.folder).ok();
            self.left = wanted.name.and_then(found);
        }
        let left = self.left.clone();
        self.launching = Some(Box::pin(async move {
            let launcher = launcher.as_ref();
            let launched = match &left {
                Some(left) => Connection::resume(&profile, &options, launcher, left).await,
                None => Connection::launch(&profile, &options, launcher).await,
            };
            launched.map(Box::new)
        }));
    }

    pub(super) fn signal(&mut self, signal: GroupSignal) {
        if let Some(connection) = &mut self.connection {
            connection.signal(signal);
        }
    }

    pub(super) fn pulse(&self) -> Pulse {
        let Some(connection) = &self.connection else {
            return Pulse::default();
        };
        let weighed = connection.pid().filter(|_| self.machine.is_weighed());
        Pulse {
            rss_bytes: weighed.and_then(rss_bytes),
            ..connection.pulse()
        }
    }

    pub(super) async fn on_launched(&mut self, launched: Launched) {
        self.launching = None;
        match launched {
            Ok(mut connection) => {
                let pid = connection.pid();
                if self.machine.state() == InstanceState::Stopping {
                    // A start cannot be taken back half-way: nobody would know when its process has gone.
                    connection.signal(GroupSignal::Terminate);
                }
                self.connection = Some(connection);
                let generation = self.machine.generation();
                let resumes = self.left.take().is_some();
                self.memory.on_process(resumes);
                self.report(Report::Spawned {
                    generation,
                    pid,
                    resumes,
                })
                .await;
                self.told_having = None;
                self.tell_having().await;
            }
            Err(error) => self.inputs.push_back(Input::LaunchFailed {
                permanent: error.is_permanent(),
                reason: error.to_string(),
            }),
        }
    }

    pub(super) async fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Turn(event) => self.on_turn_event(event).await,
            Happening::TooLong { limit } => {
                let detail = format!(
                    "the reply outgrew {limit} bytes; raise `max_reply_bytes` in the profile if replies may be longer"
                );
                let cause = DoubtCause::OutputLimit;
                self.inputs.push_back(Input::Lost { cause, detail });
            }
            Happening::Exited(exit) => self.on_exited(exit).await,
        }
    }

    async fn on_exited(&mut self, exit: Exit) {
        let connection = self.connection.take().expect("it has told of its end");
        let written = connection.turn_was_written();
        let leaked = connection.leaked();
        let last = connection.last_lines(LAST_LINES);
        let failed = !self.machine.ends_as_wished();
        let printed = failed.then(|| Box::new(connection.printed()));
        let starts = self.machine.state() == InstanceState::Starting;
        let words = words(&last, printed.as_deref().filter(|_| starts));
        if let Some(running) = &mut self.running {
            let silent = connection.pulse().heard.is_none();
            running.untouched = silent && self.recipe.profile.quiet_until_output;
        }
        let resumes = self.recipe.resumes && self.memory.is_worth_resuming();
        // What is not kept is gone before anybody hears of the end.
        self.left = Some(connection)
            .filter(|_| resumes)
            .and_then(|connection| connection.left());
        let generation = self.machine.generation();
        self.report(Report::Exited {
            generation,
            exit,
            leaked,
            last,
            printed,
        })
        .await;
        self.inputs.push_back(Input::Exited {
            exit,
            written,
            words,
        });
    }

    async fn on_turn_event(&mut self, event: TurnEvent) {
        match event {
            TurnEvent::Ready => {
                let resumed = self.connection.as_ref().is_some_and(|it| it.has_resumed());
                if self.memory.on_ready(resumed) {
                    self.report(Report::Forgot).await;
                } else if resumed {
                    let generation = self.machine.generation();
                    self.report(Report::Resumed { generation }).await;
                }
                self.inputs.push_back(Input::Ready);
            }
            TurnEvent::Chunk { bytes, .. } => self.on_chunk(bytes),
            TurnEvent::Elsewhere { turn, place } => {
                if let Some(running) = &mut self.running
                    && running.turn.id == turn
                {
                    running.elsewhere = Some(place.clone());
                    self.report(Report::Elsewhere { turn, place }).await;
                }
            }
            TurnEvent::Retrying { turn, .. } => self.report(Report::Retrying(turn)).await,
            TurnEvent::TurnEnded {
                turn,
                outcome,
                attribution,
                answer,
                usage,
            } => {
                let end = End {
                    attribution: Some(attribution),
                    answer,
                    usage,
                    ..End::of(outcome)
                };
                self.on_turn_ended(turn, end).await;
            }
            TurnEvent::Fault(detail) => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail,
            }),
            TurnEvent::Waiting {
                turn,
                request,
                question,
                act,
            } => {
                let input = self.on_question(turn, request, act, question);
                self.inputs.push_back(input);
            }
            TurnEvent::Withdrawn { request } => self.inputs.push_back(Input::Withdrawn(request)),
            // The connection keeps the name, and gives it when its process has ended.
            TurnEvent::SessionChanged(_) => self.tell_having().await,
            other => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail: format!("unexpected {other:?}"),
            }),
        }
    }
}

/// What a process has printed, in a line: its last words and, if it has failed to start, its first ones, which tell a wrong
/// program or a wrong version.
fn words(last: &[String], printed: Option<&Printed>) -> String {
    let first = printed.and_then(|printed| {
        let streams = [&printed.stdout.first, &printed.stderr.first];
        let mut lines = streams.into_iter().flat_map(|text| text.lines());
        lines.find(|line| !line.trim().is_empty())
    });
    let mut words = Vec::new();
    if let Some(first) = first
        && !last.iter().any(|line| line == first)
    {
        words.push(format!("first: {}", clipped(first)));
    }
    if !last.is_empty() {
        words.push(format!("last: {}", last.join(" | ")));
    }
    words.join("; ")
}

/// A line is at most so long in a reason.
fn clipped(line: &str) -> &str {
    const LONGEST: usize = 200;
    line.char_indices()
        .nth(LONGEST)
        .map_or(line, |(end, _)| &line[..end])
}

/// The end of a start, if there is one.
pub(super) async fn launched(launching: &mut Option<Launching>) -> Launched {
    match launching {
        Some(launching) => launching.await,
        None => std::future::pending().await,
    }
}

/// The next thing that happens to the process, if there is one.
pub(super) async fn happening(connection: &mut Option<Box<Connection>>) -> Happening {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}
