//! Every accepted prompt is counted in exactly one place, whatever happens.

mod support;

use proptest::prelude::*;
use support::*;
use toolpool_cluster::InstanceState;

const INSTANCES: usize = 3;
const OUTCOMES: [&str; 5] = [
    "completed",
    "failed",
    "cancelled",
    "expired",
    "indeterminate",
];

/// What may happen next. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Step {
    Accept,
    Refuse,
    Begin {
        queued: usize,
        instance: usize,
    },
    HandBack(usize),
    End {
        running: usize,
        outcome: usize,
        ready: bool,
    },
    EndInQueue {
        queued: usize,
        outcome: usize,
    },
    Change {
        instance: usize,
        to: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = 0..100_usize;
    prop_oneof![
        4 => Just(Step::Accept),
        1 => Just(Step::Refuse),
        4 => (some.clone(), 1..=INSTANCES).prop_map(|(queued, instance)| Step::Begin { queued, instance }),
        1 => some.clone().prop_map(Step::HandBack),
        3 => (some.clone(), 0..5_usize, any::<bool>())
            .prop_map(|(running, outcome, ready)| Step::End { running, outcome, ready }),
        1 => (some, 0..5_usize).prop_map(|(queued, outcome)| Step::EndInQueue { queued, outcome }),
        2 => (1..=INSTANCES, 0..InstanceState::ALL.len())
            .prop_map(|(instance, to)| Step::Change { instance, to }),
    ]
}

/// The books as a cluster itself keeps them.
#[derive(Default)]
struct Model {
    accepted: u64,
    queued: Vec<u64>,
    running: Vec<(u64, usize)>,
    ended: u64,
}

impl Model {
    fn take(&mut self, step: &Step, story: &mut Story) {
        match *step {
            Step::Accept => {
                self.accepted += 1;
                self.queued.push(self.accepted);
                story.tell(accepted(self.accepted));
            }
            Step::Refuse => story.tell(refused("queue_full")),
            Step::Begin { queued, instance } if !self.queued.is_empty() => {
                let turn = self.queued.remove(queued % self.queued.len());
                self.running.push((turn, instance));
                story.tell(began(turn, instance));
            }
            Step::HandBack(running) if !self.running.is_empty() => {
                let (turn, instance) = self.running.remove(running % self.running.len());
                self.queued.insert(0, turn);
                story.tell(handed_back(turn, instance));
            }
            Step::End {
                running,
                outcome,
                ready,
            } if !self.running.is_empty() => {
                let (turn, instance) = self.running.remove(running % self.running.len());
                self.ended += 1;
                story.tell(ended(turn, instance, OUTCOMES[outcome], ready));
            }
            Step::EndInQueue { queued, outcome } if !self.queued.is_empty() => {
                let turn = self.queued.remove(queued % self.queued.len());
                self.ended += 1;
                story.tell(ended_in_queue(turn, OUTCOMES[outcome]));
            }
            Step::Change { instance, to } => {
                let state = InstanceState::ALL[to];
                story.tell(changed(instance, 1, InstanceState::Ready, state));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn accepted_is_ended_and_queued_and_in_flight(steps in prop::collection::vec(step(), 1..60)) {
        let mut story = Story::of(INSTANCES);
        let mut model = Model::default();
        for step in &steps {
            model.take(step, &mut story);
        }
        let samples = story.samples();
        let sum = |family: &str| -> f64 {
            let start = format!("{family}{{");
            samples.iter().filter(|(series, _)| series.starts_with(&start)).map(|(_, value)| value).sum()
        };
        let (ended, queued) = (sum("toolpool_turns_total"), sum("toolpool_queue_depth"));
        let running = sum("toolpool_turns_in_flight");
        prop_assert_eq!(ended, model.ended as f64);
        prop_assert_eq!(queued, model.queued.len() as f64);
        prop_assert_eq!(running, model.running.len() as f64);
        prop_assert_eq!(ended + queued + running, model.accepted as f64);
        prop_assert_eq!(sum("toolpool_instances"), INSTANCES as f64);
        prop_assert_eq!(sum("toolpool_instance_state"), INSTANCES as f64);
    }
}
