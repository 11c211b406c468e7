//! What may be told only when the journal has it: a pure core.
//!
//! Owns the line of facts that wait for their records. Must not know the facts, nor where records are kept. Invariant: facts
//! leave in the order in which they came about, each when its record, and those of all before it, are durable or cannot be.

use std::collections::VecDeque;

use crate::planted::planted;
use crate::store::StoreError;

/// What a fact waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A prompt may be called accepted.
    Accept,
    /// Its first byte may be written to a tool.
    Dispatch,
    /// It was not written after all.
    HandBack,
    /// Its end may be told.
    End,
}

impl Point {
    /// Whether it is not waited for, by a bug that was put in.
    fn is_skipped(self) -> bool {
        match self {
            Self::Accept => planted("accepted_before_durable"),
            Self::Dispatch => planted("dispatched_before_durable"),
            Self::End => planted("ended_before_durable"),
            Self::HandBack => false,
        }
    }
}

/// What became of a record, as far as it is known.
type Known = Option<Result<(), StoreError>>;

/// Facts in their order.
#[derive(Debug)]
pub(crate) struct Line<F> {
    facts: VecDeque<(F, Known)>,
    /// The number of the first fact in the line.
    first: u64,
}

impl<F> Default for Line<F> {
    fn default() -> Self {
        Self {
            facts: VecDeque::new(),
            first: 0,
        }
    }
}

impl<F> Line<F> {
    pub(crate) fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Whether a fact's time has come.
    #[cfg(test)]
    pub(crate) fn has_next(&self) -> bool {
        self.facts.front().is_some_and(|(_, known)| known.is_some())
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = &F> {
        self.facts.iter().map(|(fact, _)| fact)
    }

    /// Takes in a fact that waits for nothing but those before it.
    pub(crate) fn push(&mut self, fact: F) {
        self.facts.push_back((fact, Some(Ok(()))));
    }

    /// Takes in a fact that waits for a record, and gives the number by which it is told of.
    pub(crate) fn wait(&mut self, point: Point, fact: F) -> u64 {
        let known = point.is_skipped().then_some(Ok(()));
        self.facts.push_back((fact, known));
        self.first + self.facts.len() as u64 - 1
    }

    /// The record of that number is durable, or cannot be.
    pub(crate) fn settle(&mut self, number: u64, result: Result<(), StoreError>) {
        let at = number.checked_sub(self.first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some((_, known)) = at.and_then(|at| self.facts.get_mut(at)) {
            known.get_or_insert(result);
        }
    }

    /// No record will be durable any more.
    pub(crate) fn fail(&mut self, error: &StoreError) {
        for (_, known) in &mut self.facts {
            known.get_or_insert_with(|| Err(error.clone()));
        }
    }

    /// The next fact whose time has come, and what became of its record.
    pub(crate) fn next(&mut self) -> Option<(F, Result<(), StoreError>)> {
        self.facts.front()?.1.as_ref()?;
        let (fact, known) = self.facts.pop_front()?;
        self.first += 1;
        Some((fact, known?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> StoreError {
        StoreError::Failed {
            path: "journal.db".to_owned(),
            detail: "EIO".to_owned(),
        }
    }

    fn told(line: &mut Line<&'static str>) -> Vec<(&'static str, bool)> {
        std::iter::from_fn(|| line.next())
            .map(|(fact, result)| (fact, result.is_ok()))
            .collect()
    }

    #[test]
    fn a_fact_waits_for_its_record_and_for_all_before_it() {
        let mut line = Line::default();
        let accepted = line.wait(Point::Accept, "accepted");
        line.push("ready");
        let ended = line.wait(Point::End, "ended");
        assert_eq!(told(&mut line), []);
        line.settle(ended, Ok(()));
        assert_eq!(told(&mut line), [], "the first one is not known yet");
        line.settle(accepted, Ok(()));
        let all = [("accepted", true), ("ready", true), ("ended", true)];
        assert_eq!(told(&mut line), all);
        assert!(line.is_empty());
        line.settle(ended, Err(failed()));
        let next = line.wait(Point::End, "next");
        line.settle(accepted, Ok(()));
        assert_eq!(told(&mut line), [], "an old number is nobody's");
        line.settle(next, Ok(()));
        assert_eq!(told(&mut line), [("next", true)]);
    }

    #[test]
    fn a_failure_is_that_of_all_that_wait_and_of_nothing_that_is_durable() {
        let mut line = Line::default();
        let first = line.wait(Point::End, "first");
        let second = line.wait(Point::End, "second");
        let third = line.wait(Point::Dispatch, "third");
        line.settle(second, Ok(()));
        line.settle(first, Err(failed()));
        line.fail(&failed());
        line.settle(third, Ok(()));
        let all = [("first", false), ("second", true), ("third", false)];
        assert_eq!(told(&mut line), all);
    }
}
