//! Which instances are on duty, and which stand by as spares.
//!
//! Owns the number of each group that is to be on duty. Must not know why an instance is missing. Invariant: as many of a
//! group are on duty as are wanted, if there are so many; and none of them is missing while a spare is ready.

use std::time::Instant;

use super::{Decision, Scheduler};
use crate::planted::planted;

impl Scheduler {
    /// So many instances of a group are to be on duty from now on.
    pub(crate) fn resize(
        &mut self,
        now: Instant,
        group: usize,
        count: usize,
        out: &mut Vec<Decision>,
    ) {
        self.duty[group] = count;
        self.muster(now, out);
    }

    /// Whether an instance stands by.
    pub(crate) fn stands_by(&self, instance: usize) -> bool {
        !self.slots[instance].on_duty
    }

    /// Lets ready spares take the places of those that are missing.
    pub(super) fn muster(&mut self, now: Instant, out: &mut Vec<Decision>) {
        let mut changed = false;
        for group in 0..self.duty.len() {
            while self.muster_one(group, out) {
                changed = true;
            }
        }
        if changed {
            self.route_all(now, out);
        }
    }

    /// True if an instance has gone on duty or off.
    fn muster_one(&mut self, group: usize, out: &mut Vec<Decision>) -> bool {
        let members = || {
            let slots = self.slots.iter().enumerate();
            slots.filter(|(_, slot)| slot.group == group && !slot.retired)
        };
        let on_duty = members().filter(|(_, slot)| slot.on_duty);
        let missing = on_duty.clone().find(|(_, slot)| slot.is_missing());
        let missing = missing.map(|(instance, _)| instance);
        let spares = members().filter(|(_, slot)| !slot.on_duty);
        let ready = spares.clone().find(|(_, slot)| slot.is_available());
        let ready = ready.map(|(instance, _)| instance);
        let count = on_duty.clone().count();
        if count < self.duty[group] {
            let next = ready.or_else(|| spares.map(|(instance, _)| instance).next());
            let Some(next) = next else { return false };
            self.slots[next].on_duty = true;
            return true;
        }
        if count > self.duty[group] {
            let mut on_duty = on_duty.map(|(instance, _)| instance);
            let last = on_duty.next_back();
            let Some(off) = missing.or(last) else {
                return false;
            };
            self.slots[off].on_duty = false;
            return true;
        }
        let (Some(missing), Some(spare)) = (missing, ready) else {
            return false;
        };
        if planted("spare_idle") {
            return false;
        }
        self.slots[missing].on_duty = false;
        self.slots[spare].on_duty = true;
        out.push(Decision::Relieved {
            instance: spare,
            missing,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toolpool_routing::RoundRobin;

    use super::*;
    use crate::instance::InstanceState::{self, Backoff, Ready, Starting};

    fn scheduler(duty: usize, spares: usize) -> (Scheduler, Instant) {
        let now = Instant::now();
        let strategy = Box::new(RoundRobin::new());
        let mut scheduler = Scheduler::new(&vec![0; duty + spares], 10, strategy, now);
        scheduler.resize(now, 0, duty, &mut Vec::new());
        (scheduler, now)
    }

    fn on_duty(scheduler: &Scheduler) -> Vec<usize> {
        let slots = scheduler.slots.iter().enumerate();
        let on_duty = slots.filter(|(_, slot)| slot.on_duty && !slot.retired);
        on_duty.map(|(instance, _)| instance).collect()
    }

    fn becomes(
        scheduler: &mut Scheduler,
        now: Instant,
        instance: usize,
        state: InstanceState,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        scheduler.on_instance(now, instance, state, &mut out);
        out
    }

    #[test]
    fn a_spare_takes_the_place_of_one_that_is_missing_and_that_one_stands_by_when_it_is_back() {
        let (mut scheduler, now) = scheduler(2, 1);
        assert_eq!(on_duty(&scheduler), [0, 1]);
        assert_eq!(
            becomes(&mut scheduler, now, 2, Ready),
            [],
            "the others start yet"
        );
        for instance in 0..2 {
            becomes(&mut scheduler, now, instance, Ready);
        }
        let relieved = Decision::Relieved {
            instance: 2,
            missing: 0,
        };
        assert_eq!(becomes(&mut scheduler, now, 0, Backoff), [relieved]);
        assert_eq!(on_duty(&scheduler), [1, 2]);
        assert_eq!(
            becomes(&mut scheduler, now, 1, Backoff),
            [],
            "there is no other spare"
        );
        becomes(&mut scheduler, now, 0, Starting);
        let relieved = Decision::Relieved {
            instance: 0,
            missing: 1,
        };
        assert_eq!(becomes(&mut scheduler, now, 0, Ready), [relieved]);
        assert_eq!(becomes(&mut scheduler, now, 1, Ready), []);
        assert_eq!(on_duty(&scheduler), [0, 2]);
    }

    proptest! {
        #[test]
        fn as_many_as_wanted_are_on_duty_and_none_is_missing_while_a_spare_is_ready(
            spares in 0usize..3,
            steps in proptest::collection::vec((0usize..6, 0usize..4, 0usize..3), 0..80),
        ) {
            let (mut scheduler, now) = scheduler(2, spares);
            let mut wanted = 2;
            for (step, instance, state) in steps {
                let count = scheduler.slots.len();
                let mut out = Vec::new();
                match step {
                    0 => scheduler.retire(now, instance % count, &mut out),
                    1 if count < 6 => scheduler.add(now, count, 0, false, &mut out),
                    2 => {
                        wanted = 1 + state;
                        scheduler.resize(now, 0, wanted, &mut out);
                    }
                    _ => {
                        let state = [Ready, Backoff, Starting][state];
                        scheduler.on_instance(now, instance % count, state, &mut out);
                    }
                }
                let there = scheduler.slots.iter().filter(|slot| !slot.retired);
                let on_duty = there.clone().filter(|slot| slot.on_duty);
                prop_assert_eq!(on_duty.clone().count(), wanted.min(there.clone().count()));
                let missing = on_duty.clone().any(|slot| slot.is_missing());
                let ready = there.clone().any(|slot| !slot.on_duty && slot.is_available());
                prop_assert!(!(missing && ready));
            }
        }
    }
}
