//! What can happen to an instance, and how it is brought about.

use super::*;

/// Everything that can happen to an instance. A move that makes no sense at a moment is not made then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Move {
    LaunchSucceeds,
    LaunchFails {
        permanent: bool,
    },
    Ready,
    Assign {
        own_limit: bool,
    },
    AssignToAnotherProcess,
    Refuse,
    End,
    Cancel,
    EndOfAnother,
    RefusalOfAnother,
    CancelOfAnother,
    Ask,
    Answer,
    TakeBack,
    AnswerOfAnother,
    TakeBackOfAnother,
    Lose,
    Exit {
        written: bool,
    },
    /// With code 0.
    ExitCleanly,
    /// With the code that says that another start cannot help.
    ExitForGood,
    /// The tool prints something.
    Speak,
    /// The tool takes nothing more of what is written to it, or takes it after all.
    Block,
    Unblock,
    TimerTooEarly,
    /// Time passes in silence until something comes of it.
    Deadline,
    /// The same, and the tool speaks all the while.
    DeadlineInTalk,
    Start,
    Restart,
    Replace,
    Drain,
    Stop,
    Kill,
}

pub(super) const MOVES: [Move; 35] = [
    Move::LaunchSucceeds,
    Move::LaunchFails { permanent: false },
    Move::LaunchFails { permanent: true },
    Move::Ready,
    Move::Assign { own_limit: false },
    Move::Assign { own_limit: true },
    Move::AssignToAnotherProcess,
    Move::Refuse,
    Move::End,
    Move::Cancel,
    Move::EndOfAnother,
    Move::RefusalOfAnother,
    Move::CancelOfAnother,
    Move::Ask,
    Move::Answer,
    Move::TakeBack,
    Move::AnswerOfAnother,
    Move::TakeBackOfAnother,
    Move::Lose,
    Move::Exit { written: false },
    Move::Exit { written: true },
    Move::ExitCleanly,
    Move::ExitForGood,
    Move::Speak,
    Move::Block,
    Move::Unblock,
    Move::TimerTooEarly,
    Move::Deadline,
    Move::DeadlineInTalk,
    Move::Start,
    Move::Restart,
    Move::Replace,
    Move::Drain,
    Move::Stop,
    Move::Kill,
];

impl World {
    pub(super) fn can(&self, made: Move) -> bool {
        match made {
            Move::LaunchSucceeds | Move::LaunchFails { .. } => self.process == Process::Launching,
            Move::Ready
            | Move::Lose
            | Move::Exit { .. }
            | Move::ExitCleanly
            | Move::ExitForGood => self.process == Process::Live,
            Move::Speak | Move::Block => self.submitted && self.process == Process::Live,
            Move::Unblock => self.pulse.stuck.is_some(),
            Move::Assign { .. } | Move::AssignToAnotherProcess => self.turn.is_none(),
            Move::Refuse | Move::End => self.submitted && self.process == Process::Live,
            Move::Cancel => self.turn.is_some(),
            // More at once are much like two.
            Move::Ask => self.submitted && self.process == Process::Live && self.open.len() < 2,
            Move::Answer | Move::TakeBack => !self.open.is_empty(),
            Move::Deadline => self.machine.deadline().is_some(),
            Move::DeadlineInTalk => self.submitted && self.process == Process::Live,
            _ => true,
        }
    }

    pub(super) fn make(&mut self, made: Move) {
        let turn = self.turn.unwrap_or(TURN_ZERO);
        let input = match made {
            Move::LaunchSucceeds => {
                self.process = Process::Live;
                return;
            }
            Move::LaunchFails { permanent } => {
                self.process = Process::None;
                let reason = "no such file".to_owned();
                Input::LaunchFailed { permanent, reason }
            }
            Move::Ready => Input::Ready,
            Move::Assign { own_limit } => {
                self.own_limit = own_limit;
                self.turns += 1;
                self.turn = Some(TurnId(self.turns));
                Input::Assign {
                    turn: TurnId(self.turns),
                    timeout: own_limit.then_some(Duration::from_secs(60)),
                    generation: self.machine.generation(),
                }
            }
            Move::AssignToAnotherProcess => {
                self.turns += 1;
                self.turn = Some(TurnId(self.turns));
                Input::Assign {
                    turn: TurnId(self.turns),
                    timeout: None,
                    // Of a process that is not there any more, or of none.
                    generation: self.machine.generation() + 1,
                }
            }
            Move::Refuse => Input::Refused(turn),
            Move::End => Input::TurnEnded(turn),
            Move::Cancel => Input::Cancel(turn),
            Move::EndOfAnother => Input::TurnEnded(TurnId(turn.0 + 1000)),
            Move::RefusalOfAnother => Input::Refused(TurnId(turn.0 + 1000)),
            Move::CancelOfAnother => Input::Cancel(TurnId(turn.0 + 1000)),
            Move::Ask => {
                self.questions += 1;
                Input::Asked(question(self.questions, turn, Act::Execute))
            }
            Move::Answer => Input::Answer(self.last_open().id, Answer::Allow),
            Move::TakeBack => Input::Withdrawn(self.last_open().request),
            Move::AnswerOfAnother => Input::Answer(PermissionId(u64::MAX), Answer::Allow),
            Move::TakeBackOfAnother => Input::Withdrawn(RequestId("another".to_owned())),
            Move::Lose => Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail: "gibberish".to_owned(),
            },
            Move::Exit { written } => self.exit(1, written),
            Move::ExitCleanly => self.exit(0, true),
            Move::ExitForGood => self.exit(125, true),
            Move::Speak => {
                self.pulse.heard = Some(self.now);
                return;
            }
            Move::Block => {
                self.pulse.stuck = Some(self.now);
                return;
            }
            Move::Unblock => {
                self.pulse.stuck = None;
                return;
            }
            Move::TimerTooEarly => Input::Timer(self.pulse),
            Move::Deadline => return self.wait(false),
            Move::DeadlineInTalk => return self.wait(true),
            Move::Start => Input::Start,
            Move::Restart => Input::Restart,
            Move::Replace => Input::Replace("worn".to_owned()),
            Move::Drain => Input::Drain,
            Move::Stop => Input::Stop,
            Move::Kill => Input::Kill,
        };
        self.feed(input);
    }

    fn exit(&mut self, code: i32, written: bool) -> Input {
        self.process = Process::None;
        if self
            .ready
            .is_some_and(|ready| self.now - ready >= Duration::from_secs(600))
        {
            self.restarts.clear();
        }
        self.ready = None;
        let exit = Exit {
            code: Some(code),
            signal: None,
        };
        let words = String::new();
        Input::Exited {
            exit,
            written,
            words,
        }
    }

    /// Lets the time pass, from look to look, until the state is another or the machine waits for nothing.
    fn wait(&mut self, in_talk: bool) {
        let before = (self.machine.state(), self.asked, self.open.len());
        for _ in 0..200 {
            let Some(deadline) = self.machine.deadline() else {
                return;
            };
            self.now = self.now.max(deadline);
            if in_talk {
                self.pulse.heard = Some(self.now);
            }
            self.feed(Input::Timer(self.pulse));
            if (self.machine.state(), self.asked, self.open.len()) != before {
                return;
            }
        }
    }
}
