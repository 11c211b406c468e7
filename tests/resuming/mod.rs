//! A session goes on in a new process of a real tool with all that was said.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use toolpool::journal::Journal;
use toolpool::{ClusterManager, InstanceState, Isolation, Store as _, launch_cluster};
use toolpool_conformance::lab::Lab;

/// Kills the process of a session between two turns, twice, and asks for what was said in the first.
pub(crate) async fn goes_on_after_a_kill(tool: &str) {
    let Some(lab) = Lab::or_skip(tool) else {
        return;
    };
    let cluster = lab
        .cluster(1)
        .isolation(Isolation::Shared)
        .await
        .expect("an instance");
    let session = cluster.session("chat");
    session
        .ask("Remember the word marmalade.")
        .await
        .expect("answer");
    for generation in 2..=3 {
        let status = cluster.status().await.expect("it lives");
        let pid = status.instances[0].pid.expect("it runs");
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.expect("every system has it").success());
        let reply = loop {
            // The kill may be noticed only when the prompt is there; of a prompt that was written nobody knows then.
            let status = cluster.status().await.expect("it lives");
            let now = &status.instances[0];
            if now.state == InstanceState::Ready && now.generation == generation {
                break session.ask("[[model: recall=marmalade]]").await;
            }
            tokio::task::yield_now().await;
        };
        let reply = reply.expect("the session goes on");
        assert!(reply.text.ends_with("recalled: yes"), "{}", reply.text);
        assert_eq!(reply.generation, generation);
    }
    let report = cluster.shutdown().await;
    assert_eq!(report.books.completed, 3);
    assert_eq!(lab.census(), Vec::<u32>::new());
}

/// Tells a program that it is to live a life and be killed, and how: the settings of its tool, the folder and the journal.
const LIFE: &str = "TOOLPOOL_TEST_LIFE";

/// What the next life is to remember.
const WORD: &str = "Remember the word marmalade.";

/// Kills toolpool itself after a turn of a session, and asks the next one what was said; then takes away what the tool has
/// kept, and asks again. `test` is the name of the test, which plays the one that is killed too.
pub(crate) async fn goes_on_after_a_kill_of_toolpool(tool: &str, test: &str) {
    if let Ok(life) = std::env::var(LIFE) {
        return live(tool, &life).await;
    }
    let Some(lab) = Lab::or_skip(tool) else {
        return;
    };
    let path = lab.outside("books.db");
    let (args, env) = lab.settings();
    let life = serde_json::json!({"args": args, "env": env, "cwd": lab.repo(), "journal": path});
    let own = std::env::current_exe().expect("a program knows its path");
    let mut killed = tokio::process::Command::new(own)
        .args([test, "--exact", "--nocapture"])
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs already");
    let mut said = BufReader::new(killed.stdout.take().expect("it is piped")).lines();
    while let Some(line) = said.next_line().await.expect("it writes text") {
        if line.ends_with("told") {
            break;
        }
    }
    // SIGKILL.
    killed.kill().await.expect("it lives");

    let journal = Journal::open(&path).expect("nobody has it any more");
    let known = journal.sessions("main").expect("it can be read").remove(0);
    assert!(!known.in_doubt, "{known:?}");
    let name = known.conversation.as_deref().expect("the tool has told it");
    let cluster = second(&lab, &journal).await;
    let session = cluster.session("chat");
    let reply = session.ask("[[model: recall=marmalade]]").await;
    let reply = reply.expect("the session goes on");
    assert!(reply.text.ends_with("recalled: yes"), "{}", reply.text);
    cluster.shutdown().await;
    let again = journal.sessions("main").expect("it can be read").remove(0);
    assert_eq!(
        (again.conversation.as_deref(), &again.folder),
        (Some(name), &known.folder)
    );

    forget(&known.folder, &env);
    let cluster = second(&lab, &journal).await;
    let asked = lab.server.requests().len();
    let session = cluster.session("chat");
    let lost = session.ask("[[model: recall=marmalade]]").await;
    let lost = lost
        .expect_err("there is nothing to go on with")
        .to_string();
    assert!(lost.contains("session_lost"), "{lost}");
    assert_eq!(lab.server.requests().len(), asked, "nothing was sent");
    let anew = session.ask("[[model: recall=marmalade]]").await;
    let anew = anew.expect("it begins anew").text;
    assert!(anew.ends_with("recalled: no"), "{anew}");
    session.close().await;
    cluster.shutdown().await;
    // Nobody had to wait for that.
    journal.flush().expect("it can be written");
    assert_eq!(journal.sessions("main"), Ok(vec![]));
    let folders = std::fs::read_dir(journal.folders().expect("it has a place").join("main"));
    assert_eq!(
        folders.expect("it is there").count(),
        0,
        "nothing is left behind"
    );
    assert_eq!(lab.census(), Vec::<u32>::new());
}

async fn second(lab: &Lab, journal: &Journal) -> ClusterManager {
    let cluster = lab.cluster(1).isolation(Isolation::Shared);
    cluster.journal(journal.clone()).await.expect("an instance")
}

/// The life that is killed.
async fn live(tool: &str, life: &str) {
    let life: serde_json::Value = serde_json::from_str(life).expect("it is ours");
    let text = |value: &serde_json::Value| value.as_str().expect("it is a text").to_owned();
    let lab = Lab::new(tool).expect("it was there for the other one");
    let mut cluster = launch_cluster(lab.profile())
        .isolation(Isolation::Shared)
        .cwd(text(&life["cwd"]))
        .journal(Journal::open(text(&life["journal"])).expect("it is the first one"));
    for arg in life["args"].as_array().expect("a list") {
        cluster = cluster.arg(text(arg));
    }
    for pair in life["env"].as_array().expect("a list") {
        cluster = cluster.env(text(&pair[0]), text(&pair[1]));
    }
    let cluster = cluster.await.expect("an instance");
    cluster.session("chat").ask(WORD).await.expect("answer");
    println!("\ntold");
    std::future::pending().await
}

/// Takes away what a tool has kept, wherever that is.
fn forget(folder: &Path, env: &[(String, String)]) {
    for entry in std::fs::read_dir(folder).expect("it is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("it is ours");
        } else if !entry.file_name().to_string_lossy().starts_with(".toolpool") {
            std::fs::remove_file(path).expect("it is ours");
        }
    }
    // Claude keeps its conversations among the settings of its user.
    let config = env.iter().find(|(name, _)| name == "CLAUDE_CONFIG_DIR");
    if let Some((_, config)) = config {
        std::fs::remove_dir_all(Path::new(config).join("projects")).expect("it is ours");
    }
}
