//! Very many draws: what one may be, and what they are on the whole.

use std::time::Duration;

use super::Backoff;

const SEEDS: u64 = 10_000;
const DRAWS: usize = 200;

#[test]
fn ten_thousand_seeds_keep_to_the_envelope_and_are_even_on_the_whole() {
    let (base, cap) = (Duration::from_secs(10), Duration::from_secs(300));
    let mut steps = vec![base];
    while steps.len() < DRAWS {
        let last = steps[steps.len() - 1];
        steps.push((last * 2).min(cap));
    }
    let mut sums = vec![0.0; DRAWS];
    for seed in 0..SEEDS {
        let draws = Backoff::new(base, cap, seed).take(DRAWS);
        for ((delay, step), sum) in draws.zip(&steps).zip(&mut sums) {
            assert!(
                delay >= *step / 2 && delay <= *step,
                "{delay:?} for {step:?} with seed {seed}"
            );
            *sum += delay.as_secs_f64();
        }
    }
    for (draw, (sum, step)) in sums.iter().zip(&steps).enumerate() {
        let mean = sum / SEEDS as f64;
        let even = 0.75 * step.as_secs_f64();
        assert!(
            (mean / even - 1.0).abs() < 0.02,
            "draw {draw} is {mean} s in the mean, and {even} s would be even"
        );
    }
}
