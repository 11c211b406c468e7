//! The way to an instance's supervisor.
//!
//! Owns which orders fit its mailbox. Must not decide what is ordered. Invariant: no order is lost silently, and none is
//! waited for.

use tokio::sync::mpsc::error::TrySendError;

use super::Entry;
use crate::error::ControlError;
use crate::turn::{Order, Turn};

/// Places in an instance's mailbox that are kept for the orders which nobody could be told the refusal of: the cancel of a
/// turn that has just ended, the turn after it and the cancel of that, one drain, one start, and one conversation to go on with.
pub(crate) const KEPT_PLACES: usize = 6;

impl Entry {
    /// Sends an order without waiting; an instance that is gone needs none. No order is lost silently: those of an owner
    /// who waits for an answer are refused when the mailbox is nearly full, and what is left always finds a place. A turn
    /// is assigned when the one before has ended, and cancelled once.
    pub(crate) fn order(&mut self, order: Order) {
        let Some(orders) = &self.orders else { return };
        match order {
            Order::Restart(answer) | Order::Replace(_, answer) | Order::Answer(_, _, answer)
                if orders.capacity() <= KEPT_PLACES =>
            {
                let refusal = ControlError::NotReady {
                    instance: self.name.to_string(),
                    reason: "too many orders for it are waiting; ask again".to_owned(),
                };
                answer.send(Err(refusal)).ok();
                return;
            }
            Order::Drain if self.drained => return,
            Order::Drain => self.drained = true,
            Order::Restart(_) | Order::Replace(..) => self.drained = false,
            _ => {}
        }
        orders.try_send(order).ok();
    }

    /// Gives it a turn, for the process of that generation and no other; a task that is gone gives it back.
    pub(crate) fn give(&mut self, turn: Box<Turn>, generation: u64) -> Result<(), Box<Turn>> {
        let Some(orders) = &self.orders else {
            return Err(turn);
        };
        match orders.try_send(Order::Assign(turn, generation)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(order) | TrySendError::Closed(order)) => match order {
                Order::Assign(turn, _) => Err(turn),
                _ => Ok(()),
            },
        }
    }

    /// No more orders will come.
    pub(crate) fn dismiss(&mut self) {
        self.orders = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use tokio::sync::{mpsc, oneshot};
    use toolpool_pool_core::prompt::TurnId;

    use super::*;

    fn entry(orders: mpsc::Sender<Order>) -> Entry {
        Entry::new(
            Arc::from("main/1"),
            Arc::from("standin"),
            0,
            orders,
            String::new(),
            None,
            Instant::now(),
        )
    }

    #[test]
    fn a_mailbox_that_is_nearly_full_refuses_aloud_or_takes_the_order() {
        let (sender, mut orders) = mpsc::channel(2 * KEPT_PLACES);
        let mut entry = entry(sender);
        let mut asked = Vec::new();
        for _ in 0..10 {
            let (answer, heard) = oneshot::channel();
            entry.order(Order::Restart(answer));
            asked.push(heard);
        }
        entry.order(Order::Cancel(TurnId(1)));
        entry.order(Order::Cancel(TurnId(2)));
        for _ in 0..10 {
            entry.order(Order::Drain);
        }
        let refused = asked.iter_mut().filter_map(|heard| heard.try_recv().ok());
        let refused: Vec<_> = refused.collect();
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        let mut taken = (0, Vec::new(), 0);
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Restart(_) => taken.0 += 1,
                Order::Cancel(turn) => taken.1.push(turn.0),
                Order::Drain => taken.2 += 1,
                _ => {}
            }
        }
        assert_eq!(taken, (10 - refused.len(), vec![1, 2], 1));
    }

    #[test]
    fn a_drain_after_a_restart_is_an_order_of_its_own() {
        let (sender, mut orders) = mpsc::channel(64);
        let mut entry = entry(sender);
        entry.order(Order::Drain);
        entry.order(Order::Restart(oneshot::channel().0));
        entry.order(Order::Drain);
        let mut drains = 0;
        while let Ok(order) = orders.try_recv() {
            drains += usize::from(matches!(order, Order::Drain));
        }
        assert_eq!(drains, 2);
    }
}
