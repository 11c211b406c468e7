//! The smallest cluster: three instances, six prompts, the account at the end.
//!
//! `cargo run --example simple_pool` runs on the stand-in; `… -- --tool aider` on the real thing.

mod standin;

use toolpool::{Isolation, Routing, launch_cluster};

fn main() -> anyhow::Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let cluster = launch_cluster(standin::tool()?)
        .count(3)
        .routing(Routing::RoundRobin)
        .isolation(Isolation::Shared)
        .await?;
    for question in 1..=6 {
        let reply = cluster
            .ask(format!("What is {question} times {question}?"))
            .await?;
        println!(
            "{}: {} ({:.1?})",
            reply.instance.as_deref().unwrap_or("nobody"),
            reply.text,
            reply.took
        );
    }
    let books = cluster.shutdown().await.books;
    println!(
        "{} of {} prompts completed",
        books.completed, books.accepted
    );
    Ok(())
}
