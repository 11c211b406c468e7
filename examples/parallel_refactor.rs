//! One change to many files, several at a time; each finished file is one commit on the branch you are on.
//!
//! `cargo run --example parallel_refactor` works on a repository of its own with the stand-in.
//! `cargo run --example parallel_refactor -- --tool aider a.py b.py -- --model NAME` works on yours, with aider.

mod standin;

use std::path::PathBuf;

use anyhow::Result;
use tokio::task::JoinSet;
use toolpool::Submission;
use toolpool::worktree::Landed;

fn main() -> Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let choice = standin::Choice::from_args()?;
    let (files, own) = if choice.tool.is_some() {
        (choice.rest.clone(), None)
    } else {
        let files: Vec<String> = (1..=8).map(|place| format!("module_{place}.py")).collect();
        let own = standin::repository(&files)?;
        (files, Some(own))
    };
    let folder = own
        .as_ref()
        .map_or_else(|| PathBuf::from("."), |own| own.path().to_owned());
    let cluster = choice.cluster()?.count(3).cwd(&folder).await?;

    let mut work = JoinSet::new();
    for file in files {
        let cluster = cluster.clone();
        let prompt = if choice.tool.is_some() {
            format!("Add a docstring to the top of {file}. Change nothing else.")
        } else {
            format!("edit {file}: \"\"\"What this module is for.\"\"\"")
        };
        work.spawn(async move {
            let submission = Submission::text(prompt).fresh().file(&file).land(&file);
            (file, cluster.ask(submission).await)
        });
    }
    while let Some(done) = work.join_next().await {
        let (file, reply) = done?;
        match reply {
            Ok(reply) => {
                let place = reply.instance.as_deref().unwrap_or("nobody");
                match reply.landed {
                    Some(Ok(Landed::Commit { commit, .. })) => {
                        println!(
                            "{file}: commit {} by {place}",
                            &commit[..10.min(commit.len())]
                        );
                    }
                    Some(Ok(Landed::Conflict { show, .. } | Landed::Blocked { show, .. })) => {
                        println!("{file}: kept aside, see it with: {show}");
                    }
                    Some(Ok(Landed::Nothing)) | None => println!("{file}: nothing changed"),
                    Some(Err(reason)) => println!("{file}: {reason}"),
                }
            }
            Err(error) => println!("{file}: {error}"),
        }
    }
    let report = cluster.shutdown().await;
    for kept in report.kept {
        println!(
            "{}: {}, see it with: {}",
            kept.instance, kept.reason, kept.show
        );
    }
    println!(
        "{}",
        standin::git(&folder, &["log", "--oneline", "-8"])?.trim_end()
    );
    Ok(())
}
