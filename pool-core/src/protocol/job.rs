//! The protocol of a remote job: our own driver process on plain pipes, one line of JSON each way.
//!
//! Owns the framing of a prompt as one job and the reading of its end. Must not know the service, its API or its states:
//! those are the driver's (`job.rs`). Invariants: a prompt is handed to the driver once; an end counts only with the
//! number of the turn that runs. An interrupt makes the driver let go of the job, which goes on where it is.

use std::path::{Component, Path};

use super::json_rpc::{LineSplitter, MAX_LINE_BYTES};
use super::{Outbox, Protocol, Stream, TurnEvent};
use crate::job::message::{Order, Report, line};
use crate::outcome::{Attribution, Grade};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

/// What stands before the names of files.
const FILES: &str = "The following is about these files:\n";

/// What the protocol takes from a profile.
#[derive(Clone, Copy, Debug)]
pub struct JobConfig {
    /// Longest prompt in bytes, the names of its files included.
    pub max_prompt_bytes: usize,
    /// How surely an end belongs to its prompt.
    pub grade: Grade,
}

/// The protocol of one driver.
pub struct Job {
    config: JobConfig,
    lines: LineSplitter,
    state: State,
}

enum State {
    Starting,
    Idle,
    Running { turn: TurnId, abandoned: bool },
    Broken,
}

impl Job {
    /// A protocol for a driver that has just been started.
    pub fn new(config: JobConfig) -> Self {
        Self {
            config,
            lines: LineSplitter::new(MAX_LINE_BYTES),
            state: State::Starting,
        }
    }

    /// Takes one report.
    ///
    /// # Errors
    /// What the driver should not have said.
    fn take(&mut self, report: Report, out: &mut Outbox) -> Result<(), String> {
        let running = match self.state {
            State::Running { turn, .. } => Some(turn),
            _ => None,
        };
        let ours = |turn: u64| running.filter(|running| running.0 == turn);
        match report {
            Report::Ready if matches!(self.state, State::Starting) => {
                self.state = State::Idle;
                out.emit(TurnEvent::Ready);
                Ok(())
            }
            Report::Started { turn, place } => match ours(turn) {
                Some(turn) => {
                    out.emit(TurnEvent::Elsewhere { turn, place });
                    Ok(())
                }
                None => Err(format!("job {turn} started, and nobody asked for it")),
            },
            Report::Retrying { turn, message } => match ours(turn) {
                Some(turn) => {
                    out.emit(TurnEvent::Retrying { turn, message });
                    Ok(())
                }
                None => Err(format!("job {turn} goes on, and nobody asked for it")),
            },
            Report::Ended {
                turn,
                outcome,
                answer,
            } => match ours(turn) {
                Some(turn) => {
                    self.state = State::Idle;
                    // As a piece of the reply it is held to the profile's limit.
                    if let Some(answer) = answer {
                        out.emit(TurnEvent::Chunk {
                            turn,
                            bytes: answer.into_bytes(),
                        });
                    }
                    out.emit(TurnEvent::TurnEnded {
                        turn,
                        outcome,
                        attribution: Attribution {
                            grade: self.config.grade,
                            by: "session state",
                        },
                        answer: None,
                        usage: None,
                    });
                    Ok(())
                }
                None => Err(format!("job {turn} ended, and nobody asked for it")),
            },
            Report::Ready => Err("it was ready twice".to_owned()),
        }
    }

    /// The text of the job.
    ///
    /// # Errors
    /// Why it is not sent.
    fn text(&self, prompt: &Prompt) -> Result<String, Refusal> {
        if prompt.kind == PromptKind::Command {
            return Err(Refusal::Unsupported(
                "a remote job has no commands; send a prompt".to_owned(),
            ));
        }
        if prompt.text.trim().is_empty() {
            return Err(Refusal::Empty);
        }
        let mut text = String::new();
        for file in &prompt.files {
            let name = file.to_string_lossy();
            if name.contains(char::is_control) || !is_inside(file) {
                return Err(Refusal::Unsupported(format!(
                    "the file {name:?} cannot be named to a remote job: give a path without control characters, relative to the working folder"
                )));
            }
            text.push_str(&format!("- {name}\n"));
        }
        if !text.is_empty() {
            text = format!("{FILES}{text}\n");
        }
        text.push_str(&prompt.text);
        if text.len() > self.config.max_prompt_bytes {
            return Err(Refusal::TooLarge {
                bytes: text.len(),
                limit: self.config.max_prompt_bytes,
            });
        }
        Ok(text)
    }
}

