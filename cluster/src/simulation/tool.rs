//! A made-up process: it answers, fails, asks, crashes, hangs, ignores signals and speaks when it should not.
//!
//! Owns what a process does and when. Must not know the machine that supervises it. Invariant: nothing happens after its
//! exit, and what it prints comes in order.

use std::time::{Duration, Instant};

use rand::Rng;
use toolpool_pool_core::Pulse;
use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::{Act, RequestId};

use super::Stage;
use super::judge::Place;

/// What a process does to the outside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Happening {
    Ready,
    /// It has read a byte of the prompt.
    Reads(TurnId),
    Prints(TurnId),
    Asks(TurnId, RequestId, Act),
    TakesBack(RequestId),
    Ends(TurnId, Outcome),
    Junk,
    TooLong,
    Exits,
}

#[derive(Debug)]
struct Current {
    turn: TurnId,
    fresh: bool,
    /// It waits for the answers to so many questions.
    asked: Vec<RequestId>,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) place: Place,
    began_anew: u64,
    current: Option<Current>,
    /// It has read a byte of the last prompt, whether that is over or not.
    has_read: bool,
    pulse: Pulse,
    coming: Vec<(Instant, Happening)>,
    ignores_terminate: bool,
    ignores_kill: bool,
    told_to_die: bool,
}

impl Process {
    pub(super) fn new(place: Place, stage: &mut Stage) -> Self {
        let mut process = Self {
            place,
            began_anew: 0,
            current: None,
            has_read: false,
            pulse: Pulse::default(),
            coming: Vec::new(),
            ignores_terminate: stage.mishap(25),
            ignores_kill: stage.mishap(4),
            told_to_die: false,
        };
        if !stage.mishap(5) {
            let ready = stage.within(1_000);
            process.coming.push((ready, Happening::Ready));
        }
        if stage.mishap(25) {
            let crash = stage.within(if stage.healed { 0 } else { 40_000 });
            process.exits_at(crash);
        }
        if stage.mishap(3) {
            let junk = stage.within(20_000);
            process.coming.push((junk, Happening::Junk));
        }
        process
    }

    pub(super) fn next_moment(&self) -> Option<Instant> {
        self.coming.iter().map(|(due, _)| *due).min()
    }

    /// What is due first.
    pub(super) fn take(&mut self, stage: &mut Stage) -> Option<Happening> {
        let due = self.next_moment().filter(|due| *due <= stage.now)?;
        let at = self.coming.iter().position(|(when, _)| *when == due)?;
        let (_, happening) = self.coming.remove(at);
        if !matches!(happening, Happening::Reads(_) | Happening::Exits) {
            self.pulse.heard = Some(stage.now);
        }
        match (&happening, &mut self.current) {
            (Happening::Reads(turn), Some(current)) => {
                self.has_read = true;
                if current.fresh {
                    self.began_anew += 1;
                }
                stage.judge.read(*turn, self.place, self.began_anew);
                if let Some(disk) = &stage.disk {
                    disk.look_at_read(*turn);
                }
            }
            (Happening::Ends(turn, _), Some(current)) if current.turn == *turn => {
                self.current = None;
            }
            _ => {}
        }
        Some(happening)
    }

    /// What can be seen of it.
    pub(super) fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// Whether it may have read a byte of the last prompt.
    pub(super) fn has_read(&self) -> bool {
        self.has_read
    }

