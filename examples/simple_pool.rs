//! The smallest cluster: three instances, six prompts, the account at the end.
//!
//! `cargo run --example simple_pool` runs on the stand-in; `cargo run --example simple_pool -- --tool aider` on the real
//! thing, with `-- --model NAME` for aider itself behind it.

mod standin;

use anyhow::Result;
use toolpool::{Isolation, Routing};

fn main() -> Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let cluster = standin::Choice::from_args()?
        .cluster()?
        .count(3)
        .routing(Routing::RoundRobin)
        .isolation(Isolation::Shared)
        .await?;
    for number in 1..=6 {
        let reply = cluster
            .ask(format!("What is {number} times {number}?"))
            .await?;
        println!(
            "{}: {} ({:.1?})",
            reply.instance.as_deref().unwrap_or("nobody"),
            reply.text.trim_end(),
            reply.took
        );
    }
    let health = cluster.check_health().await?;
    println!("{} of {} instances are ready", health.ready, health.total);
    let books = cluster.shutdown().await.books;
    println!(
        "{} of {} prompts completed",
        books.completed, books.accepted
    );
    Ok(())
}
