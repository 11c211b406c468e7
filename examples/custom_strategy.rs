//! A strategy of your own: prompts with the same `repo` label go to the same instance while it is free.
//!
//! `cargo run --example custom_strategy` runs on the stand-in.

mod standin;

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;
use toolpool::{Candidate, Isolation, Route, RouteRequest, Strategy, Submission};

/// Rendezvous hashing: each label prefers the instances in an order of its own.
struct ByRepository;

impl Strategy for ByRepository {
    fn name(&self) -> &'static str {
        "by-repository"
    }

    fn route(&mut self, request: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        let repository = request.label("repo").unwrap_or_default();
        let rank = |candidate: &&Candidate| {
            let mut hasher = DefaultHasher::new();
            (repository, candidate.id).hash(&mut hasher);
            hasher.finish()
        };
        candidates
            .iter()
            .filter(|candidate| candidate.available)
            .max_by_key(rank)
            .map_or(Route::Wait, |candidate| Route::To(candidate.id))
    }
}

fn main() -> Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let cluster = standin::Choice::from_args()?
        .cluster()?
        .count(3)
        .strategy(ByRepository)
        .isolation(Isolation::Shared)
        .await?;
    for repository in ["web", "api", "docs", "web", "api", "docs"] {
        let prompt =
            Submission::text(format!("What is new in {repository}?")).label("repo", repository);
        let reply = cluster.ask(prompt).await?;
        println!(
            "{repository:>4} -> {}",
            reply.instance.as_deref().unwrap_or("nobody")
        );
    }
    cluster.shutdown().await;
    Ok(())
}
