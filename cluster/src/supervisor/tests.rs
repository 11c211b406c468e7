//! What the task does around the machine, where no cluster shows it.

use std::io;

use async_trait::async_trait;
use toolpool_pool_core::launcher::{LaunchSpec, Process};
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_testkit::git::git;

use super::*;
use crate::fit::{Asked, GroupSet};
use crate::instance::InstanceConfig;
use crate::reply::{self, Run};
use crate::retry::RetryPolicy;
use crate::scheduler::Ticket;
use crate::session::OnLoss;
use crate::worktree::Repository;

/// Somebody else's launcher with a bug.
struct Panics;

#[async_trait]
impl Launcher for Panics {
    async fn launch(&self, _: &LaunchSpec) -> io::Result<Process> {
        panic!("a launcher with a bug")
    }
}

fn supervisor(
    worktree: Option<Worktree>,
    orders: mpsc::Receiver<Order>,
    dispatcher: mpsc::Sender<Message>,
) -> Supervisor {
    let mut profile = ToolProfile::builtin("standin").expect("built in");
    // It is looked for, but never started.
    profile.program = "/bin/sh".to_owned();
    let recipe = Recipe {
        profile: Arc::new(profile),
        options: LaunchOptions::default(),
        launcher: Arc::new(Panics),
        resumes: false,
        permissions: Arc::default(),
        journal: None,
        kill: tokio::sync::watch::channel(false).1,
        may_pass: tokio::sync::watch::channel(0).1,
    };
    let machine = Instance::new(InstanceConfig::default(), 1);
    let name = Arc::from("main/1");
    Supervisor::new(0, name, recipe, worktree, machine, orders, dispatcher)
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_says_that_it_is_gone_however_full_the_mailbox_is() {
    let (dispatcher, mut inbox) = mpsc::channel(2);
    let (orders, taken) = mpsc::channel(1);
    let leave = orders.try_send(Order::Start { generation: 1 });
    assert!(leave.is_ok());
    let task = tokio::spawn(supervisor(None, taken, dispatcher).run());
    assert!(task.await.expect_err("its launcher has a bug").is_panic());
    let (first, second) = (inbox.recv().await, inbox.recv().await);
    assert!(
        matches!(first, Some(Message::Report(0, Report::Changed { .. })))
            && matches!(
                second,
                Some(Message::Report(0, Report::WantsToStart { .. }))
            ),
        "the mailbox was full of these"
    );
    let last = inbox.recv().await;
    assert!(
        matches!(last, Some(Message::Report(0, Report::Gone(None)))),
        "a shutdown would wait for ever"
    );
}

#[tokio::test]
async fn the_end_of_another_turn_leaves_the_worktree_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    git(folder.path(), &["init", "-q", "-b", "main"]);
    git(folder.path(), &["config", "user.name", "User"]);
    git(folder.path(), &["config", "user.email", "user@example.org"]);
    git(
        folder.path(),
        &["commit", "-q", "--allow-empty", "-m", "start"],
    );
    let repository = Repository::discover(folder.path()).await;
    let repository = repository.expect("git works").expect("it is one");
    let worktree = repository.add_worktree("main/1").await.expect("a new one");
    let path = worktree.path().to_owned();
    let (dispatcher, mut inbox) = mpsc::channel(8);
    let (_orders, taken) = mpsc::channel(1);
    let mut supervisor = supervisor(Some(worktree), taken, dispatcher);
    let running = TurnId(2);
    let (writer, _reader) = reply::channel(running);
    supervisor.running = Some(Running {
        turn: Box::new(Turn {
            key: None,
            is_kept: false,
            retry: RetryPolicy::Once,
            attempts: 1,
            deadline: None,
            last: None,
            id: running,
            prompt: Prompt::text("write a file"),
            ticket: Ticket {
                client: None,
                session: None,
                on_loss: OnLoss::default(),
                target: None,
                groups: GroupSet::ALL,
                labels: Vec::new(),
                fresh: false,
                bytes: 0,
                queue_timeout: None,
            },
            asked: Asked::default(),
            timeout: None,
            land: Some("write a file".to_owned()),
            context: None,
            since: now(),
            writer,
            run: Run::default(),
            end: None,
        }),
        started: now(),
        first_output: None,
        untouched: false,
        elsewhere: None,
    });
    std::fs::write(path.join("half"), "half of it").expect("it is ours");
    supervisor
        .end_turn(TurnId(1), End::of(Outcome::Completed))
        .await;
    assert!(path.join("half").exists());
    assert_eq!(git(folder.path(), &["log", "--format=%s"]), "start\n");
    assert!(inbox.try_recv().is_err(), "nobody waits for that end");
    supervisor
        .end_turn(running, End::of(Outcome::Completed))
        .await;
    assert_eq!(
        git(folder.path(), &["log", "--format=%s"]).lines().count(),
        2
    );
    assert!(matches!(
        inbox.try_recv(),
        Ok(Message::Report(0, Report::TurnEnded { .. }))
    ));
}
