//! What to do next for a job: a pure machine.
//!
//! Owns the order of the steps, the pace of asking, what is asked again, and how a turn ends. Must not know HTTP, commands,
//! threads or clocks: inputs and the time come in, actions go out. Invariants: a job is handed over once, whatever comes
//! of it; of one that may have been handed over nobody says that it has failed before the service says so; one turn has
//! one end.

use std::time::{Duration, Instant};

use super::message::{Order, Report};
use crate::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};

/// The service is asked this often in a row without an answer, then the turn is given up. With pauses of 1, 2, 4, 8, 16
/// and then 30 seconds that is after about five minutes, as in Google's SDK 0.2.0.
const TRIES: u32 = 14;
/// The longest pause between two looks at a job that goes well, in units of the first one.
const SLOWEST: u32 = 6;
/// The first pause after trouble is this part of the first pause between two looks.
const HASTE: u32 = 5;
/// The longest pause that the service can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One thing to be done outside, which takes a while and is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// See that the service knows us and the repository.
    Probe,
    /// Hand the job over.
    Create { prompt: String },
    /// Look at its state.
    Look { id: String },
    /// Get what it said and made.
    Fetch { id: String, state: State },
    /// Make its changes in the working folder, if that is the job's repository.
    Apply { patch: String },
}

/// The good answer to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Probed,
    Created { id: String, url: String },
    Seen(State),
    Fetched(Work),
    Applied,
}

/// What a job has said and made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// The last that it said: its summary, its question, or why it failed.
    pub(super) message: Option<String>,
    /// Its changes as a unified diff; empty if there are none.
    pub(super) patch: String,
    /// Where the service put them, if it did.
    pub(super) pull_request: Option<String>,
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Queued, planning, working, paused, or in a state that we have not heard of.
    Running,
    AwaitingPlan,
    AwaitingFeedback,
    Completed,
    Failed,
}

/// The bad answer to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) message: String,
    /// When the service says that trying again may help.
    pub(super) retry_after: Option<Duration>,
}

/// What a bad answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No, and no again if it is asked again. Nothing was done.
    No(FailureClass),
    /// There is no such thing.
    Missing,
    /// Not now. Nothing was done.
    NotNow(FailureClass),
    /// Nobody knows what was done.
    Unknown,
}

/// What can happen to the driver.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Order(Order),
    /// The answer to the step of that number.
    Answer(u64, Result<Found, Trouble>),
    /// The time of [`Machine::wake`] has come.
    Timer,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Do the step and answer with its number.
    Do(u64, Step),
    /// Tell our side.
    Tell(Report),
    /// End with this reason: there is nothing that prompts could be sent to.
    GiveUp(String),
}

/// The machine of one driver.
pub(super) struct Machine {
    /// The pause before the first look.
    pace: Duration,
    phase: Phase,
    step: u64,
    wake: Option<Instant>,
}

enum Phase {
    Probing,
    Idle,
    /// On its way to the service; `abandoned`: nobody waits for it any more.
    Creating {
        turn: u64,
        abandoned: bool,
    },
    Following(Following),
    /// Its changes are being made in the working folder.
    Applying {
        job: Job,
        work: Work,
    },
}

struct Job {
    turn: u64,
    id: String,
    url: String,
}

struct Following {
    job: Job,
    /// The job has ended, or waits for a human: what it said is being fetched.
    ended: Option<State>,
    /// The service has shown that it knows the job.
    known: bool,
    pause: Duration,
    /// Troubles in a row.
    troubles: u32,
}

impl Machine {
    /// A machine that looks at a job for the first time after `pace`.
    pub(super) fn new(pace: Duration) -> Self {
        Self {
            pace,
            phase: Phase::Probing,
            step: 0,
            wake: None,
        }
    }

    /// When [`Input::Timer`] is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// The first action.
    pub(super) fn start(&mut self, out: &mut Vec<Action>) {
        self.next_step(Step::Probe, out);
    }

