//! Sessions across the lives of a cluster: what the books say is gone on with, or is lost in words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use toolpool_cluster::{
    Accepted, AskError, ClusterManager, Conversing, Done, EventKind, Heard, Known, OnLoss, Record,
    Reply, Said, Session, Store, StoreError, Submission,
};
use toolpool_pool_core::prompt::TurnId;

use crate::tool::{Tool, Tools};

/// Books in memory, as far as sessions need them.
#[derive(Clone)]
struct Books {
    folder: Arc<TempDir>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    sessions: BTreeMap<String, Conversing>,
    prompts: BTreeMap<TurnId, Accepted>,
    said: Vec<(String, Said)>,
}

impl Books {
    fn new() -> Self {
        Self {
            folder: Arc::new(tempfile::tempdir().expect("a folder")),
            kept: Arc::default(),
        }
    }

    fn session(&self) -> Option<Conversing> {
        let kept = self.kept.lock().expect("no test panics with it");
        kept.sessions.get("chat").cloned()
    }

    fn folders(&self) -> usize {
        let root = self.folder.path().join("sessions/main");
        std::fs::read_dir(root).map_or(0, Iterator::count)
    }
}

impl Store for Books {
    fn next_turn(&self) -> TurnId {
        TurnId(self.kept.lock().expect("no test panics with it").next + 1)
    }

    fn put(&self, record: Record, done: Option<Done>) {
        let mut kept = self.kept.lock().expect("no test panics with it");
        match record {
            Record::Accepted(accepted) => {
                kept.next = accepted.turn.0;
                kept.prompts.insert(accepted.turn, *accepted);
            }
            Record::Session(known) => {
                kept.sessions.insert(known.session.clone(), *known);
            }
            Record::SessionClosed { session, .. } => {
                kept.sessions.remove(&session);
            }
            Record::Ended {
                reply, attempts, ..
            } => {
                let prompt = &kept.prompts[&reply.turn];
                if let (Some(session), true) = (prompt.session.clone(), attempts > 0) {
                    let said = Said {
                        turn: reply.turn,
                        prompt: prompt.prompt.text.clone(),
                        reply: reply.text.clone(),
                        outcome: reply.outcome.word().to_owned(),
                    };
                    kept.said.push((session, said));
                }
            }
            _ => {}
        }
        drop(kept);
        if let Some(done) = done {
            done(Ok(()));
        }
    }

    fn find(&self, _key: &str) -> Result<Option<Known>, StoreError> {
        Ok(None)
    }

    fn queued(&self, _cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        Ok(Vec::new())
    }

    fn sessions(&self, _cluster: &str) -> Result<Vec<Conversing>, StoreError> {
        let kept = self.kept.lock().expect("no test panics with it");
        Ok(kept.sessions.values().cloned().collect())
    }

    fn said(
        &self,
        _cluster: &str,
        session: &str,
        since: TurnId,
        _max_bytes: usize,
    ) -> Result<Vec<Said>, StoreError> {
        let kept = self.kept.lock().expect("no test panics with it");
        let its = kept.said.iter().filter(|(of, _)| of == session);
        Ok(its
            .map(|(_, said)| said.clone())
            .filter(|said| said.turn >= since)
            .collect())
    }

    fn folders(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("sessions"))
    }
}

/// A life of a cluster with these books.
async fn life(books: &Books, instances: usize) -> (ClusterManager, Vec<Tool>, Tools) {
    let (builder, mut tools) = Tools::cluster_of("claude", instances);
    let start = async {
        let mut started = Vec::new();
        for _ in 0..instances {
            started.push(begun(&mut tools).await);
        }
        started
    };
    let launch = builder.journal(books.clone()).into_future();
    let (cluster, started) = tokio::join!(launch, start);
    (cluster.expect("it starts"), started, tools)
}

async fn begun(tools: &mut Tools) -> Tool {
    let mut tool = tools.next().await;
    tool.begin().await;
    tool
}

/// Takes the next prompt and answers it.
async fn turn(tool: &mut Tool) -> String {
    let message = tool.read_json().await;
    let said = message["message"]["content"].to_string();
    let begun = serde_json::json!({"type": "system", "subtype": "init", "session_id": "s"});
    tool.say_json(begun).await;
    tool.end_turn(&message["uuid"], "an answer").await;
    said
}

