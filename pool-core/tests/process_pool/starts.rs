//! Starts that go wrong: what is said about it.

use std::time::Duration;

use toolpool_pool_core::launcher::{GroupSignal, LaunchSpec, Launcher, Process, ProcessGroup};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{Connection, LaunchOptions, ProcessPool};

use crate::support::{LONG, launch_error, standin};

fn plain() -> LaunchOptions {
    LaunchOptions::default()
}

#[tokio::test]
async fn a_pool_has_one_to_a_thousand_instances() {
    for count in [0, 1001] {
        let error = ProcessPool::launch(standin(&[]), count, plain())
            .await
            .err()
            .expect("refused");
        assert_eq!(
            error.to_string(),
            format!("a pool has 1 to 1000 instances, not {count}")
        );
    }
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_with_its_installer() {
    let mut profile = standin(&[]);
    profile.program = "no-such-program".to_owned();
    assert_eq!(
        launch_error(profile.clone(), plain()).await,
        "instance 0: standin: the program \"no-such-program\" was not found on PATH; install it, or set `program` in its profile to its path"
    );
    profile.install = Some("pip install it".to_owned());
    let error = launch_error(profile, plain()).await;
    assert!(
        error.contains("install it with `pip install it`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_that_is_not_executable_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("tool").display().to_string();
    std::fs::write(&program, "text").expect("the folder is writable");
    let mut profile = standin(&[]);
    profile.program.clone_from(&program);
    assert_eq!(
        launch_error(profile, plain()).await,
        format!(
            "instance 0: standin: {program} is not executable; make it so with `chmod +x {program}`, or set `program` in the profile to another path"
        )
    );
}

#[tokio::test]
async fn a_program_whose_interpreter_is_missing_is_told_by_its_last_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("tool");
    std::fs::write(&program, "#!/no/such/interpreter\n").expect("the folder is writable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut profile = standin(&[]);
    profile.program = program.display().to_string();
    let error = launch_error(profile, plain()).await;
    let said = format!(
        "standin ended before it was ready (exit code 127); it printed last: toolpool: cannot execute {}: No such file",
        program.display()
    );
    assert!(error.contains(&said), "{error}");
}

#[tokio::test]
async fn a_working_folder_that_is_gone_is_named() {
    let options = LaunchOptions {
        cwd: "/no/such/folder".into(),
        ..plain()
    };
    assert_eq!(
        launch_error(standin(&[]), options).await,
        "instance 0: standin: the working folder /no/such/folder is not there or is no folder; create it or choose another"
    );
}

#[tokio::test]
async fn a_folder_that_would_take_the_tool_over_is_refused_unless_trusted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(".tool.conf");
    // A dangling link is as suspicious as a file.
    std::os::unix::fs::symlink("/no/such/file", &file).expect("the folder is writable");
    let mut profile = standin(&[]);
    profile.refuse_files = vec![".tool.conf".to_owned()];
    let mut options = LaunchOptions {
        cwd: folder.path().to_owned(),
        ..plain()
    };
    assert_eq!(
        launch_error(profile.clone(), options.clone()).await,
        format!(
            "instance 0: standin: {} would let this folder run commands through the tool; look at it, then remove it or start with `trust_folder` (`--trust-folder`)",
            file.display()
        )
    );
    options.trust_folder = true;
    ProcessPool::launch(profile, 1, options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_tool_that_ends_before_it_is_ready_is_quoted() {
    let mut profile = standin(&[]);
    profile.args = vec!["--wrong".to_owned()];
    let error = launch_error(profile, plain()).await;
    let said = "standin ended before it was ready (exit code 64); it printed last: standin: unknown option --wrong; see --help; run it by hand";
    assert!(error.contains(said), "{error}");
    let error = launch_error(standin(&["on start signal KILL"]), plain()).await;
    assert!(
        error.contains("ended before it was ready (signal 9); it printed nothing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tool_that_never_becomes_ready_is_killed_and_the_limit_named() {
    let mut profile = standin(&["on start flood-stderr 10B", "on start never-ready"]);
    profile.start_timeout = Duration::from_millis(200);
    let error = launch_error(profile, plain()).await;
    assert!(
        error.contains("standin was not ready within 200ms and was killed; it printed"),
        "{error}"
    );
    assert!(
        error.contains("raise `start_timeout` in its profile"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tool_that_floods_instead_of_becoming_ready_is_bounded_by_the_same_limit() {
    let mut profile = ToolProfile::builtin("standin").expect("built in");
    profile.program = "yes".to_owned();
    profile.start_timeout = Duration::from_millis(200);
    let error = launch_error(profile, plain()).await;
    assert!(
        error.contains("was not ready within 200ms and was killed; it printed last: y | y"),
        "{error}"
    );
}

/// Starts nothing; its output never ends and never makes anybody wait.
struct Flood;

struct NoGroup;

impl ProcessGroup for NoGroup {
    fn signal(&self, _signal: GroupSignal) {}
}

#[async_trait::async_trait]
impl Launcher for Flood {
    async fn launch(&self, _spec: &LaunchSpec) -> std::io::Result<Process> {
        Ok(Process {
            pid: None,
            stdin: Box::new(tokio::io::sink()),
            stdout: Box::new(tokio::io::repeat(b'\n')),
            stderr: Box::new(tokio::io::empty()),
            exit: Box::pin(std::future::pending()),
            group: Box::new(NoGroup),
        })
    }
}

#[tokio::test]
async fn a_flood_does_not_starve_the_timers_of_whoever_waits_for_it() {
    let mut connection = Connection::launch(&standin(&[]), &plain(), &Flood)
        .await
        .expect("nothing to start");
    // A starved timer cannot end the test, so a thread does.
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if end.recv_timeout(LONG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the timer starves");
            std::process::abort();
        }
    });
    tokio::select! {
        // The worst order: the timer comes behind the flood.
        biased;
        happening = connection.next() => panic!("{happening:?}"),
        () = tokio::time::sleep(Duration::from_millis(1)) => drop(ended),
    }
    watchdog.join().expect("it ends");
}