    /// The one entry: takes an input at a time, and pushes what is to be done.
    pub(super) fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Order(Order::Submit { turn, prompt }) => self.on_submit(turn, prompt, out),
            Input::Order(Order::Abandon { turn }) => self.on_abandon(turn, out),
            // The answer to a step that nobody waits for any more.
            Input::Answer(step, _) if step != self.step => {}
            Input::Answer(_, Ok(found)) => self.on_found(now, found, out),
            Input::Answer(_, Err(trouble)) => self.on_trouble(now, trouble, out),
            Input::Timer => self.on_timer(now, out),
        }
    }

    fn next_step(&mut self, step: Step, out: &mut Vec<Action>) {
        self.wake = None;
        self.step += 1;
        out.push(Action::Do(self.step, step));
    }

    fn on_submit(&mut self, turn: u64, prompt: String, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Idle) {
            return out.push(Action::GiveUp(
                "a prompt came before the last one had ended".to_owned(),
            ));
        }
        self.phase = Phase::Creating {
            turn,
            abandoned: false,
        };
        self.next_step(Step::Create { prompt }, out);
    }

    /// Lets go of the job, unless its end and our letting go have crossed.
    fn on_abandon(&mut self, abandoned_turn: u64, out: &mut Vec<Action>) {
        match &mut self.phase {
            // Once it is known, the reply can name it.
            Phase::Creating { turn, abandoned } if *turn == abandoned_turn => *abandoned = true,
            Phase::Following(following) if following.job.turn == abandoned_turn => {
                self.end(abandoned_turn, let_go(), None, out);
            }
            // Half a patch would be the worst end; a whole one takes a moment.
            _ => {}
        }
    }

    fn on_found(&mut self, now: Instant, found: Found, out: &mut Vec<Action>) {
        match (&mut self.phase, found) {
            (Phase::Probing, Found::Probed) => {
                self.phase = Phase::Idle;
                out.push(Action::Tell(Report::Ready));
            }
            (&mut Phase::Creating { turn, abandoned }, Found::Created { id, url }) => {
                let place = format!("session {id} goes on by itself: {url}");
                out.push(Action::Tell(Report::Started { turn, place }));
                if abandoned {
                    return self.end(turn, let_go(), None, out);
                }
                self.phase = Phase::Following(Following {
                    job: Job { turn, id, url },
                    ended: None,
                    known: false,
                    pause: self.pace,
                    troubles: 0,
                });
                self.wake = Some(now + self.pace);
            }
            (Phase::Following(following), Found::Seen(State::Running)) => {
                following.known = true;
                following.troubles = 0;
                self.wake = Some(now + following.pause);
                following.pause = (following.pause * 3 / 2).min(self.pace * SLOWEST);
            }
            (Phase::Following(following), Found::Seen(state)) => {
                following.known = true;
                following.troubles = 0;
                following.ended = Some(state);
                self.follow(out);
            }
            (
                Phase::Following(Following {
                    ended: Some(state), ..
                }),
                Found::Fetched(work),
            ) => {
                let state = *state;
                self.on_fetched(state, work, out);
            }
            (Phase::Applying { .. }, Found::Applied) => {
                if let Phase::Applying { job, work } =
                    std::mem::replace(&mut self.phase, Phase::Idle)
                {
                    self.end(job.turn, Outcome::Completed, Some(answer(&work)), out);
                }
            }
            (_, found) => out.push(Action::GiveUp(format!("{found:?} was not asked for"))),
        }
    }

    /// The next question about the job.
    fn follow(&mut self, out: &mut Vec<Action>) {
        if let Phase::Following(following) = &self.phase {
            let id = following.job.id.clone();
            let step = match following.ended {
                Some(state) => Step::Fetch { id, state },
                None => Step::Look { id },
            };
            self.next_step(step, out);
        }
    }

    fn on_fetched(&mut self, state: State, work: Work, out: &mut Vec<Action>) {
        let Phase::Following(Following { job, .. }) =
            std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return;
        };
        let Job { turn, id, url } = &job;
        let said = work.message.as_deref().unwrap_or("no more was said");
        let (class, message) = match state {
            State::Failed => (
                FailureClass::Unknown,
                format!("session {id} failed: {said}; {url}"),
            ),
            State::AwaitingFeedback => (
                FailureClass::Unknown,
                format!(
                    "session {id} waits for an answer and gets none from here: {said}; answer it at {url}"
                ),
            ),
            State::AwaitingPlan => (
                FailureClass::Unknown,
                format!(
                    "session {id} waits until somebody approves its plan, although none was to be asked; approve it at {url}"
                ),
            ),
            State::Completed | State::Running if !work.patch.is_empty() => {
                let patch = work.patch.clone();
                self.phase = Phase::Applying { job, work };
                return self.next_step(Step::Apply { patch }, out);
            }
            State::Completed | State::Running => {
                let answer = answer(&work);
                if !answer.is_empty() {
                    return self.end(*turn, Outcome::Completed, Some(answer), out);
                }
                (
                    FailureClass::EmptyAnswer,
                    format!("session {id} is complete, said nothing and changed nothing; {url}"),
                )
            }
        };
        self.end(*turn, failed(class, message, None), None, out);
    }

    fn on_trouble(&mut self, now: Instant, trouble: Trouble, out: &mut Vec<Action>) {
        let Trouble {
            kind,
            message,
            retry_after,
        } = trouble;
        match &mut self.phase {
            Phase::Probing => out.push(Action::GiveUp(message)),
            &mut Phase::Creating { turn, .. } => {
                let outcome = match kind {
                    Kind::No(class) | Kind::NotNow(class) => failed(class, message, retry_after),
                    Kind::Missing => failed(FailureClass::BadRequest, message, None),
                    Kind::Unknown => lost(format!(
                        "the job was handed over and the answer was lost: {message}; look for it among your sessions before sending it again"
                    )),
                };
                self.end(turn, outcome, None, out);
            }
            Phase::Following(following) => {
                let turn = following.job.turn;
                following.troubles += 1;
                // A session that has just been made may not be found for some seconds, nor what it has said.
                let hopeless = match kind {
                    Kind::No(_) => true,
                    Kind::Missing => following.known && following.ended.is_none(),
                    Kind::NotNow(_) | Kind::Unknown => false,
                };
                if hopeless || following.troubles == TRIES {
                    let tries = following.troubles;
                    let why = format!(
                        "what became of the job cannot be read (tried {tries} times): {message}"
                    );
                    return self.end(turn, lost(why), None, out);
                }
                let pause = self.pace / HASTE * 2_u32.saturating_pow(following.troubles - 1);
                let pause = pause.min(self.pace * SLOWEST);
                let asked = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                self.wake = Some(now + pause.max(asked));
                out.push(Action::Tell(Report::Retrying { turn, message }));
            }
            Phase::Applying { .. } => {
                if let Phase::Applying { job, work } =
                    std::mem::replace(&mut self.phase, Phase::Idle)
                {
                    let Job { turn, id, url } = job;
                    let message = format!(
                        "session {id} is complete, but its changes could not be made here: {message}; they are in the reply, and at {url}"
                    );
                    let outcome = failed(FailureClass::Unknown, message, None);
                    self.end(turn, outcome, Some(answer(&work)), out);
                }
            }
            Phase::Idle => {}
        }
    }

    fn on_timer(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.follow(out);
        }
    }

    fn end(&mut self, turn: u64, outcome: Outcome, answer: Option<String>, out: &mut Vec<Action>) {
        self.phase = Phase::Idle;
        self.wake = None;
        // What is still under way is nobody's answer.
        self.step += 1;
        out.push(Action::Tell(Report::Ended {
            turn,
            outcome,
            answer,
        }));
    }
}

/// What a completed job is answered with: its own words, where its changes are, and the changes.
fn answer(work: &Work) -> String {
    let request = work
        .pull_request
        .as_ref()
        .map(|url| format!("pull request: {url}"));
    let parts = [
        work.message.clone(),
        request,
        (!work.patch.is_empty()).then(|| work.patch.clone()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("\n\n")
}

fn failed(class: FailureClass, message: String, retry_after: Option<Duration>) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message,
        retry_after,
    })
}

fn lost(detail: String) -> Outcome {
    Outcome::Indeterminate(Doubt {
        cause: DoubtCause::AnswerLost,
        detail,
    })
}

fn let_go() -> Outcome {
    Outcome::Indeterminate(Doubt {
        cause: DoubtCause::CancelUnconfirmed,
        detail: "cancelled here, and a remote job cannot be stopped".to_owned(),
    })
}

#[cfg(test)]
mod tests;
