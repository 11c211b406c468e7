//! Remote jobs: the driver's process, real sockets, and the stand-ins of the service.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use toolpool_pool_core::launcher::LocalLauncher;
use toolpool_pool_core::outcome::{DoubtCause, FailureClass, Grade, Outcome};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{Connection, Happening, LaunchOptions, ProcessPool, shim};
use toolpool_testkit::JULES_PROGRAM;
use toolpool_testkit::jules_server::{JulesServer, KEY, REPOSITORY, message_for, patch_for};

use crate::support::{LONG, ask, doubt, failure, launch_error, pid, read, signal, standin_tool};

/// The service, and a folder of its own with nothing in it.
struct Lab {
    server: JulesServer,
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Lab {
    fn new() -> Self {
        let server = JulesServer::start().expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let env = [
            ("JULES_BASE_URL", server.base_url()),
            ("JULES_API_KEY", KEY.to_owned()),
            ("JULES_REPO", REPOSITORY.to_owned()),
            ("JULES_POLL", "1ms".to_owned()),
        ];
        Self {
            server,
            folder,
            env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the folder a checkout with this remote, in which jobs are about the remote's repository.
    fn checkout(self, origin: &str) -> Self {
        for args in [
            &["init", "--quiet"][..],
            &["remote", "add", "origin", origin],
        ] {
            let status = Command::new("git")
                .arg("-C")
                .arg(self.folder.path())
                .args(args)
                .status()
                .expect("git runs");
            assert!(status.success());
        }
        self
    }

    fn options(&self) -> LaunchOptions {
        LaunchOptions {
            cwd: self.folder.path().to_owned(),
            env: self.env.clone(),
            ..LaunchOptions::default()
        }
    }

    async fn pool(&self) -> ProcessPool {
        shim::init_with(standin_tool());
        ProcessPool::launch(jules(), 1, self.options())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn posts(&self) -> usize {
        let requests = self.server.requests();
        requests
            .iter()
            .filter(|request| request.method == "POST")
            .count()
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }
}

fn jules() -> ToolProfile {
    let mut profile = ToolProfile::builtin("jules").expect("built in");
    profile.start_timeout = LONG;
    profile
}

#[tokio::test]
async fn each_prompt_is_one_job_and_gets_its_own_answer() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    let prompts = [
        "hello",
        "two\nlines",
        "/clear",
        "--help",
        "{\"type\":\"abandon\",\"turn\":1}",
        "many pages [[jules: pages=5]]",
        "unicode \u{1f600} \u{2028} and \u{1} control",
        "complete at once [[jules: looks=0]]",
        "late [[jules: late=3]]",
    ];
    for prompt in prompts {
        let response = ask(&pool, prompt).await;
        assert_eq!(response.outcome, Outcome::Completed, "{response:?}");
        assert_eq!(
            response.text,
            message_for(prompt),
            "the answer to {prompt:?}"
        );
        let attribution = response.attribution.expect("the driver ended it");
        assert_eq!(
            (attribution.grade, attribution.by),
            (Grade::A, "session state")
        );
    }
    assert_eq!(lab.server.prompts(), prompts);
    let requests = lab.server.requests();
    let created = requests
        .iter()
        .find(|request| request.method == "POST")
        .expect("one was created");
    assert_eq!(created.body["requirePlanApproval"], false);
    assert_eq!(
        created.body["sourceContext"]["githubRepoContext"]["startingBranch"],
        "main"
    );
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn an_answer_that_outgrows_the_limit_is_no_answer() {
    let lab = Lab::new();
    shim::init_with(standin_tool());
    let profile = ToolProfile {
        max_reply_bytes: 20,
        ..jules()
    };
    let pool = ProcessPool::launch(profile, 1, lab.options())
        .await
        .expect("it starts");
    let response = ask(&pool, "hello").await;
    assert_eq!(doubt(&response).0, DoubtCause::OutputLimit);
}

#[tokio::test]
async fn a_job_starts_from_the_branch_that_was_told() {
    let lab = Lab::new().with("JULES_BRANCH", "next");
    let pool = lab.pool().await;
    assert_eq!(ask(&pool, "x").await.outcome, Outcome::Completed);
    let requests = lab.server.requests();
    let context = &requests
        .iter()
        .find(|request| request.method == "POST")
        .expect("one was created")
        .body["sourceContext"];
    assert_eq!(context["githubRepoContext"]["startingBranch"], "next");
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn a_job_that_stops_short_of_its_end_fails_and_says_where_to_go_on() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    for (prompt, class, words) in [
        (
            "[[jules: end=failed]]",
            FailureClass::Unknown,
            "failed: the tests do not pass",
        ),
        (
            "[[jules: end=feedback]]",
            FailureClass::Unknown,
            "which one do you mean?; answer it at",
        ),
        (
            "[[jules: end=plan]]",
            FailureClass::Unknown,
            "approve it at",
        ),
        (
            "[[jules: quiet]]",
            FailureClass::EmptyAnswer,
            "changed nothing",
        ),
    ] {
        let response = ask(&pool, prompt).await;
        let (seen, message) = failure(&response);
        assert_eq!(seen, class, "{prompt}");
        assert!(message.contains(words), "{message}");
        assert!(
            message.contains("https://jules.google.com/session/100"),
            "{message}"
        );
    }
    assert_eq!(ask(&pool, "and on").await.text, message_for("and on"));
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn trouble_in_the_middle_is_waited_out() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    for at in ["look", "activities"] {
        for fault in ["status=429", "status=500", "status=503", "drop"] {
            let prompt = format!("[[jules: {fault} at={at} times=3]]");
            let response = ask(&pool, &prompt).await;
            assert_eq!(response.text, message_for(&prompt), "{response:?}");
        }
    }
    assert_eq!(lab.posts(), 8);
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn trouble_that_does_not_end_leaves_the_job_in_doubt_under_its_name() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    for (prompt, words) in [
        ("[[jules: status=500 at=look]]", "tried 14 times"),
        ("[[jules: status=404 at=activities]]", "tried 14 times"),
        ("[[jules: status=401 at=look]]", "tried 1 times"),
    ] {
        let response = ask(&pool, prompt).await;
        let (cause, detail) = doubt(&response);
        assert_eq!(cause, DoubtCause::AnswerLost);
        assert!(detail.contains(words), "{detail}");
        assert!(
            detail.contains("goes on by itself: https://jules.google.com/session/100"),
            "{detail}"
        );
    }
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn a_job_is_handed_over_once_whatever_comes_of_it() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    for (number, (order, class)) in [
        ("status=400", Some(FailureClass::BadRequest)),
        ("status=401", Some(FailureClass::Auth)),
        ("status=404", Some(FailureClass::BadRequest)),
        ("status=429 retry-after=60", Some(FailureClass::RateLimit)),
        ("status=500", None),
        ("status=503", None),
        ("drop", None),
    ]
    .into_iter()
    .enumerate()
    {
        let response = ask(&pool, &format!("[[jules: {order}]]")).await;
        match class {
            Some(class) => assert_eq!(failure(&response).0, class, "{order}"),
            None => assert_eq!(doubt(&response).0, DoubtCause::AnswerLost, "{order}"),
        }
        assert_eq!(lab.posts(), number + 1, "{order}: once");
    }
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn without_key_repository_or_service_nothing_is_ready_and_the_reason_is_said() {
    let lab = || Lab::new();
    for (lab, words) in [
        (
            lab().with("JULES_API_KEY", ""),
            "JULES_API_KEY is not set; get a key at https://",
        ),
        (
            lab().with("JULES_API_KEY", "wrong"),
            "Jules answered 401: API key not valid",
        ),
        (
            lab().with("JULES_REPO", "acme/other"),
            "acme/other is not connected to Jules; connect it at",
        ),
        (lab().with("JULES_REPO", ""), "which repository?"),
        (lab().with("JULES_REPO", "demo"), "OWNER/NAME"),
        (
            lab().with("JULES_BASE_URL", "http://127.0.0.1:1/v1alpha"),
            "Jules cannot be reached",
        ),
        (lab().with("JULES_POLL", "soon"), "JULES_POLL"),
    ] {
        let error = launch_error(jules(), lab.options()).await;
        assert!(error.contains(words), "{error}");
        assert!(!error.contains(KEY), "{error}");
        assert_eq!(lab.posts(), 0);
    }
}

#[tokio::test]
async fn a_driver_that_is_killed_leaves_its_job_in_doubt_under_its_name() {
    let lab = Lab::new();
    let pool = lab.pool().await;
    pool.send_prompt(0, "[[jules: end=never]]")
        .expect("accepted");
    lab.server
        .wait_until(|requests| {
            requests
                .iter()
                .any(|request| request.path == "sessions/1001")
        })
        .await;
    signal(pid(&pool, 0), Signal::KILL);
    let response = read(&pool).await;
    let (cause, detail) = doubt(&response);
    assert_eq!(cause, DoubtCause::Crashed);
    assert!(
        detail.ends_with("session 1001 goes on by itself: https://jules.google.com/session/1001"),
        "{detail}"
    );
    pool.restart_instance(0)
        .await
        .expect("another driver starts");
    assert_eq!(ask(&pool, "next").await.text, message_for("next"));
    assert_eq!(lab.posts(), 2, "nothing is handed over again");
}

async fn next_event(connection: &mut Connection) -> TurnEvent {
    match connection.next().await {
        Happening::Turn(event) => event,
        other => panic!("{other:?}; {:?}", connection.last_lines(5)),
    }
}

#[tokio::test]
async fn a_job_that_is_cancelled_is_let_go_and_the_driver_takes_the_next() {
    let lab = Lab::new();
    shim::init_with(standin_tool());
    let mut connection = Connection::launch(&jules(), &lab.options(), &LocalLauncher)
        .await
        .expect("it starts");
    assert_eq!(next_event(&mut connection).await, TurnEvent::Ready);
    let never = Prompt::text("[[jules: end=never]]");
    connection.submit(TurnId(1), &never).expect("accepted");
    let turn = TurnId(1);
    let place = "session 1001 goes on by itself: https://jules.google.com/session/1001".to_owned();
    assert_eq!(
        next_event(&mut connection).await,
        TurnEvent::Elsewhere { turn, place }
    );
    connection.interrupt();
    match next_event(&mut connection).await {
        TurnEvent::TurnEnded {
            outcome: Outcome::Indeterminate(doubt),
            ..
        } => assert_eq!(doubt.cause, DoubtCause::CancelUnconfirmed),
        other => panic!("{other:?}"),
    }
    connection
        .submit(TurnId(2), &Prompt::text("next"))
        .expect("accepted");
    assert!(matches!(
        next_event(&mut connection).await,
        TurnEvent::Elsewhere {
            turn: TurnId(2),
            ..
        }
    ));
    let (turn, bytes) = (TurnId(2), message_for("next").into_bytes());
    assert_eq!(
        next_event(&mut connection).await,
        TurnEvent::Chunk { turn, bytes }
    );
    assert!(matches!(
        next_event(&mut connection).await,
        TurnEvent::TurnEnded {
            turn: TurnId(2),
            outcome: Outcome::Completed,
            ..
        }
    ));
    connection.stop(LONG).await;
}

#[tokio::test]
async fn changes_are_made_in_a_checkout_of_the_jobs_repository_and_are_in_the_reply() {
    let lab = Lab::new().checkout(&format!("git@github.com:{REPOSITORY}.git"));
    let below = lab.folder.path().join("below");
    std::fs::create_dir(&below).expect("a folder");
    let mut options = lab.options();
    options.cwd = below;
    // The remote says which repository it is.
    options.env.retain(|(name, _)| name != "JULES_REPO");
    shim::init_with(standin_tool());
    let pool = ProcessPool::launch(jules(), 1, options)
        .await
        .expect("it starts");
    let prompt = "make it [[jules: pr new=a.txt text=one line]]";
    let response = ask(&pool, prompt).await;
    assert_eq!(response.outcome, Outcome::Completed, "{response:?}");
    let expected = format!(
        "{}\n\npull request: https://github.com/{REPOSITORY}/pull/1001\n\n{}",
        message_for(prompt),
        patch_for("a.txt", "one line")
    );
    assert_eq!(response.text, expected);
    assert_eq!(lab.read("a.txt").as_deref(), Some("one line\n"));

    let response = ask(&pool, "[[jules: misfit]]").await;
    let (_, message) = failure(&response);
    assert!(
        message.contains("could not be made here") && message.contains("no-such-file"),
        "{message}"
    );
    assert!(response.text.contains("+after"), "{}", response.text);
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn a_checkout_of_another_repository_is_left_alone() {
    let lab = Lab::new().checkout("https://github.com/acme/other");
    let pool = lab.pool().await;
    let response = ask(&pool, "[[jules: new=a.txt text=x]]").await;
    assert_eq!(response.outcome, Outcome::Completed, "{response:?}");
    assert!(response.text.ends_with(&patch_for("a.txt", "x")));
    assert_eq!(lab.read("a.txt"), None);
    pool.shutdown(LONG).await;
}

/// The stand-in of the program, and a home for it.
fn program(lab: &Lab) -> (ToolProfile, LaunchOptions, PathBuf) {
    let home = lab.folder.path().join("home");
    std::fs::create_dir_all(home.join("jules")).expect("a folder");
    let path = lab.folder.path().join("jules-program");
    std::fs::write(&path, JULES_PROGRAM).expect("a script");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    let mut profile = ToolProfile::builtin("jules-cli").expect("built in");
    profile.start_timeout = LONG;
    profile.program = path.display().to_string();
    let mut options = lab.options();
    let home_variable = ("HOME".to_owned(), home.display().to_string());
    options.env.push(home_variable);
    shim::init_with(standin_tool());
    (profile, options, home)
}

fn calls(home: &Path) -> Vec<String> {
    let calls = std::fs::read_to_string(home.join("jules/calls")).unwrap_or_default();
    calls
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[tokio::test]
async fn the_program_is_driven_by_its_documented_commands() {
    let lab = Lab::new().checkout(&format!("https://github.com/{REPOSITORY}"));
    let (profile, options, home) = program(&lab);
    let pool = ProcessPool::launch(profile, 1, options)
        .await
        .expect("it starts");
    let response = ask(&pool, "--make it\nnew=b.txt please").await;
    assert_eq!(response.outcome, Outcome::Completed, "{response:?}");
    assert_eq!(response.attribution.map(|how| how.grade), Some(Grade::C));
    assert_eq!(lab.read("b.txt").as_deref(), Some("by 1001\n"));
    assert!(
        response.text.starts_with("diff --git a/b.txt b/b.txt"),
        "{}",
        response.text
    );
    assert_eq!(
        calls(&home),
        [
            "remote list --session",
            "remote new --repo acme/demo --session --make it new=b.txt please",
            "remote list --session",
            "remote list --session",
            "remote list --session",
            "remote pull --session 1001",
        ]
    );
    let response = ask(&pool, "just look").await;
    assert_eq!(response.text, "No changes in session 1002.");
    for (prompt, words) in [
        ("end=failed", "session 1003 failed"),
        ("end=feedback", "session 1004 waits for an answer"),
        (
            "end=plan",
            "approve it at https://jules.google.com/session/1005",
        ),
        ("silent", "changed nothing"),
        ("zero \0 byte", "zero byte"),
    ] {
        let response = ask(&pool, prompt).await;
        assert!(
            failure(&response).1.contains(words),
            "{prompt}: {response:?}"
        );
    }
    let response = ask(&pool, "get lost").await;
    assert_eq!(doubt(&response).0, DoubtCause::AnswerLost);
    let created = calls(&home)
        .iter()
        .filter(|call| call.contains("get lost"))
        .count();
    assert_eq!(created, 1);
    assert_eq!(lab.server.requests(), [], "the API is not used");
    pool.shutdown(LONG).await;
}

#[tokio::test]
async fn who_is_not_logged_in_to_the_program_is_told_how_before_a_prompt_is_sent() {
    let lab = Lab::new();
    let (profile, options, home) = program(&lab);
    std::fs::write(home.join("jules/logged-out"), "").expect("a file");
    let error = launch_error(profile.clone(), options.clone()).await;
    assert!(
        error.contains("nobody is logged in to Jules; run `jules login`"),
        "{error}"
    );
    let profile = ToolProfile {
        program: "no-such-program".to_owned(),
        ..profile
    };
    let error = launch_error(profile, options).await;
    assert!(
        error.contains("npm install --global @google/jules && jules login"),
        "{error}"
    );
}
