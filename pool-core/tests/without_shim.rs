//! A program that has no shim still gets containment by process group.

use std::time::Duration;

use toolpool_pool_core::launcher::LocalLauncher;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{Connection, LaunchOptions, ProcessPool, shim};

#[tokio::test]
async fn without_a_shim_a_tool_has_its_own_group_and_its_group_dies_with_it() {
    assert!(!shim::is_initialized());
    let profile = ToolProfile::builtin("bash").expect("built in");
    let pool = ProcessPool::launch(profile, 1, LaunchOptions::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let long = Duration::from_secs(60);
    let pid = pool.get_status()[0].pid.expect("it lives");
    pool.send_prompt(0, "cut -d' ' -f5 /proc/$$/stat; sleep 1000 & echo $!")
        .expect("accepted");
    let text = pool.read_response(0, long).await.expect("a response").text;
    let (group, child) = text.trim().split_once('\n').expect("two lines");
    assert_eq!(group, pid.to_string());
    // The leader ends with SIGTERM, and what it leaves behind is killed before the shutdown is over.
    assert_eq!(
        pool.shutdown(long).await.terminated.len() + pool.get_status().len(),
        2
    );
    let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test]
async fn without_a_shim_there_is_no_terminal_and_the_error_names_the_step() {
    let folder = tempfile::tempdir().expect("temp folder");
    let path = folder.path().join("mine.toml");
    let text = "program = \"bash\"\nprotocol = \"screen\"\n[screen]\nend = '\\$ $'\n";
    std::fs::write(&path, text).expect("write");
    let profile = ToolProfile::from_file(&path).unwrap_or_else(|error| panic!("{error}"));
    let options = LaunchOptions::default();
    let error = Connection::launch(&profile, &options, &LocalLauncher)
        .await
        .err()
        .expect("it cannot be started");
    assert!(error.is_permanent());
    let error = error.to_string();
    assert!(
        error.contains("call `toolpool::init()` first in `main`"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_shim_a_tool_of_one_process_for_each_prompt_is_refused_with_the_step_to_take() {
    let profile = ToolProfile::builtin("codex-exec").expect("built in");
    let profile = ToolProfile {
        program: "sh".to_owned(),
        ..profile
    };
    let Err(error) = ProcessPool::launch(profile, 1, LaunchOptions::default()).await else {
        panic!("it was launched")
    };
    assert!(
        error.to_string().contains("call `toolpool::init()`"),
        "{error}"
    );
}
