//! Three reviewers look at the same change, each in its own role; their findings come as they are ready.
//!
//! `cargo run --example multi_agent_review` runs on the stand-in;
//! `git diff main | cargo run --example multi_agent_review -- --tool aider` reviews a real change with a real tool.

mod standin;

use std::io::{IsTerminal, Read};
use std::time::Duration;

use anyhow::{Context, Result};
use toolpool::{Isolation, Outcome};

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
    let cluster = choice
        .cluster()?
        .count(ROLES.len())
        .isolation(Isolation::Shared)
        .await?;
    for (place, (role, task)) in ROLES.iter().enumerate() {
        let prompt = format!("You review for {role}. {task} Do not edit files.\n\n{change}");
        cluster.send_to(place, prompt).await?;
    }
    for _ in ROLES {
        let reply = cluster.read_any(Duration::from_secs(600)).await?;
        let name = reply.instance.context("a reply without an instance")?;
        let place = cluster.instances().iter().position(|known| *known == name);
        let (role, _) = ROLES[place.context("an unknown instance")?];
        match reply.outcome {
            Outcome::Completed => {
                println!(
                    "## {role} ({name}, {:.1?})\n{}\n",
                    reply.took,
                    reply.text.trim_end()
                );
            }
            other => println!("## {role} ({name}): no review, {}\n", other.word()),
        }
    }
    let books = cluster.shutdown().await.books;
    println!("{} of {} reviews", books.completed, books.accepted);
    Ok(())
}
