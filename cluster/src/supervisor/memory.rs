//! Whether the conversation of a process is worth going on with when the process has gone: a pure core.
//!
//! Owns what an instance's turns say about that. Must not know the conversation. Invariants: only a conversation that a
//! session is in outlives its process; one whose first turn after a resume took the process with it is left alone, or it
//! would take every process that comes.

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// A session has had a turn in the conversation.
    in_session: bool,
    /// The process is to go on with a conversation, and it is not known yet whether it does.
    awaited: bool,
    resumed: bool,
    /// How the turns of this process went, in the conversation that it has.
    turns: Turns,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turns {
    #[default]
    None,
    /// One was submitted, and none has come to an end.
    Begun,
    /// One has come to an end, whichever.
    Ended,
}

impl Memory {
    /// A process was started, to go on with what the one before has left or to begin anew.
    pub(super) fn on_process(&mut self, resumes: bool) {
        *self = Self {
            in_session: self.in_session && resumes,
            awaited: resumes,
            ..Self::default()
        };
    }

    /// The next process is to go on with the conversation of a session that it never had.
    pub(super) fn take_up(&mut self) {
        self.in_session = true;
    }

    /// It is ready. True if it was to go on with a conversation and does not.
    pub(super) fn on_ready(&mut self, resumed: bool) -> bool {
        let forgot = std::mem::take(&mut self.awaited) && !resumed;
        self.resumed = resumed;
        self.in_session &= resumed;
        forgot
    }

    /// A turn was submitted.
    pub(super) fn on_turn(&mut self, in_session: bool, fresh: bool) {
        if fresh {
            *self = Self::default();
        }
        self.in_session |= in_session;
        if self.turns == Turns::None {
            self.turns = Turns::Begun;
        }
    }

    /// The tool ended a turn.
    pub(super) fn on_end(&mut self) {
        self.turns = Turns::Ended;
    }

    /// Whether the next process should go on with the conversation.
    pub(super) fn is_worth_resuming(&self) -> bool {
        self.in_session && !(self.resumed && self.turns == Turns::Begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that has gone on with the conversation of a session.
    fn resumed() -> Memory {
        let mut memory = Memory::default();
        memory.on_turn(true, false);
        memory.on_process(true);
        assert!(!memory.on_ready(true), "nothing is forgotten");
        memory
    }

    #[test]
    fn only_what_a_session_is_in_is_worth_resuming() {
        // For each turn: in a session, fresh.
        let cases: [(&[(bool, bool)], bool); 6] = [
            (&[], false),
            (&[(false, false)], false),
            (&[(true, false)], true),
            (&[(true, false), (false, false)], true),
            (&[(true, false), (false, true)], false),
            (&[(false, false), (true, true)], true),
        ];
        for (turns, worth) in cases {
            let mut memory = Memory::default();
            memory.on_process(false);
            memory.on_ready(false);
            for (in_session, fresh) in turns {
                memory.on_turn(*in_session, *fresh);
            }
            assert_eq!(memory.is_worth_resuming(), worth, "{turns:?}");
        }
    }

    #[test]
    fn a_conversation_that_takes_the_process_with_it_is_resumed_once() {
        let mut memory = resumed();
        assert!(memory.is_worth_resuming(), "it ended between two turns");
        memory.on_turn(true, false);
        assert!(!memory.is_worth_resuming(), "in its first turn");
        memory.on_end();
        assert!(memory.is_worth_resuming(), "after a turn that ended");
        memory.on_turn(true, false);
        assert!(memory.is_worth_resuming(), "in a later turn");
    }

    #[test]
    fn a_fresh_turn_after_a_resume_is_a_conversation_like_any_other() {
        let mut memory = resumed();
        memory.on_turn(true, true);
        assert!(memory.is_worth_resuming());
    }

    #[test]
    fn whoever_was_to_go_on_and_does_not_is_told_once_and_has_nothing_to_leave() {
        let mut memory = Memory::default();
        memory.on_turn(true, false);
        memory.on_process(true);
        assert!(memory.on_ready(false));
        assert!(!memory.is_worth_resuming());
        memory.on_process(false);
        assert!(!memory.on_ready(false), "it was not to go on with anything");
    }
}
