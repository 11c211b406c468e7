//! Somebody who is asked what real tools may do. What is asked and answered comes from the cluster's events alone.

use std::path::Path;
use std::time::Duration;

use toolpool::{
    Answer, Approvals, AskError, ClusterBuilder, ClusterManager, ControlError, EventKind, Events,
    Heard, InstanceState, Isolation, Outcome, PermissionId,
};

/// Longer than any answer of a test's own takes, and short enough to wait for when nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question as it was told.
#[derive(Debug)]
struct Asked {
    permission: PermissionId,
    act: &'static str,
    question: String,
}

async fn next_question(events: &mut Events) -> Asked {
    loop {
        match next(events).await {
            EventKind::PermissionAsked {
                permission,
                act,
                question,
                ..
            } => {
                return Asked {
                    permission,
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