async fn ask(session: &Session, tool: &mut Tool) -> Result<Reply, AskError> {
    let (reply, _) = tokio::join!(session.ask("go on"), turn(tool));
    reply
}

/// Books after a life in which a session has had a turn.
async fn lived() -> Books {
    let books = Books::new();
    let (cluster, mut tools, _world) = life(&books, 1).await;
    ask(&cluster.session("chat"), &mut tools[0])
        .await
        .expect("completed");
    cluster.shutdown().await;
    books
}

/// Asks in a session while its instance gets a new process; what that is told to go on with.
async fn ask_through(
    session: &Session,
    tools: &mut Tools,
) -> (Result<Reply, AskError>, Option<String>) {
    let next = async {
        let mut tool = begun(tools).await;
        let resumes = tool.resumes().map(str::to_owned);
        let said = turn(&mut tool).await;
        drop(said);
        resumes
    };
    tokio::join!(session.ask("go on"), next)
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_in_the_next_life_in_the_folder_that_it_had() {
    let books = lived().await;
    let known = books.session().expect("it is in the books");
    assert_eq!(known.conversation.as_deref(), Some("s"));
    assert!(!known.in_doubt && known.folder.is_dir());
    let (cluster, first, mut tools) = life(&books, 1).await;
    assert_eq!(first[0].resumes(), None, "nobody has asked for it yet");
    let mut events = cluster.subscribe();
    let (reply, resumes) = ask_through(&cluster.session("chat"), &mut tools).await;
    assert_eq!(reply.expect("it goes on").generation, 2);
    assert_eq!(resumes.as_deref(), Some("s"));
    assert_eq!(books.session().expect("known").folder, known.folder);
    let told = loop {
        match events.next().await {
            Some(Heard::Event(event)) => {
                if let EventKind::SessionsResumed { resumed, .. } = event.kind {
                    break resumed;
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told, 1);
    cluster.session("chat").close().await;
    cluster.shutdown().await;
    assert_eq!(books.session(), None);
    assert_eq!(books.folders(), 0, "a closed session leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_that_session_does_not_touch_it() {
    let books = lived().await;
    let (cluster, mut first, mut tools) = life(&books, 1).await;
    let alone = tokio::join!(cluster.ask("alone"), turn(&mut first[0]));
    assert_eq!(alone.0.expect("completed").generation, 1);
    let (reply, _) = ask_through(&cluster.session("chat"), &mut tools).await;
    assert_eq!(reply.expect("it goes on").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_gone_is_a_loss_that_is_told_and_nothing_is_sent() {
    let books = lived().await;
    std::fs::remove_dir_all(books.session().expect("known").folder).expect("it is ours");
    let (cluster, mut first, _tools) = life(&books, 1).await;
    let session = cluster.session("chat");
    let lost = session.ask("go on").await.expect_err("it is not sent");
    assert!(lost.to_string().contains("session_lost"), "{lost}");
    assert_eq!(books.session(), None);
    let reply = ask(&session, &mut first[0]).await;
    assert_eq!(reply.expect("anew").generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_go_on_with_it_loses_it_and_all_that_was_written_for_it() {
    let books = lived().await;
    let (cluster, _first, mut tools) = life(&books, 1).await;
    let session = cluster.session("chat");
    let next = async {
        // As Claude does if it does not know the name.
        tools.next().await.exit(1);
        begun(&mut tools).await
    };
    let (one, two, mut tool) = tokio::join!(session.ask("go on"), session.ask("and on"), next);
    for lost in [one, two] {
        let lost = lost.expect_err("it is not sent").to_string();
        assert!(lost.contains("session_lost"), "{lost}");
    }
    let reply = ask(&session, &mut tool).await;
    assert_eq!(reply.expect("anew").generation, 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_may_begin_anew_and_that_is_told_before_the_turn_begins() {
    let books = lived().await;
    std::fs::remove_dir_all(books.session().expect("known").folder).expect("it is ours");
    let (cluster, mut first, _tools) = life(&books, 1).await;
    let mut events = cluster.subscribe();
    let session = cluster.session("chat").on_loss(OnLoss::Fresh);
    let reply = ask(&session, &mut first[0]).await.expect("anew");
    let mut kinds = Vec::new();
    while !kinds.contains(&"ended") {
        match events.next().await {
            Some(Heard::Event(event)) => match event.kind {
                EventKind::ContextLost { turn, .. } if turn == reply.turn => kinds.push("lost"),
                EventKind::TurnStarted { .. } => kinds.push("started"),
                EventKind::TurnEnded { .. } => kinds.push("ended"),
                _ => {}
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds, ["lost", "started", "ended"]);
    assert_eq!(books.session().expect("known").since, reply.turn);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_prompt_of_a_known_session_needs_nothing_of_what_was() {
    let books = lived().await;
    let (cluster, mut first, _tools) = life(&books, 1).await;
    let session = cluster.session("chat");
    let anew = session.stream(Submission::text("anew").fresh()).await;
    let anew = anew.expect("accepted");
    let clears = first[0].read_json().await["message"]["content"].to_string();
    assert!(clears.contains("/clear"), "{clears}");
    let known = books.session().expect("known");
    assert_eq!((known.since, known.conversation), (anew.turn(), None));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_taken_up_by_an_instance_without_sessions_and_by_no_other() {
    let books = lived().await;
    let (cluster, mut first, mut tools) = life(&books, 2).await;
    let other = cluster.session("other");
    let stays = {
        let asked = other.ask(Submission::text("new").on_instance(0));
        let (reply, _) = tokio::join!(asked, turn(&mut first[0]));
        reply.expect("completed").instance
    };
    assert_eq!(stays.as_deref(), Some("main/1"));
    let (reply, _) = ask_through(&cluster.session("chat"), &mut tools).await;
    assert_eq!(
        reply.expect("it goes on").instance.as_deref(),
        Some("main/2")
    );
    let reply = ask(&other, &mut first[0]).await;
    assert_eq!(reply.expect("untouched").generation, 1);
}

const REPLAY: OnLoss = OnLoss::Replay { max_bytes: 4096 };

#[tokio::test(start_paused = true)]
async fn what_was_said_in_a_lost_session_stands_before_the_next_prompt_if_its_caller_wants_that() {
    let books = lived().await;
    std::fs::remove_dir_all(books.session().expect("known").folder).expect("it is ours");
    let (cluster, mut first, _tools) = life(&books, 1).await;
    let mut events = cluster.subscribe();
    let session = cluster.session("chat").on_loss(REPLAY);
    let (reply, sent) = tokio::join!(session.ask("and now"), turn(&mut first[0]));
    let reply = reply.expect("completed");
    assert!(
        sent.contains("[user]\\ngo on\\n[assistant]\\nan answer"),
        "{sent}"
    );
    assert!(sent.contains("\\n\\nand now"), "{sent}");
    let told = loop {
        match events.next().await {
            Some(Heard::Event(event)) => match event.kind {
                EventKind::ContextReplayed { turns, bytes, .. } => break (turns, bytes),
                EventKind::TurnStarted { .. } => panic!("it began before it was told"),
                _ => {}
            },
            other => panic!("{other:?}"),
        }
    };
    assert!(told.0 == 1 && told.1 > 100, "{told:?}");
    let known = books.session().expect("known");
    assert!(
        known.since < reply.turn,
        "it may be replayed again as a whole"
    );
    let (_, sent) = tokio::join!(session.ask("last"), turn(&mut first[0]));
    assert!(!sent.contains("go on"), "told once to each process: {sent}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_that_cannot_be_resumed_is_replayed_too() {
    let books = Books::new();
    let (cluster, mut first, mut tools) = life(&books, 1).await;
    let session = cluster.session("chat").on_loss(REPLAY);
    ask(&session, &mut first[0]).await.expect("completed");
    first.remove(0).exit(1);
    tools.next().await.exit(1);
    let mut third = begun(&mut tools).await;
    crate::tool::settle().await;
    let (reply, sent) = tokio::join!(session.ask("and now"), turn(&mut third));
    assert_eq!(reply.expect("completed").generation, 3);
    assert!(
        sent.contains("an answer") && sent.contains("and now"),
        "{sent}"
    );
    // What nobody can go on with does not pile up.
    while books.folders() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replayed_fails_in_words_and_nothing_is_sent() {
    for (max_bytes, command, said) in [(10, false, "room for 10"), (4096, true, "earlier run")] {
        let books = lived().await;
        std::fs::remove_dir_all(books.session().expect("known").folder).expect("it is ours");
        let (cluster, mut first, _tools) = life(&books, 1).await;
        let session = cluster
            .session("chat")
            .on_loss(OnLoss::Replay { max_bytes });
        let prompt = match command {
            true => Submission::command("/compact"),
            false => Submission::text("and now"),
        };
        let lost = session.ask(prompt).await.expect_err("nothing is sent");
        let lost = lost.to_string();
        assert!(
            lost.contains("session_lost") && lost.contains(said),
            "{lost}"
        );
        let reply = ask(&session, &mut first[0]).await.expect("anew");
        assert_eq!(reply.generation, 1);
        let status = cluster.status().await.expect("it lives");
        assert!(status.books.balance() && status.books.failed == 1);
    }
}

/// A session has had a turn on the first of two instances, whose process has ended and finds no other.
async fn with_absent() -> (Books, ClusterManager, Tool, Tools) {
    let books = Books::new();
    let (cluster, mut first, tools) = life(&books, 2).await;
    ask(&cluster.session("chat"), &mut first[0])
        .await
        .expect("completed");
    tools.world.refusals.store(usize::MAX, Ordering::SeqCst);
    first.remove(0).exit(1);
    crate::tool::settle().await;
    (books, cluster, first.remove(0), tools)
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_instance_does_not_come_up_fails_in_time_and_says_what_to_do() {
    let (books, cluster, _second, tools) = with_absent().await;
    let session = cluster.session("chat");
    let asked = tokio::time::Instant::now();
    let error = session.ask("go on").await.expect_err("nobody can");
    let waited = asked.elapsed().as_secs();
    assert!((299..302).contains(&waited), "{waited}");
    let error = error.to_string();
    for part in [
        "(session_unavailable)",
        "session chat lives on main/1",
        "not been up for 300 s",
        "no more processes",
        "nothing was sent, and the session stays",
        "restart it",
        "`on_loss` fresh or replay",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let asked = tokio::time::Instant::now();
    session.ask("again").await.expect_err("it is told at once");
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(books.session().is_some(), "it is kept");
    // Whatever became of the conversation is told when it is up again.
    tools.world.refusals.store(0, Ordering::SeqCst);
    let mut tools = tools;
    let (restarted, mut tool) = tokio::join!(cluster.restart_instance(0), begun(&mut tools));
    restarted.expect("ready");
    let reply = ask(&session, &mut tool).await.expect("it goes on");
    assert_eq!(reply.instance.as_deref(), Some("main/1"));
    assert_eq!(tool.resumes(), Some("s"));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_may_be_replayed_leaves_an_instance_that_does_not_come_up_or_has_stopped() {
    for stopped in [false, true] {
        let (_books, cluster, mut second, _tools) = with_absent().await;
        if stopped {
            cluster.drain_instance(0).await.expect("it stops");
        }
        let session = cluster.session("chat").on_loss(REPLAY);
        let asked = tokio::time::Instant::now();
        let (reply, sent) = tokio::join!(session.ask("and now"), turn(&mut second));
        let reply = reply.expect("completed");
        assert_eq!(reply.instance.as_deref(), Some("main/2"));
        assert!(
            sent.contains("an answer") && sent.contains("and now"),
            "{sent}"
        );
        assert_eq!(asked.elapsed() > Duration::from_secs(290), !stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_an_earlier_life_that_finds_no_instance_without_a_session_says_so_and_stays() {
    let books = lived().await;
    let (cluster, mut first, _tools) = life(&books, 1).await;
    ask(&cluster.session("other"), &mut first[0])
        .await
        .expect("completed");
    let error = cluster.session("chat").ask("go on").await;
    let error = error.expect_err("there is no room").to_string();
    for part in [
        "(unroutable)",
        "its session is of an earlier run",
        "nothing was sent, and the session stays",
        "Close another session, or launch more instances",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(books.session().is_some(), "it is kept");
}
