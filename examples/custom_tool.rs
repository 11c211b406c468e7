//! A tool of your own is one TOML file: here the calculator `bc`, or any other profile given as the first argument.
//!
//! `cargo run --example custom_tool`

mod standin;

use anyhow::Result;
use toolpool::{ToolProfile, launch_cluster};

/// A shell that answers each line of arithmetic. The end of a reply is a line that only this turn could have asked for.
const PROFILE: &str = r#"
name = "adder"
title = "adds with the shell's own arithmetic"
program = "sh"
protocol = "lines"

[lines]
submit = "echo $(({text}))\n"
sentinel = "echo {nonce}\n"
end = "{nonce}"
"#;

fn main() -> Result<()> {
    standin::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("adder.toml");
    std::fs::write(&path, PROFILE)?;
    let cluster = launch_cluster(ToolProfile::from_file(&path)?)
        .count(2)
        .await?;
    for sum in ["1 + 2", "6 * 7", "(2 + 3) * 4"] {
        match cluster.ask(sum).await {
            Ok(reply) => println!("{sum} = {}", reply.text),
            Err(error) => println!("{sum}: {error}"),
        }
    }
    cluster.shutdown().await;
    Ok(())
}