    /// The protocol drops what is printed for a turn that is over.
    pub(super) fn works_on(&self, turn: TurnId) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.turn == turn)
            && self.has_read
    }

    /// Takes a prompt, and makes up what comes of it; false if the protocol refuses it.
    pub(super) fn submit(&mut self, turn: TurnId, fresh: bool, stage: &mut Stage) -> bool {
        if stage.mishap(3) {
            return false;
        }
        self.has_read = false;
        self.pulse = Pulse::default();
        self.current = Some(Current {
            turn,
            fresh,
            asked: Vec::new(),
        });
        let reads = stage.within(20);
        if stage.mishap(4) {
            self.exits_at(reads);
            return true;
        }
        if stage.mishap(3) {
            // Its standard input is full; nobody reads it.
            self.pulse.stuck = Some(stage.now);
            return true;
        }
        self.coming.push((reads, Happening::Reads(turn)));
        let later = stage.within(3_000).max(reads);
        self.coming.push((
            reads.max(later - Duration::from_millis(10)),
            Happening::Prints(turn),
        ));
        if stage.mishap(20) {
            for number in 0..stage.chance.random_range(1..=2) {
                let request = RequestId(format!("{turn}.{number}"));
                let act = [Act::Read, Act::Execute][stage.chance.random_range(0..2)];
                self.coming
                    .push((later, Happening::Asks(turn, request.clone(), act)));
                if stage.mishap(15) {
                    let takes_back = stage.within(10_000).max(later);
                    self.coming
                        .push((takes_back, Happening::TakesBack(request.clone())));
                }
                if let Some(current) = &mut self.current {
                    current.asked.push(request);
                }
            }
            return true;
        }
        self.goes_on(turn, later, stage);
        true
    }

    /// What follows once nothing is asked any more.
    fn goes_on(&mut self, turn: TurnId, later: Instant, stage: &mut Stage) {
        let fate = if stage.healed {
            0
        } else {
            stage.chance.random_range(0..100)
        };
        match fate {
            0..60 => self
                .coming
                .push((later, Happening::Ends(turn, Outcome::Completed))),
            60..70 => {
                let class =
                    [FailureClass::Overloaded, FailureClass::Auth][stage.chance.random_range(0..2)];
                let wait = stage.chance.random_range(1..30);
                let failure = Failure {
                    class,
                    message: "529".to_owned(),
                    retry_after: stage.percent(30).then(|| Duration::from_secs(wait)),
                };
                self.coming
                    .push((later, Happening::Ends(turn, Outcome::Failed(failure))));
            }
            70..80 => self.exits_at(later),
            80..86 => self.coming.push((later, Happening::Junk)),
            86..90 => self.coming.push((later, Happening::TooLong)),
            90..95 => {
                // It says so twice, the second time into the next turn.
                for after in [0, 700] {
                    let due = later + Duration::from_millis(after);
                    self.coming.push((due, Happening::Prints(turn)));
                    self.coming
                        .push((due, Happening::Ends(turn, Outcome::Completed)));
                }
            }
            // It hangs.
            _ => {}
        }
    }

    pub(super) fn answer(&mut self, request: &RequestId, stage: &mut Stage) {
        let Some(current) = &mut self.current else {
            return;
        };
        let asked = current.asked.len();
        current.asked.retain(|open| open != request);
        assert!(current.asked.len() < asked, "an answer to another question");
        let (turn, is_last) = (current.turn, current.asked.is_empty());
        self.coming
            .retain(|(_, coming)| *coming != Happening::TakesBack(request.clone()));
        if is_last {
            let later = stage.within(2_000);
            self.goes_on(turn, later, stage);
        }
    }

    /// Ends the running turn, if it listens.
    pub(super) fn interrupt(&mut self, stage: &mut Stage) {
        let listens = stage.config.interruptible && !stage.mishap(30);
        if let (true, Some(current)) = (listens, &self.current) {
            let turn = current.turn;
            let end = stage.within(1_000);
            self.coming
                .retain(|(_, coming)| matches!(coming, Happening::Exits | Happening::Reads(_)));
            let end = self.next_moment().map_or(end, |due| due.max(end));
            self.coming
                .push((end, Happening::Ends(turn, Outcome::Cancelled)));
        }
    }

    pub(super) fn terminate(&mut self, stage: &mut Stage) {
        if !self.ignores_terminate {
            let exit = stage.within(800);
            self.exits_at(exit);
        }
    }

    pub(super) fn kill(&mut self, stage: &mut Stage) {
        self.told_to_die = true;
        if !self.ignores_kill {
            let exit = stage.within(50);
            self.exits_at(exit);
        }
    }

    /// It can be given up: nothing ends it.
    pub(super) fn survives_everything(&self) -> bool {
        self.told_to_die
    }

    fn exits_at(&mut self, exit: Instant) {
        let is_known =
            |(due, coming): &(Instant, Happening)| *due <= exit && *coming == Happening::Exits;
        if !self.coming.iter().any(is_known) {
            self.coming
                .retain(|(due, coming)| *due <= exit && *coming != Happening::Exits);
            self.coming.push((exit, Happening::Exits));
        }
    }
}
