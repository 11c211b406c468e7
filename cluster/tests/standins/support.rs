//! Clusters of stand-ins, and what their replies must be.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use toolpool_cluster::{ClusterBuilder, ClusterManager, Isolation, launch_cluster};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::shim;
use toolpool_testkit::census::{Census, MARKER};

/// Longer than anything takes on a machine that is merely slow: a test that reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The example `cluster_standin`, which cargo builds with the tests.
pub(crate) fn standin_tool() -> PathBuf {
    let exe = std::env::current_exe().expect("the test has a path");
    let path = exe
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests are built into target/*/deps")
        .join("examples/cluster_standin");
    assert!(
        path.exists(),
        "{} is missing: `cargo build -p toolpool-cluster --examples`",
        path.display()
    );
    path
}

/// The stand-in with rules, and more of its arguments.
pub(crate) fn standin(args: &[&str], rules: &[&str]) -> ToolProfile {
    let mut profile = ToolProfile::builtin("standin").expect("built in");
    profile.program = standin_tool().display().to_string();
    profile.start_timeout = LONG;
    profile.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    for rule in rules {
        profile.args.extend(["--do".to_owned(), (*rule).to_owned()]);
    }
    profile
}

/// A cluster whose processes the census can count.
pub(crate) async fn launch(
    profile: ToolProfile,
    count: usize,
    change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
) -> (ClusterManager, Census) {
    shim::init_with(standin_tool());
    let census = Census::new();
    let builder = launch_cluster(profile)
        .count(count)
        .isolation(Isolation::Shared)
        .restart_delay(Duration::from_millis(1), Duration::from_millis(10))
        .env(MARKER, census.marker());
    let cluster = change(builder)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    (cluster, census)
}

/// What the stand-in answers with `--reply sha256`.
pub(crate) fn sha256(prompt: &str) -> String {
    Sha256::digest(prompt)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A task of the cluster must not hang the whole suite.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what)
        .await
        .expect("it takes for ever")
}
