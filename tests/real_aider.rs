//! The promises, on the real aider against the local model server. Without `TOOLPOOL_AIDER` each test says that it was
//! skipped; `cargo xtask test` sets it.

mod turns;
mod unseen;

use std::collections::BTreeSet;
use std::time::Duration;

use toolpool::{
    AskError, DoubtCause, EventKind, FailureClass, Heard, Isolation, Outcome, Submission,
};
use toolpool_conformance::lab::Lab;
use toolpool_testkit::model_server::answer_for;
use turns::{ask_all_afresh, head, land_all};
use unseen::UNSEEN;

/// One-line, many-line, large, and such that look like aider's own commands, marks and prompts.
fn mixed_prompts() -> Vec<String> {
    let mut prompts = vec![
        "hello".to_owned(),
        "two\nlines".to_owned(),
        "  indented\n\n\n  and with blank lines\n".to_owned(),
        "/run touch canary".to_owned(),
        "/exit".to_owned(),
        "/help me with this".to_owned(),
        "!touch canary".to_owned(),
        "text first\n!touch canary\n/run touch canary".to_owned(),
        "{block".to_owned(),
        "{tag\nnot a block\ntag}".to_owned(),
        "}".to_owned(),
        "> quoted like a prompt\n> ".to_owned(),
        "Invalid command: /=0123456789abcdef0123456789abcdef".to_owned(),
        "/=0123456789abcdef0123456789abcdef".to_owned(),
        "^C again to exit".to_owned(),
        "Tokens: 1.8k sent, 48 received.".to_owned(),
        "unicode: \u{e9} \u{1f600} \u{4f60}\u{597d} \u{202e}rtl".to_owned(),
        "control: \u{1} \u{7f} \u{1b}[31m".to_owned(),
        "quote what you like [[model: quote]]".to_owned(),
        "a long answer [[model: answer-bytes=200000]]".to_owned(),
        "a slow answer [[model: slow=40B/5ms]]".to_owned(),
    ];
    prompts.push("large and on many lines\n".repeat(100 * 1024 / 24));
    prompts.push("large on one line ".repeat(100 * 1024 / 18));
    prompts.push("the last of twenty-four".to_owned());
    prompts
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_answers_each_of_24_mixed_prompts_with_its_own_answer() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    let cluster = lab.cluster(3).await.expect("three aiders");
    let prompts = mixed_prompts();
    assert_eq!(prompts.len(), 24);
    let mut instances = BTreeSet::new();
    for (prompt, reply) in ask_all_afresh(&cluster, prompts).await {
        let head = head(&prompt);
        assert_eq!(
            reply.text.trim_end(),
            answer_for(&prompt).trim_end(),
            "the answer to {head:?}"
        );
        assert!(
            reply.attribution.is_some(),
            "every reply says how its end was known"
        );
        instances.extend(reply.instance);
    }
    assert_eq!(instances.len(), 3, "all three worked");
    let report = cluster.shutdown().await;
    assert_eq!((report.books.accepted, report.books.completed), (24, 24));
    assert!(report.books.balance());
    assert!(
        !lab.repo().join("canary").exists(),
        "no prompt became a command"
    );
    assert_eq!(lab.census(), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_lands_twelve_edits_as_twelve_commits_on_the_starting_branch() {
    let files: Vec<String> = (1..=12).map(|place| format!("file_{place}.txt")).collect();
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    for file in &files {
        lab.commit(file, "first line\nlast line\n");
    }
    // What the user has not committed is theirs.
    std::fs::write(lab.repo().join("README"), "changed by the user\n").expect("write");
    std::fs::write(lab.repo().join("notes"), "untracked\n").expect("write");
    let start = lab.git(&["rev-parse", "HEAD"]);
    let cluster = lab.cluster(3).await.expect("three aiders");
    let changes = files.iter().map(|file| {
        let prompt = format!("[[model: edit={file} text=edited {file}]]");
        (file.clone(), Submission::text(prompt).file(file))
    });
    land_all(&cluster, changes.collect()).await;
    let report = cluster.shutdown().await;
    assert!(report.kept.is_empty(), "{:?}", report.kept);
    let range = format!("{}..main", start.trim());
    let commits = lab.git(&["rev-list", "--count", "--no-merges", &range]);
    assert_eq!(commits.trim(), "12");
    assert_eq!(
        lab.git(&["rev-list", "--count", "--merges", &range]).trim(),
        "0"
    );
    for file in &files {
        let text = lab.git(&["show", &format!("main:{file}")]);
        assert!(text.contains(&format!("edited {file}")), "{file}: {text}");
        assert_eq!(
            std::fs::read_to_string(lab.repo().join(file)).expect("read"),
            text,
            "the user's files follow"
        );
    }
    let kept = std::fs::read_to_string(lab.repo().join("README")).expect("read");
    assert_eq!(kept, "changed by the user\n");
    assert_eq!(lab.git(&["status", "--porcelain"]), " M README\n?? notes\n");
    assert_eq!(lab.census(), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_takes_its_own_commands_only_through_the_command_call() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    let cluster = lab
        .cluster(1)
        .isolation(Isolation::Shared)
        .await
        .expect("an aider");
    let tokens = cluster
        .ask(Submission::command("/tokens"))
        .await
        .expect("allowed");
    assert!(tokens.text.contains("tokens"), "{}", tokens.text);
    let help = cluster
        .ask(Submission::command("/help"))
        .await
        .expect("allowed");
    assert!(help.text.contains("/add"), "{}", help.text);
    assert!(lab.server.requests().is_empty(), "neither asked the model");
    for refused in [
        "/run touch canary",
        "/help install everything",
        "!touch canary",
        "/web http://127.0.0.1",
    ] {
        match cluster.ask(Submission::command(refused)).await {
            Err(AskError::Turn(reply)) => match reply.outcome {
                Outcome::Failed(failure) => {
                    assert_eq!(failure.class, FailureClass::Refused, "{refused}")
                }
                other => panic!("{refused}: {other:?}"),
            },
            other => panic!("{refused}: {other:?}"),
        }
    }
    let text = cluster.ask("/tokens").await.expect("text");
    assert_eq!(
        text.text.trim_end(),
        answer_for("/tokens").trim_end(),
        "as text it is for the model"
    );
    cluster.shutdown().await;
    assert!(!lab.repo().join("canary").exists());
    assert_eq!(lab.census(), Vec::<u32>::new());
}

/// The failure class of a turn that must fail.
async fn failure_of(
    cluster: toolpool::ClusterManager,
    prompt: &'static str,
) -> (FailureClass, String) {
    match cluster.ask(prompt).await {
        Err(AskError::Turn(reply)) => match reply.outcome {
            Outcome::Failed(failure) => (failure.class, failure.message),
            other => panic!("{prompt}: {other:?}"),
        },
        other => panic!("{prompt}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_faults_end_in_the_right_outcome_while_others_keep_answering() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    let cluster = lab.cluster(5).await.expect("five aiders");
    // aider itself tries again for a minute before it gives a provider up, so these two run beside everything else.
    let limited = tokio::spawn(failure_of(cluster.clone(), "[[model: status=429]] one"));
    let broken = tokio::spawn(failure_of(cluster.clone(), "[[model: status=500]] two"));
    let denied = failure_of(cluster.clone(), "[[model: status=401]] three").await;
    assert_eq!(denied.0, FailureClass::Auth, "{}", denied.1);

    let hung = cluster
        .ask(Submission::text("[[model: hang]] four").turn_timeout(Duration::from_secs(3)))
        .await;
    match hung {
        Err(AskError::Turn(reply)) => {
            assert!(
                matches!(&reply.outcome, Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::TimedOut)
            );
        }
        other => panic!("a hung model: {other:?}"),
    }

    // Killed in the middle of a turn.
    let mut events = cluster.subscribe();
    let victim = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.ask("[[model: hang-mid]] five").await }
    });
    let name = loop {
        match events.next().await.expect("the cluster lives") {
            Heard::Event(event) => {
                if let EventKind::TurnStarted { instance, .. } = event.kind {
                    break instance;
                }
            }
            Heard::Missed(missed) => panic!("missed {missed}"),
        }
    };
    lab.server
        .wait_until(|requests| {
            requests
                .iter()
                .any(|request| request.last_user.contains("five"))
        })
        .await;
    let status = cluster.status().await.expect("status");
    let pid = status
        .instances
        .iter()
        .find(|instance| instance.name == name)
        .and_then(|instance| instance.pid);
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.expect("a live process").to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    match victim.await.expect("no panic") {
        Err(AskError::Turn(reply)) => match &reply.outcome {
            Outcome::Indeterminate(doubt) => {
                assert_eq!(doubt.cause, DoubtCause::Crashed);
                assert!(doubt.detail.contains("signal 9"), "{}", doubt.detail);
            }
            other => panic!("a killed aider: {other:?}"),
        },
        other => panic!("a killed aider: {other:?}"),
    }

    for place in 0..6 {
        let prompt = format!("still there? {place}");
        let reply = cluster
            .ask(&prompt)
            .await
            .expect("the others keep answering");
        assert_eq!(reply.text.trim_end(), answer_for(&prompt).trim_end());
    }
    let limited = limited.await.expect("no panic");
    assert_eq!(limited.0, FailureClass::RateLimit, "{}", limited.1);
    let broken = broken.await.expect("no panic");
    assert_eq!(broken.0, FailureClass::Overloaded, "{}", broken.1);

    let report = cluster.shutdown().await;
    assert!(report.books.balance());
    assert_eq!(report.books.completed, 6);
    assert_eq!((report.books.failed, report.books.indeterminate), (3, 2));
    assert_eq!(
        lab.census(),
        Vec::<u32>::new(),
        "nothing is left of any tree"
    );
}

/// Found on 0.86.2: a slash or an exclamation mark makes a command only as the very first character. A carriage return
/// is a line feed to aider, and a text whose first line is empty is no command either.
#[tokio::test(flavor = "multi_thread")]
async fn real_aider_takes_no_text_for_a_command_whatever_unseen_character_it_begins_with() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    let cluster = lab
        .cluster(1)
        .isolation(Isolation::Shared)
        .await
        .expect("an aider");
    for unseen in UNSEEN {
        let prompt = format!("{unseen}!touch canary");
        let reply = cluster.ask(&prompt).await.expect("an answer");
        let (text, wanted) = (reply.text.trim_end(), answer_for(&prompt));
        assert_eq!(text, wanted.trim_end(), "{prompt:?}");
    }
    for returned in ["\r!touch canary", "\r/run touch canary"] {
        let reply = cluster.ask(returned).await.expect("an answer");
        assert!(reply.text.starts_with("sha256:"), "{}", reply.text);
    }
    cluster.shutdown().await;
    assert!(!lab.repo().join("canary").exists());
}
