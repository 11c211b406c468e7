//! Somebody who is asked what real tools may do. What is asked and answered comes from the cluster's events alone.
#![allow(dead_code, reason = "each test uses a part of this")]

use std::path::Path;
use std::time::Duration;

use toolpool::{
    Answer, Approvals, AskError, ClusterBuilder, ClusterManager, ControlError, EventKind, Events,
    Heard, InstanceState, Isolation, Outcome, PermissionId, Submission,
};

/// Longer than any answer of a test's own takes, and short enough to wait for when nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question as it was told.
#[derive(Debug)]
struct Asked {
    permission: PermissionId,
    instance: String,
    act: &'static str,
    question: String,
}

async fn next_question(events: &mut Events) -> Asked {
    loop {
        match next(events).await {
            EventKind::PermissionAsked {
                permission,
                instance,
                act,
                question,
                ..
            } => {
                return Asked {
                    permission,
                    instance: instance.to_string(),
                    act,
                    question,
                };
            }
            ended @ EventKind::TurnEnded { .. } => panic!("it did not ask: {ended:?}"),
            _ => {}
        }
    }
}

/// The next answer, and whose it was.
async fn next_answer(events: &mut Events) -> (bool, &'static str) {
    loop {
        if let EventKind::PermissionAnswered { allowed, by, .. } = next(events).await {
            return (allowed, by);
        }
    }
}

async fn next(events: &mut Events) -> EventKind {
    match events.next().await {
        Some(Heard::Event(event)) => event.kind,
        other => panic!("{other:?}"),
    }
}

/// Lets a tool ask for an edit and for a command, and allows, denies and does not answer each; then cancels a turn that
/// waits. The tool tells its model of a no and goes on, or ends the turn; it never acts.
pub(crate) async fn in_every_way(builder: ClusterBuilder, repo: &Path) {
    let cluster = builder
        .isolation(Isolation::Shared)
        .approvals(Approvals::Ask)
        .approval_timeout(PATIENCE)
        .await
        .expect("one");
    for (who, answer) in [
        ("allowed", Some(Answer::Allow)),
        ("denied", Some(Answer::Deny)),
        ("nobody", None),
    ] {
        let edited = repo.join(format!("edited_{who}"));
        let edit = format!("[[model: edit={} text=a]]", edited.display());
        act(&cluster, &edit, &edited, "edit", answer).await;
        let touched = format!("touched_{who}");
        let command = format!("[[model: tool=shell cmd=touch {touched}]]");
        act(&cluster, &command, &repo.join(touched), "execute", answer).await;
    }
    cancel(&cluster, "[[model: tool=shell cmd=touch never]]").await;
    assert!(!repo.join("never").exists());
    let books = cluster.shutdown().await.books;
    assert!(books.balance());
    assert_eq!((books.accepted, books.indeterminate), (8, 0));
}

async fn act(
    cluster: &ClusterManager,
    prompt: &str,
    file: &Path,
    act: &'static str,
    answer: Option<Answer>,
) {
    let mut events = cluster.subscribe();
    let turn = cluster.stream(prompt).await.expect("accepted");
    let asked = next_question(&mut events).await;
    assert_eq!(asked.act, act, "{asked:?}");
    let name = file.file_name().expect("a file").to_string_lossy();
    assert!(asked.question.contains(&*name), "{asked:?}");
    assert!(!file.exists(), "it did so before it was answered");
    let expected = match answer {
        Some(answer) => {
            let status = cluster.status().await.expect("it lives");
            let instance = &status.instances[0];
            assert_eq!(instance.state, InstanceState::Waiting);
            assert_eq!(instance.waiting[0].permission, asked.permission);
            let taken = cluster.answer(asked.permission, answer).await;
            taken.expect("it is open");
            (answer == Answer::Allow, "person")
        }
        None => (false, "timeout"),
    };
    assert_eq!(next_answer(&mut events).await, expected, "{prompt}");
    let reply = turn.reply().await;
    assert!(!expected.0 || reply.is_ok(), "{prompt}: {reply:?}");
    assert_eq!(file.exists(), expected.0, "{prompt}");
    let late = cluster.answer(asked.permission, Answer::Allow).await;
    assert_eq!(late, Err(ControlError::NotOpen(asked.permission)));
}

/// The tool confirms the cancel, and the same process answers the next turn.
async fn cancel(cluster: &ClusterManager, prompt: &str) {
    let mut events = cluster.subscribe();
    let turn = cluster.stream(prompt).await.expect("accepted");
    next_question(&mut events).await;
    turn.cancel().await;
    match turn.reply().await {
        Err(AskError::Turn(reply)) => assert_eq!(reply.outcome, Outcome::Cancelled),
        other => panic!("a cancelled turn: {other:?}"),
    }
    let reply = cluster.ask("and now?").await.expect("it lives");
    assert_eq!(reply.generation, 1);
}

/// Two instances of one process ask at the same time. The one that is answered last is the one that asked first, one is
/// allowed and the other denied, and each hears its own answer. Then the same with the answers exchanged.
pub(crate) async fn two_of_one_process(builder: ClusterBuilder, repo: &Path) {
    let cluster = builder
        .isolation(Isolation::Shared)
        .capacity(2)
        .approvals(Approvals::Ask)
        .await
        .expect("one process");
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].pid, status.instances[1].pid);
    for allowed in [0, 1] {
        let mut events = cluster.subscribe();
        let mut turns = Vec::new();
        for index in [0, 1] {
            let file = format!("by_{index}_allowed_{allowed}");
            let prompt = format!("[[model: tool=shell cmd=touch {file}]]");
            let submission = Submission::text(prompt).fresh().on_instance(index);
            let turn = cluster.stream(submission).await.expect("accepted");
            turns.push((turn, index, repo.join(file)));
        }
        let mut asked = [
            next_question(&mut events).await,
            next_question(&mut events).await,
        ];
        let status = cluster.status().await.expect("it lives");
        for (instance, (_, index, file)) in status.instances.iter().zip(&turns) {
            assert_eq!(instance.state, InstanceState::Waiting);
            let name = file.file_name().expect("a file").to_string_lossy();
            let own = asked.iter().find(|asked| asked.question.contains(&*name));
            let own = own.unwrap_or_else(|| panic!("{name} in {asked:?}"));
            assert_eq!(own.instance, *instance.name, "instance {index}");
            assert_eq!(instance.waiting.len(), 1);
            assert_eq!(instance.waiting[0].permission, own.permission);
        }
        asked.reverse();
        for asked in asked {
            let answer = if asked.instance == *status.instances[allowed].name {
                Answer::Allow
            } else {
                Answer::Deny
            };
            let taken = cluster.answer(asked.permission, answer).await;
            taken.expect("it is open");
        }
        for (turn, index, file) in turns {
            let reply = turn.reply().await;
            assert!(index != allowed || reply.is_ok(), "{reply:?}");
            assert_eq!(file.exists(), index == allowed, "{}", file.display());
        }
    }
    for index in [0, 1] {
        let submission = Submission::text("and now?").on_instance(index);
        let reply = cluster.ask(submission).await.expect("it lives");
        assert_eq!(reply.generation, 1);
    }
    let books = cluster.shutdown().await.books;
    assert!(books.balance());
    assert_eq!((books.accepted, books.indeterminate), (6, 0));
}
