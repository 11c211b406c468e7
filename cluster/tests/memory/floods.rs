//! Somebody who never pauses must not keep a deadline from coming.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use toolpool_cluster::{InstanceState, Isolation, Submission, launch_cluster};
use toolpool_pool_core::launcher::{
    Exit, GroupSignal, LaunchSpec, Launcher, Process, ProcessGroup,
};
use toolpool_pool_core::profile::ToolProfile;

use crate::tool::one;

/// A tool that prints without a pause, is never ready, and heeds nothing but SIGKILL.
struct Flood {
    killed: Arc<AtomicBool>,
}

struct Group(Arc<AtomicBool>);

impl ProcessGroup for Group {
    fn signal(&self, signal: GroupSignal) {
        self.0
            .fetch_or(signal == GroupSignal::Kill, Ordering::SeqCst);
    }
}

#[async_trait]
impl Launcher for Flood {
    async fn launch(&self, _: &LaunchSpec) -> io::Result<Process> {
        Ok(Process {
            pid: None,
            stdin: Box::new(tokio::io::sink()),
            stdout: Box::new(tokio::io::repeat(b'y')),
            stderr: Box::new(tokio::io::empty()),
            exit: Box::pin(std::future::pending::<Exit>()),
            group: Box::new(Group(Arc::clone(&self.killed))),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_prints_without_a_pause_is_killed_in_time() {
    let killed = Arc::new(AtomicBool::new(false));
    let mut profile = ToolProfile::builtin("standin").expect("built in");
    profile.program = "/bin/sh".to_owned();
    let launcher = Flood {
        killed: Arc::clone(&killed),
    };
    let launch = launch_cluster(profile)
        .isolation(Isolation::Shared)
        .launcher(Arc::new(launcher));
    let launch = tokio::spawn(launch.into_future());
    // The flood never lets the runtime rest, so the time must be moved by hand.
    for _ in 0..1_000 {
        if killed.load(Ordering::SeqCst) {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(killed.load(Ordering::SeqCst), "its start had no end");
    launch.abort();
}

#[tokio::test(start_paused = true)]
async fn callers_that_never_pause_do_not_keep_a_prompt_from_expiring() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let running = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let busybodies: Vec<_> = (0..2_000)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { while cluster.status().await.is_ok() {} })
        })
        .collect();
    let expires = Submission::text("waits").queue_timeout(Duration::from_secs(1));
    let asked = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.ask(expires).await }
    });
    for _ in 0..2_000 {
        if asked.is_finished() {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(asked.is_finished(), "it waits without end");
    for busybody in busybodies {
        busybody.abort();
    }
    assert_eq!(
        asked.await.expect("it lives").expect_err("expired").code(),
        "expired"
    );
    drop(running);
    assert_ne!(
        cluster.status().await.expect("it lives").instances[0].state,
        InstanceState::Failed
    );
}
