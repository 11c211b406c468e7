//! Turns of real interpreters that are interrupted, through their built-in profiles.

use toolpool_pool_core::launcher::LocalLauncher;
use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{Connection, Happening, LaunchOptions, shim};

use crate::support::{LONG, standin_tool};

/// One turn to its end, interrupted when it has said `begun`.
async fn turn(connection: &mut Connection, turn: u64, prompt: &str) -> (String, Outcome) {
    connection
        .submit(TurnId(turn), &Prompt::text(prompt))
        .expect("acceptable");
    let mut text = Vec::new();
    let mut interrupted = false;
    loop {
        let happening = tokio::time::timeout(LONG, connection.next()).await;
        match happening.unwrap_or_else(|_| panic!("{prompt:?} never ends")) {
            Happening::Turn(TurnEvent::Chunk { bytes, .. }) => text.extend(bytes),
            Happening::Turn(TurnEvent::TurnEnded { outcome, .. }) => {
                return (String::from_utf8(text).expect("utf-8"), outcome);
            }
            other => panic!("{prompt:?}: {other:?}"),
        }
        if !interrupted && text.starts_with(b"begun") {
            interrupted = true;
            connection.interrupt();
        }
    }
}

async fn survives(tool: &str, hanging: &[&str], next: &str, answer: &str) {
    let profile = ToolProfile::builtin(tool).expect("built in");
    if which::which(&profile.program).is_err() {
        eprintln!("SKIPPED: {} is not on PATH", profile.program);
        return;
    }
    shim::init_with(standin_tool());
    let mut connection = Connection::launch(&profile, &LaunchOptions::default(), &LocalLauncher)
        .await
        .expect("it starts");
    match connection.next().await {
        Happening::Turn(TurnEvent::Ready) => {}
        other => panic!("{other:?}"),
    }
    for (place, prompt) in (0..).zip(hanging) {
        let (_, outcome) = turn(&mut connection, 2 * place, prompt).await;
        assert_eq!(outcome, Outcome::Cancelled, "{prompt:?}");
        let (text, outcome) = turn(&mut connection, 2 * place + 1, next).await;
        assert_eq!((text.as_str(), outcome), (answer, Outcome::Completed));
    }
    // Before the program may have read a byte, too.
    let prompt = Prompt::text(hanging[0]);
    connection.submit(TurnId(98), &prompt).expect("acceptable");
    connection.interrupt();
    loop {
        if let Happening::Turn(TurnEvent::TurnEnded { outcome, .. }) = connection.next().await {
            assert_eq!(outcome, Outcome::Cancelled);
            break;
        }
    }
    assert_eq!(turn(&mut connection, 99, next).await.0, answer);
    connection.stop(LONG).await;
}

#[tokio::test]
async fn an_interrupted_bash_lives_and_keeps_its_variables() {
    let hanging = [
        "kept=5; echo begun; sleep 600; echo after",
        "echo begun; while :; do :; done; echo after",
        "echo begun; while :; do sleep 600; done",
        "f() { sleep 600; sleep 600; }; echo begun; f; f",
        "echo begun; yes | cat >/dev/null",
        "echo begun; (sleep 600; echo after); sleep 600",
        "echo begun; x=$(sleep 600); sleep 600 & wait",
    ];
    survives("bash", &hanging, "echo $kept", "5\n").await;
}

#[tokio::test]
async fn an_interrupted_python_lives_and_keeps_its_variables() {
    let hanging = [
        "import subprocess, time\nkept = 5\nprint('begun')\ntime.sleep(600)",
        "print('begun')\nwhile True: pass",
        "print('begun')\nsubprocess.run(['sleep', '600'])",
        "print('begun')\ntry: time.sleep(600)\nexcept KeyboardInterrupt: time.sleep(600)",
    ];
    survives("python", &hanging, "kept", "5\n").await;
}

#[tokio::test]
async fn an_interrupted_node_lives_and_keeps_its_variables() {
    let hanging = [
        "var kept = 5; console.log('begun'); new Promise(done => setTimeout(done, 600000))",
        "console.log('begun'); require('child_process').execSync('sleep 600')",
    ];
    survives("node", &hanging, "typeof kept", "'number'\n").await;
}
