//! The stand-in, pools of it, and ends of processes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use toolpool_pool_core::outcome::{DoubtCause, FailureClass, Outcome};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{LaunchOptions, ProcessPool, Response, shim};

/// Longer than anything takes on a machine that is merely slow: a test that reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The example `standin_tool`, which cargo builds with the tests.
pub(crate) fn standin_tool() -> PathBuf {
    let exe = std::env::current_exe().expect("the test has a path");
    let path = exe
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests are built into target/*/deps")
        .join("examples/standin_tool");
    assert!(
        path.exists(),
        "{} is missing: `cargo build -p toolpool-pool-core --examples`",
        path.display()
    );
    path
}

/// The stand-in with rules.
pub(crate) fn standin(rules: &[&str]) -> ToolProfile {
    let mut profile = ToolProfile::builtin("standin").expect("built in");
    profile.program = standin_tool().display().to_string();
    profile.start_timeout = LONG;
    profile.args = rules
        .iter()
        .flat_map(|rule| ["--do".to_owned(), (*rule).to_owned()])
        .collect();
    profile
}

/// A pool under the shim.
pub(crate) async fn launch(profile: ToolProfile, count: usize) -> ProcessPool {
    shim::init_with(standin_tool());
    ProcessPool::launch(profile, count, LaunchOptions::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Why no pool could be launched.
pub(crate) async fn launch_error(profile: ToolProfile, options: LaunchOptions) -> String {
    shim::init_with(standin_tool());
    match ProcessPool::launch(profile, 2, options).await {
        Ok(_) => panic!("it was launched"),
        Err(error) => error.to_string(),
    }
}

pub(crate) async fn read(pool: &ProcessPool) -> Response {
    pool.read_response(0, LONG)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// One turn on instance 0.
pub(crate) async fn ask(pool: &ProcessPool, prompt: &str) -> Response {
    pool.send_prompt(0, prompt)
        .unwrap_or_else(|error| panic!("{error}"));
    read(pool).await
}

/// One turn that must complete, and its text.
pub(crate) async fn answer(pool: &ProcessPool, prompt: &str) -> String {
    let response = ask(pool, prompt).await;
    assert_eq!(response.outcome.word(), "completed", "{response:?}");
    response.text
}

/// What a stand-in says of itself, in a turn that is told to report.
pub(crate) async fn report(pool: &ProcessPool) -> Value {
    serde_json::from_str(&answer(pool, "report").await).expect("a report is JSON")
}

/// What the reporting stand-in has started.
pub(crate) fn sleepers(report: &Value) -> Vec<u32> {
    serde_json::from_value(report["sleepers"].clone()).expect("process ids")
}

pub(crate) fn pid(pool: &ProcessPool, index: usize) -> u32 {
    pool.get_status()[index].pid.expect("it lives")
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(raw(pid), signal).expect("it lives");
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("process ids are positive")
}

/// A process whose end can be awaited, even if its number is used again.
pub(crate) struct Watched(OwnedFd);

/// Begins to watch a process that lives.
pub(crate) fn watch(pid: u32) -> Watched {
    Watched(pidfd_open(raw(pid), PidfdFlags::empty()).expect("it lives"))
}

impl Watched {
    /// Waits for its end.
    pub(crate) async fn gone(self) {
        tokio::task::spawn_blocking(move || self.block_until_gone())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    pub(crate) fn block_until_gone(self) {
        assert!(self.ends_within(LONG), "the process is still there");
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let limit = limit.try_into().expect("a short time");
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) == Ok(1)
    }
}

/// The process that started another, or has inherited it.
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let parent = fields
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok());
    parent.expect("a number")
}

/// Waits until the pool shows what is looked for.
pub(crate) async fn until(pool: &ProcessPool, seen: impl Fn(&ProcessPool) -> bool) {
    let look = async {
        while !seen(pool) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, look)
        .await
        .expect("the pool never shows it");
}

/// Why a turn is in doubt.
#[track_caller]
pub(crate) fn doubt(response: &Response) -> (DoubtCause, &str) {
    match &response.outcome {
        Outcome::Indeterminate(doubt) => (doubt.cause, &doubt.detail),
        other => panic!("{other:?}"),
    }
}

/// Why a turn failed.
#[track_caller]
pub(crate) fn failure(response: &Response) -> (FailureClass, &str) {
    match &response.outcome {
        Outcome::Failed(failure) => (failure.class, &failure.message),
        other => panic!("{other:?}"),
    }
}
