//! `toolpool demo`: a whole cluster at work, without an account or a network.
//!
//! Owns the order of the play. Must not know how the scene is built or shown. Invariant: it ends by itself, and leaves
//! neither a process nor a file behind.

mod scene;
mod script;
mod summary;
mod view;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use toolpool::{AskError, Event, EventKind, InstanceState, Reply, Submission};

use crate::console::{Console, Tone, print};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running::{self, Running};
use crate::settings::Settings;
use crate::story;
use scene::Scene;
use view::View;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// Longest wait for the crashed instance after the last reply; it usually comes back long before that.
const RECOVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(_args: DemoArgs) -> Result<Exit, CliError> {
    let console = Console::new(false);
    let mut interrupts = Interrupts::listen()?;
    let scene = Scene::build().await?;
    let mut settings =
        Settings::standins(scene.folder(), script::INSTANCES, script::rules()).await?;
    settings.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    console.tell(
        Tone::Plain,
        &format!(
            "a small git repository in {}, gone again at the end",
            scene.folder().display()
        ),
    );
    let mut running = running::launch(&settings, &mut interrupts, console).await?;
    let played = play(&mut running, &mut interrupts, console).await;
    let page = match &running.exporter {
        Some(exporter) => exporter.scrape().await.unwrap_or_default(),
        None => String::new(),
    };
    let url = running
        .exporter
        .as_ref()
        .map(|exporter| exporter.url())
        .unwrap_or_default();
    // The last work is put aside or brought home before the folder goes.
    let shutdown = running.stop(&mut interrupts, Console::new(true)).await;
    let commits = scene.commits().await;
    scene.remove()?;
    let (replies, took) = played.map_err(|error| match interrupts.exit() {
        Some(_) => error.telling(&story::books(&shutdown.books)),
        None => error,
    })?;
    print(summary::text(&replies, took, &commits, &url, &page).as_bytes())?;
    Ok(Exit::Done)
}

async fn play(
    running: &mut Running,
    interrupts: &mut Interrupts,
    console: Console,
) -> Result<(Vec<Reply>, Duration), CliError> {
    let started = Instant::now();
    let mut asking = JoinSet::new();
    let mut view = View::new(&running.cluster.instances(), script::PROMPTS.len(), console);
    for prompt in script::PROMPTS {
        let stream = running
            .cluster
            .stream(Submission::text(*prompt).land(*prompt))
            .await?;
        view.submitted(stream.turn(), prompt);
        asking.spawn(async move {
            match stream.reply().await {
                Ok(reply) => Ok(reply),
                Err(AskError::Turn(reply)) => Ok(*reply),
                Err(other) => Err(other),
            }
        });
    }
    let mut replies = Vec::new();
    let mut down: Vec<String> = Vec::new();
    while replies.len() < script::PROMPTS.len() {
        tokio::select! {
            biased;
            _ = interrupts.next() => {
                return Err(interrupts.error());
            }
            Some(event) = running.events.recv() => {
                follow(&mut down, &event);
                view.event(&event);
            }
            Some(joined) = asking.join_next() => {
                let reply = joined.expect("asking does not panic and is not aborted")?;
                view.ended(&reply);
                replies.push(reply);
            }
        }
    }
    let took = started.elapsed();
    // The instance that crashed is seen to come back.
    let recovered = async {
        while !down.is_empty()
            && let Some(event) = running.events.recv().await
        {
            follow(&mut down, &event);
            view.event(&event);
        }
    };
    tokio::time::timeout(RECOVERY, recovered).await.ok();
    view.finish();
    Ok((replies, took))
}

/// Keeps the list of instances that are not up.
fn follow(down: &mut Vec<String>, event: &Event) {
    if let EventKind::InstanceChanged { instance, to, .. } = &event.kind {
        down.retain(|name| **name != **instance);
        if matches!(
            to,
            InstanceState::Backoff | InstanceState::Starting | InstanceState::Stopping
        ) {
            down.push(instance.to_string());
        }
    }
}
