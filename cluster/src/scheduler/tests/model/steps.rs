//! What can happen to a cluster in a model, and what callers wish in it.

use std::time::Duration;

use proptest::prelude::*;

use crate::fit::GroupSet;
use crate::scheduler::Ticket;
use crate::session::OnLoss;

/// What a caller wishes, small enough to meet often.
#[derive(Clone, Debug)]
pub(in crate::scheduler::tests) struct Wish {
    pub(in crate::scheduler::tests) client: Option<u8>,
    pub(in crate::scheduler::tests) session: Option<u8>,
    pub(in crate::scheduler::tests) target: Option<usize>,
    /// The group of instances that it asks for.
    pub(in crate::scheduler::tests) group: Option<usize>,
    pub(in crate::scheduler::tests) fresh: bool,
    pub(in crate::scheduler::tests) on_loss: OnLoss,
    pub(in crate::scheduler::tests) timeout: Option<u64>,
}

/// What can happen. An index that names nothing at that moment makes the step an empty one.
#[derive(Clone, Debug)]
pub(in crate::scheduler::tests) enum Step {
    Submit(Wish),
    Cancel(usize),
    /// The instance's process becomes ready: a new one if it had none.
    Ready(usize),
    /// Its turn ends and it takes the next one.
    End(usize, bool),
    /// Its turn ends because the tool can be asked again after so many milliseconds only.
    Limit(usize, u64),
    /// Its turn ends because the login was refused.
    Refuse(usize),
    /// Its process ends; a running turn ends in doubt, or is handed back if nothing of it was written.
    Crash {
        instance: usize,
        written: bool,
    },
    /// It stops for good, by an operator or by itself; a running turn ends in doubt.
    Down(usize, bool),
    Wait(u64),
    /// It is to finish its turn and leave.
    Retire(usize),
    /// One more of a group: one that has left, or a new one.
    Add(usize),
    Forget(u8),
    Drain,
    Close,
}

pub(in crate::scheduler::tests) fn steps() -> impl Strategy<Value = Step> {
    let wish = (
        prop::option::weighted(0.6, 0u8..3),
        prop::option::weighted(0.5, 0u8..3),
        prop::option::weighted(0.2, 0usize..4),
        prop::option::weighted(0.4, 0usize..3),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.3, 1u64..100),
    )
        .prop_map(
            |(client, session, target, group, fresh, anew, timeout)| Wish {
                client,
                session,
                target,
                group,
                fresh,
                on_loss: if anew { OnLoss::Fresh } else { OnLoss::Fail },
                timeout,
            },
        );
    prop_oneof![
        10 => wish.prop_map(Step::Submit),
        3 => (0usize..12).prop_map(Step::Cancel),
        8 => (0usize..3).prop_map(Step::Ready),
        8 => (0usize..3, any::<bool>()).prop_map(|(instance, good)| Step::End(instance, good)),
        1 => (0usize..3, 1u64..100).prop_map(|(instance, millis)| Step::Limit(instance, millis)),
        2 => (0usize..3).prop_map(Step::Refuse),
        3 => (0usize..3, any::<bool>()).prop_map(|(instance, written)| Step::Crash { instance, written }),
        1 => (0usize..3, any::<bool>()).prop_map(|(instance, failed)| Step::Down(instance, failed)),
        3 => (0u64..60).prop_map(Step::Wait),
        1 => (0usize..4).prop_map(Step::Retire),
        2 => (0usize..3).prop_map(Step::Add),
        1 => (0u8..3).prop_map(Step::Forget),
        1 => Just(Step::Drain),
    ]
}

impl Wish {
    /// It may run wherever it fits.
    pub(super) fn is_free(&self) -> bool {
        self.session.is_none() && !self.fresh
    }
}

pub(super) fn ticket_of(wish: &Wish) -> Ticket {
    Ticket {
        client: wish.client.map(|client| format!("c{client}").into()),
        session: wish.session.map(key),
        on_loss: wish.on_loss,
        target: wish.target,
        groups: wish.group.map_or(GroupSet::ALL, GroupSet::of),
        labels: Vec::new(),
        fresh: wish.fresh,
        bytes: 1,
        queue_timeout: wish.timeout.map(Duration::from_millis),
    }
}

pub(super) fn key(session: u8) -> String {
    format!("s{session}")
}