/// Whether a path stays below the folder that it is relative to.
fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

impl Protocol for Job {
    /// The driver begins by itself.
    fn start(&mut self, _out: &mut Outbox) {}

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if !matches!(self.state, State::Idle) {
            return Err(Refusal::Unsupported(
                "a job is not over yet; send one prompt at a time".to_owned(),
            ));
        }
        let order = Order::Submit {
            turn: turn.0,
            prompt: self.text(prompt)?,
        };
        out.write(line(&order).as_bytes());
        self.state = State::Running {
            turn,
            abandoned: false,
        };
        Ok(())
    }

    fn receive(&mut self, from: Stream, mut bytes: &[u8], out: &mut Outbox) {
        if from == Stream::Stderr {
            return;
        }
        while !matches!(self.state, State::Broken) {
            let line = match self.lines.next_line(&mut bytes) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    self.state = State::Broken;
                    return out.emit(TurnEvent::Fault(error.to_string()));
                }
            };
            let report = serde_json::from_slice(&line)
                .map_err(|error| format!("its driver wrote what is no report: {error}"));
            if let Err(why) = report.and_then(|report| self.take(report, out)) {
                self.state = State::Broken;
                out.emit(TurnEvent::Fault(why));
            }
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        if let State::Running { turn, abandoned } = &mut self.state
            && !std::mem::replace(abandoned, true)
        {
            out.write(line(&Order::Abandon { turn: turn.0 }).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::outcome::{Doubt, DoubtCause, Outcome};

    const CONFIG: JobConfig = JobConfig {
        max_prompt_bytes: 100,
        grade: Grade::A,
    };

    fn events(out: &mut Outbox) -> Vec<TurnEvent> {
        std::iter::from_fn(|| out.next_event()).collect()
    }

    fn ready() -> (Job, Outbox) {
        let (mut job, mut out) = (Job::new(CONFIG), Outbox::new(Instant::now()));
        job.start(&mut out);
        assert_eq!(out.take_write(), b"");
        job.receive(Stream::Stdout, b"{\"type\":\"ready\"}\n", &mut out);
        assert_eq!(events(&mut out), [TurnEvent::Ready]);
        (job, out)
    }

    fn written(out: &mut Outbox) -> String {
        String::from_utf8(out.take_write()).expect("text")
    }

    #[test]
    fn a_prompt_is_one_line_and_its_end_carries_its_number_wherever_the_bytes_are_cut() {
        let reports = "{\"type\":\"started\",\"turn\":7,\"place\":\"session 1\"}\n\
                       {\"type\":\"retrying\",\"turn\":7,\"message\":\"429\"}\n\
                       {\"type\":\"ended\",\"turn\":7,\"outcome\":\"completed\",\"answer\":\"a\\nb\"}\n";
        for cut in 0..reports.len() {
            let (mut job, mut out) = ready();
            let prompt = Prompt::text("two\nlines \"quoted\"");
            job.submit(TurnId(7), &prompt, &mut out).expect("accepted");
            assert_eq!(
                written(&mut out),
                "{\"type\":\"submit\",\"turn\":7,\"prompt\":\"two\\nlines \\\"quoted\\\"\"}\n"
            );
            let (first, second) = reports.as_bytes().split_at(cut);
            job.receive(Stream::Stdout, first, &mut out);
            job.receive(Stream::Stderr, b"noise\n", &mut out);
            job.receive(Stream::Stdout, second, &mut out);
            let turn = TurnId(7);
            assert_eq!(
                events(&mut out),
                [
                    TurnEvent::Elsewhere {
                        turn,
                        place: "session 1".to_owned()
                    },
                    TurnEvent::Retrying {
                        turn,
                        message: "429".to_owned()
                    },
                    TurnEvent::Chunk {
                        turn,
                        bytes: b"a\nb".to_vec()
                    },
                    TurnEvent::TurnEnded {
                        turn,
                        outcome: Outcome::Completed,
                        attribution: Attribution {
                            grade: Grade::A,
                            by: "session state"
                        },
                        answer: None,
                        usage: None,
                    },
                ]
            );
        }
    }

    #[test]
    fn an_interrupt_is_asked_for_once_and_its_end_leaves_the_driver_ready_for_the_next_prompt() {
        let (mut job, mut out) = ready();
        job.interrupt(&mut out);
        assert_eq!(written(&mut out), "", "nothing runs");
        job.submit(TurnId(1), &"x".into(), &mut out)
            .expect("accepted");
        out.take_write();
        job.interrupt(&mut out);
        job.interrupt(&mut out);
        assert_eq!(written(&mut out), "{\"type\":\"abandon\",\"turn\":1}\n");
        let outcome = Outcome::Indeterminate(Doubt {
            cause: DoubtCause::CancelUnconfirmed,
            detail: "it goes on".to_owned(),
        });
        let report = Report::Ended {
            turn: 1,
            outcome: outcome.clone(),
            answer: None,
        };
        job.receive(Stream::Stdout, line(&report).as_bytes(), &mut out);
        let seen = events(&mut out);
        assert!(
            matches!(&seen[..], [TurnEvent::TurnEnded { outcome: seen, .. }] if *seen == outcome),
            "{seen:?}"
        );
        job.submit(TurnId(2), &"y".into(), &mut out)
            .expect("accepted");
    }

    #[test]
    fn what_the_driver_cannot_mean_is_a_fault_and_nothing_after_it_counts() {
        for wrong in [
            "not json\n",
            "{\"type\":\"surprise\"}\n",
            "{\"type\":\"ready\"}\n",
            "{\"type\":\"ended\",\"turn\":2,\"outcome\":\"completed\",\"answer\":\"another's\"}\n",
            "{\"type\":\"started\",\"turn\":2,\"place\":\"x\"}\n",
            "{\"type\":\"retrying\",\"turn\":2,\"message\":\"x\"}\n",
        ] {
            let (mut job, mut out) = ready();
            job.submit(TurnId(1), &"x".into(), &mut out)
                .expect("accepted");
            let end = "{\"type\":\"ended\",\"turn\":1,\"outcome\":\"completed\",\"answer\":null}\n";
            job.receive(Stream::Stdout, format!("{wrong}{end}").as_bytes(), &mut out);
            let seen = events(&mut out);
            assert!(
                matches!(&seen[..], [TurnEvent::Fault(_)]),
                "{wrong}: {seen:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_job_is_refused_and_nothing_is_written() {
        let mut with_file = Prompt::text("x");
        with_file.files = vec!["../secret".into()];
        let mut with_break = Prompt::text("x");
        with_break.files = vec!["a\nb".into()];
        for (prompt, why) in [
            (Prompt::text(" \n"), "empty"),
            (Prompt::text("x".repeat(101)), "101 bytes"),
            (Prompt::command("/tokens"), "no commands"),
            (with_file, "secret"),
            (with_break, "control"),
        ] {
            let (mut job, mut out) = ready();
            let refusal = job
                .submit(TurnId(1), &prompt, &mut out)
                .expect_err(why)
                .to_string();
            assert!(refusal.contains(why), "{refusal}");
            assert_eq!(written(&mut out), "");
        }
    }

    #[test]
    fn files_are_named_before_the_text() {
        let (mut job, mut out) = ready();
        let mut prompt = Prompt::text("fix it");
        prompt.files = vec!["src/a.rs".into()];
        job.submit(TurnId(1), &prompt, &mut out).expect("accepted");
        let order: Order = serde_json::from_slice(&out.take_write()).expect("an order");
        let text = "The following is about these files:\n- src/a.rs\n\nfix it".to_owned();
        assert_eq!(
            order,
            Order::Submit {
                turn: 1,
                prompt: text
            }
        );
    }
}
