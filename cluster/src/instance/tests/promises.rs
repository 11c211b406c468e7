//! What has to be true of every action, of every question, and whenever the machine is at rest.

use super::*;

impl World {
    /// Exactly one end: a question that has had its own is not here any more.
    fn settle(&mut self, settled: &Question, settlement: Settlement, input: &Input) {
        let at = self.open.iter().position(|(open, _)| open == settled);
        let until = at.map(|at| self.open.remove(at).1);
        if until.is_some() && self.open.is_empty() {
            self.quiet_from = self.now;
        }
        match (settlement, input) {
            (Settlement::Answered(answer, AnsweredBy::Person), Input::Answer(id, given)) => {
                assert_eq!((settled.id, answer), (*id, *given), "an answer of another");
                assert!(until.is_some(), "answered twice or unasked");
            }
            (Settlement::Answered(Answer::Deny, AnsweredBy::Timeout), Input::Timer(_)) => {
                assert!(until.is_some_and(|until| until <= self.now), "too early");
            }
            (Settlement::Answered(Answer::Deny, AnsweredBy::Cancel), Input::Asked(asked)) => {
                assert!(self.interrupted && asked == settled);
            }
            (Settlement::Withdrawn, Input::Withdrawn(request)) => {
                assert_eq!((until.is_some(), &settled.request), (true, request));
            }
            (Settlement::Withdrawn, _) => {
                assert!(until.is_some(), "settled twice");
                let goes_on = self.process == Process::Live && self.asked == Asked::No;
                assert!(!goes_on || matches!(input, Input::Cancel(_)) || self.turn.is_none());
            }
            other => panic!("{other:?}"),
        }
        if matches!(settlement, Settlement::Answered(..)) {
            assert!(self.process == Process::Live && self.asked == Asked::No);
        }
    }

    /// Judges an action in the light of the input that led to it. True if a start was abandoned.
    pub(super) fn perform(
        &mut self,
        action: &Action,
        input: &Input,
        was_ready: bool,
        disowns: bool,
    ) -> bool {
        match action {
            Action::Spawn => {
                assert_eq!(self.process, Process::None, "a second process");
                assert!(self.wanted, "nobody wants it up");
                assert_eq!(self.open_until, None, "the breaker is open");
                self.process = Process::Launching;
                self.asked = Asked::No;
                self.spawns += 1;
            }
            Action::Submit(turn) => {
                assert!(was_ready && self.process == Process::Live);
                let another =
                    matches!(input, Input::Assign { generation, .. } if *generation != self.spawns);
                assert!(!another, "it was for another process");
                assert_eq!(
                    self.asked,
                    Asked::No,
                    "a prompt for a process that is to end"
                );
                assert_eq!(self.turn, Some(*turn));
                assert!(!std::mem::replace(&mut self.submitted, true), "sent twice");
                self.pulse = Pulse::default();
                self.quiet_from = self.now;
            }
            Action::Interrupt => {
                assert!(self.submitted && self.process == Process::Live);
                assert!(!std::mem::replace(&mut self.interrupted, true));
            }
            Action::Ask {
                question, until, ..
            } => {
                assert!(matches!(input, Input::Asked(asked) if asked == question));
                assert!(!self.interrupted && *until > self.now);
                self.open.push((question.clone(), *until));
            }
            Action::Settle(question, settlement) => self.settle(question, *settlement, input),
            Action::NotOpen(id) => {
                assert!(matches!(input, Input::Answer(given, _) if given == id));
                assert!(self.open.iter().all(|(open, _)| open.id != *id));
            }
            Action::Terminate => {
                assert_eq!(self.asked, Asked::No);
                let hung = matches!(input, Input::Timer(_)) && self.submitted;
                assert!(
                    !hung || self.own_limit || self.open.is_empty(),
                    "killed as hung while it waits for somebody"
                );
                if let Phase::Stopping {
                    doubt: Some((_, doubt)),
                    ..
                } = &self.machine.phase
                    && hung
                {
                    let [quiet, stuck] = self.silence();
                    let is_due = match &doubt.detail {
                        detail if detail.contains("first-byte") => quiet.0 >= quiet.1,
                        detail if detail.contains("silence") => quiet.0 >= quiet.1,
                        detail if detail.contains("write") => stuck.0 >= stuck.1,
                        _ => true,
                    };
                    assert!(is_due, "{doubt:?} after {quiet:?} and {stuck:?}");
                }
                self.asked = Asked::ToTerminate;
            }
            Action::Kill => {
                assert_eq!(self.asked, Asked::ToTerminate, "SIGTERM comes first");
                self.asked = Asked::ToDie;
                if self.process == Process::Launching {
                    self.process = Process::None;
                    return true;
                }
            }
            Action::Disown => {
                assert_eq!(self.asked, Asked::ToDie, "given up without a SIGKILL");
                self.process = Process::None;
            }
            Action::Doubt(turn, doubt) => {
                assert!(
                    self.submitted,
                    "nothing was written, so nothing is in doubt"
                );
                assert!(
                    self.process == Process::None || disowns,
                    "its process still lives"
                );
                let unwritten = matches!(input, Input::Exited { written: false, .. });
                assert!(!unwritten, "nobody has read a byte of it");
                assert!(!doubt.detail.is_empty());
                self.answer(*turn);
            }
            Action::HandBack(turn) => {
                let unwritten = matches!(input, Input::Exited { written: false, .. });
                assert!(!self.submitted || unwritten, "a byte of it may be read");
                self.answer(*turn);
            }
            Action::Changed { from, to, reason } => {
                assert_eq!(*from, self.shown, "a change that nobody was told of");
                assert_ne!(from, to);
                assert!(!reason.is_empty());
                self.shown = *to;
            }
            Action::BreakerChanged(state) => {
                if let (Some(until), BreakerState::HalfOpen) = (self.open_until, state) {
                    assert!(self.now >= until, "the probe is too early");
                }
                self.open_until = match state {
                    BreakerState::Open { until } => Some(*until),
                    BreakerState::Closed | BreakerState::HalfOpen => None,
                };
            }
        }
        false
    }

