//! Three reviewers look at the same change, each in its own role and with a tool of its own; their findings come as they
//! are ready.
//!
//! `cargo run --example multi_agent_review` runs on the stand-in under three names;
//! `git diff main | cargo run --example multi_agent_review -- --tool codex --tool claude` reviews a real change with real
//! tools, which share the roles.

mod standin;

use std::io::{IsTerminal, Read};

use anyhow::Result;
use tokio::task::JoinSet;
use toolpool::{AskError, Group, Isolation, Reply, Submission, launch_cluster};

const ROLES: [(&str, &str); 3] = [
    ("security", "Look for holes that an attacker could use."),
    ("performance", "Look for needless work on hot paths."),
    (
        "readability",
        "Look for what the next reader will misunderstand.",
    ),
];

const SAMPLE: &str = "\
--- a/auth.rs
+++ b/auth.rs
-    if verify(token) { accept() }
+    if token.len() > 8 { accept() }
";

fn main() -> Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let choice = standin::Choice::from_args()?;
    let mut change = String::new();
    if choice.tool.is_some() && !std::io::stdin().is_terminal() {
        std::io::stdin().read_to_string(&mut change)?;
    } else {
        change.push_str(SAMPLE);
    }
    // Nobody edits anything here, so all may share the folder.
    let cluster = launch_cluster(reviewers(&choice)?)
        .isolation(Isolation::Shared)
        .await?;
    let mut reviews = JoinSet::new();
    for (role, task) in ROLES {
        let cluster = cluster.clone();
        let prompt = format!("You review for {role}. {task} Do not edit files.\n\n{change}");
        reviews.spawn(async move {
            (
                role,
                cluster
                    .ask(Submission::text(prompt).fresh().role(role))
                    .await,
            )
        });
    }
    while let Some(review) = reviews.join_next().await {
        let (role, answer) = review?;
        match answer {
            Ok(reply) => println!(
                "## {role} ({}, {:.1?})\n{}\n",
                place(&reply),
                reply.took,
                reply.text.trim_end()
            ),
            Err(AskError::Turn(reply)) => println!(
                "## {role} ({}): no review, {}\n",
                place(&reply),
                reply.outcome.word()
            ),
            Err(refusal) => println!("## {role}: no review, {refusal}\n"),
        }
    }
    let books = cluster.shutdown().await.books;
    println!("{} of {} reviews", books.completed, books.accepted);
    Ok(())
}

/// One instance for each role. The tools that were chosen take the roles in turn.
fn reviewers(choice: &standin::Choice) -> Result<Vec<Group>> {
    let chosen: Vec<&String> = choice.tool.iter().chain(&choice.more_tools).collect();
    let mut groups = Vec::new();
    for (turn, (role, _)) in ROLES.iter().enumerate() {
        let group = if chosen.is_empty() {
            Group::new(standin::profile(&format!("{role}-standin"))?)
        } else {
            Group::new(chosen[turn % chosen.len()].as_str()).args(&choice.tool_args)
        };
        groups.push(group.role(*role));
    }
    Ok(groups)
}

/// `main/2, codex`
fn place(reply: &Reply) -> String {
    let instance = reply.instance.as_deref().unwrap_or("nobody");
    format!("{instance}, {}", reply.tool.as_deref().unwrap_or("no tool"))
}
