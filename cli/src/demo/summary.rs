//! What the demonstration has shown, in numbers.
//!
//! Owns the text. Must not know how it was played.

use std::time::Duration;

use hdrhistogram::Histogram;
use toolpool::{Outcome, Reply};

use crate::duration;

/// The family of which one line is shown.
const SHOWN: &str = "toolpool_turns_total{";

pub(super) fn text(
    replies: &[Reply],
    took: Duration,
    commits: &[String],
    url: &str,
    page: &str,
) -> String {
    let count = |word| {
        replies
            .iter()
            .filter(|reply| reply.outcome.word() == word)
            .count()
    };
    let outcomes: Vec<String> = [
        "completed",
        "failed",
        "cancelled",
        "expired",
        "indeterminate",
    ]
    .into_iter()
    .map(|word| (count(word), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let mut text = format!(
        "\n{} prompts on 3 instances: {} · {} · {:.1} turns a second\n",
        replies.len(),
        outcomes.join(", "),
        duration::show(took),
        replies.len() as f64 / took.as_secs_f64()
    );
    text.push_str(&format!(
        "turns      {}\n",
        spread(replies, |reply| reply.took)
    ));
    text.push_str(&format!(
        "in queue   {}\n",
        spread(replies, |reply| reply.queued)
    ));
    text.push_str(&format!("landed     {} commits on main\n", commits.len()));
    for commit in commits {
        text.push_str(&format!("             {commit}\n"));
    }
    text.push_str(&format!("metrics    {url} had, among others:\n"));
    let line = page
        .lines()
        .find(|line| line.starts_with(SHOWN) && line.contains("completed"))
        .unwrap_or("nothing, which is a fault");
    text.push_str(&format!("             {line}\n"));
    text.push_str(
        "next       toolpool doctor     which real tools are ready here\n           \
         toolpool ask --tool NAME \"…\"     toolpool batch --help\n",
    );
    text
}

fn spread(replies: &[Reply], time: impl Fn(&Reply) -> Duration) -> String {
    let mut histogram = Histogram::<u64>::new(3).expect("3 digits are allowed");
    for reply in replies
        .iter()
        .filter(|reply| reply.outcome == Outcome::Completed)
    {
        let micros = u64::try_from(time(reply).as_micros()).unwrap_or(u64::MAX);
        // It grows with its values, and a turn of centuries is not measured here.
        histogram.record(micros).ok();
    }
    let at = |quantile| format!("{} ms", histogram.value_at_quantile(quantile) / 1000);
    format!(
        "p50 {} · p95 {} · longest {} ms",
        at(0.5),
        at(0.95),
        histogram.max() / 1000
    )
}