    /// A restart that nobody has asked for: no more of them than allowed, or one at a time and after a wait.
    pub(super) fn plan_restart(&mut self, planned: Instant) {
        let InstanceConfig {
            restarts, breaker, ..
        } = &self.machine.config;
        let burst = restarts.burst;
        let recent = |when: &&Instant| planned.saturating_duration_since(**when) < burst.within;
        let recent = self.restarts.iter().filter(recent).count();
        let wait = planned - self.now;
        assert!(
            recent < burst.restarts as usize || wait >= breaker.open_for.min(LONGEST_WAIT) / 2,
            "restart {} within {burst:?} after {wait:?}",
            recent + 1
        );
        self.restarts.push(planned);
    }

    /// What must be true whenever the machine is at rest.
    pub(super) fn look(&mut self) {
        let state = self.machine.state();
        if state == InstanceState::Ready && self.ready.is_none() {
            self.ready = Some(self.now);
        }
        let watched = self.submitted && self.asked == Asked::No && !self.interrupted;
        let looked = self.looked || self.machine.deadline() > Some(self.now);
        if watched && looked && self.open.is_empty() {
            for (lasts, limit) in self.silence() {
                assert!(
                    lasts < limit.saturating_add(HEARING),
                    "silent for {lasts:?} and still trusted"
                );
            }
        }
        assert_eq!(state, self.shown, "a change was not reported");
        assert_eq!(self.machine.generation(), self.spawns);
        let waits = !matches!(
            state,
            InstanceState::Ready | InstanceState::Stopped | InstanceState::Failed
        );
        assert!(
            !waits || self.machine.deadline().is_some(),
            "{state:?} may last for ever"
        );
        let expected: &[Process] = match state {
            InstanceState::Starting | InstanceState::Stopping => {
                &[Process::Launching, Process::Live]
            }
            InstanceState::Ready
            | InstanceState::Busy
            | InstanceState::Waiting
            | InstanceState::Draining => &[Process::Live],
            _ => &[Process::None],
        };
        assert!(
            expected.contains(&self.process),
            "{state:?} with {:?}",
            self.process
        );
        let runs = state.runs_turn();
        assert!(runs || self.open.is_empty(), "a question in {state:?}");
        assert_eq!(
            state == InstanceState::Waiting,
            state != InstanceState::Draining && !self.open.is_empty()
        );
        assert!(
            if runs {
                self.submitted
            } else {
                !self.submitted || state == InstanceState::Stopping
            },
            "a turn without an end in {state:?}"
        );
        assert_eq!(self.turn.is_some(), self.submitted, "a turn was lost");
        assert_eq!(
            state == InstanceState::Tripped,
            self.tripped(),
            "{:?}",
            self.open_until
        );
    }

    fn tripped(&self) -> bool {
        self.open_until.is_some() && self.wanted
    }

    /// How long the tool has shown no sign of life, and how long it may.
    fn silence(&self) -> [(Duration, Duration); 2] {
        let since = |when: Instant| self.now - when.max(self.quiet_from);
        let limits = &self.machine.config;
        [
            match self.pulse.heard {
                Some(heard) => (since(heard), limits.silence_timeout),
                None => (since(self.quiet_from), limits.first_byte_timeout),
            },
            match self.pulse.stuck {
                Some(stuck) => (since(stuck), limits.write_timeout),
                None => (Duration::ZERO, limits.write_timeout),
            },
        ]
    }
}
