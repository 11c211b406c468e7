//! Two connections with codex's protocol on one process, which is played by the test.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::launcher::{LaunchSpec, Launcher};
use crate::outcome::Outcome;
use crate::profile::ToolProfile;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::TurnEvent;
use crate::{Connection, Happening, LaunchOptions, SharingLauncher};

use super::*;

/// The process's side of the pipes; the exit is told by hand.
struct Played {
    stdin: tokio::io::Lines<BufReader<DuplexStream>>,
    stdout: DuplexStream,
    exit: Option<oneshot::Sender<Exit>>,
    signals: mpsc::UnboundedReceiver<GroupSignal>,
}

struct Player(mpsc::UnboundedSender<Played>);

struct Heard(mpsc::UnboundedSender<GroupSignal>);

impl ProcessGroup for Heard {
    fn signal(&self, signal: GroupSignal) {
        self.0.send(signal).ok();
    }
}

#[async_trait::async_trait]
impl Launcher for Player {
    async fn launch(&self, _spec: &LaunchSpec) -> std::io::Result<Process> {
        let (stdin, read) = tokio::io::duplex(1 << 20);
        let (stdout, written) = tokio::io::duplex(1 << 20);
        let (exit, exited) = oneshot::channel();
        let (signal, signals) = mpsc::unbounded_channel();
        let played = Played {
            stdin: BufReader::new(read).lines(),
            stdout: written,
            exit: Some(exit),
            signals,
        };
        self.0.send(played).ok();
        Ok(Process {
            pid: Some(1),
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(tokio::io::empty()),
            exit: Box::pin(async move { exited.await.expect("told") }),
            group: Box::new(Heard(signal)),
        })
    }
}

impl Played {
    async fn hears(&mut self) -> Value {
        let line = self.stdin.next_line().await.expect("text").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    async fn says(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.stdout.write_all(line.as_bytes()).await.expect("heard");
    }

    async fn answers(&mut self, method: &str, result: Value) -> Value {
        let request = self.hears().await;
        assert_eq!(request["method"], method);
        self.says(json!({"id": request["id"], "result": result}))
            .await;
        request
    }

    /// Takes a prompt for the thread, and gives the turn a name.
    async fn takes_prompt(&mut self, thread: &str, turn: &str) {
        let result = json!({"turn": {"id": turn, "status": "inProgress", "items": []}});
        let request = self.answers("turn/start", result).await;
        assert_eq!(request["params"]["threadId"], thread);
        let turn = json!({"id": turn, "status": "inProgress", "items": []});
        self.says(json!({"method": "turn/started", "params": {"threadId": thread, "turn": turn}}))
            .await;
    }

    async fn completes(&mut self, thread: &str, turn: &str, answer: &str) {
        let item = json!({"type": "agentMessage", "id": "i", "text": answer});
        let params = json!({"threadId": thread, "turnId": turn, "item": item});
        self.says(json!({"method": "item/completed", "params": params}))
            .await;
        let turn = json!({"id": turn, "status": "completed", "items": []});
        let params = json!({"threadId": thread, "turn": turn});
        self.says(json!({"method": "turn/completed", "params": params}))
            .await;
    }

    fn ends(&mut self, code: i32) {
        let exit = Exit {
            code: Some(code),
            signal: None,
        };
        self.exit.take().expect("once").send(exit).expect("awaited");
    }
}

struct Stage {
    launcher: SharingLauncher,
    processes: mpsc::UnboundedReceiver<Played>,
}

impl Stage {
    fn new(capacity: usize) -> Self {
        let (player, processes) = mpsc::unbounded_channel();
        Self {
            launcher: SharingLauncher::new(Arc::new(Player(player)), capacity),
            processes,
        }
    }

    async fn connect(&self) -> Connection {
        let mut profile = ToolProfile::builtin("codex").expect("built in");
        profile.program = "true".to_owned();
        Connection::launch(&profile, &LaunchOptions::default(), &self.launcher)
            .await
            .expect("launched")
    }

    /// Two ready connections and their one process, with the threads `one` and `two`.
    async fn two() -> (Self, Played, Connection, Connection) {
        let mut stage = Self::new(2);
        let (mut first, mut second) = (stage.connect().await, stage.connect().await);
        let mut process = stage.processes.recv().await.expect("started");
        let play = async {
            process.answers("initialize", json!({})).await;
            for _ in 0..3 {
                let message = process.hears().await;
                if message["method"] == "thread/start" {
                    let name = if message["id"] == 2 { "one" } else { "two" };
                    let result = json!({"thread": {"id": name}});
                    process
                        .says(json!({"id": message["id"], "result": result}))
                        .await;
                } else {
                    assert_eq!(message["method"], "initialized");
                }
            }
        };
        let ((), a, b) = tokio::join!(play, until_ready(&mut first), until_ready(&mut second));
        // Which of the two was first is the scheduler's business.
        let (one, two) = if a == "one" {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!([a, b].iter().filter(|name| *name == "one").count(), 1);
        assert!(stage.processes.try_recv().is_err(), "one process is enough");
        (stage, process, one, two)
    }
}

async fn until_ready(connection: &mut Connection) -> String {
    let mut name = String::new();
    loop {
        match connection.next().await {
            Happening::Turn(TurnEvent::SessionChanged(id)) => name = id,
            Happening::Turn(TurnEvent::Ready) => return name,
            other => panic!("{other:?}"),
        }
    }
}

async fn until_ended(connection: &mut Connection) -> (Outcome, Option<String>) {
    loop {
        match connection.next().await {
            Happening::Turn(TurnEvent::TurnEnded {
                outcome, answer, ..
            }) => return (outcome, answer),
            Happening::Turn(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn until_exit(connection: &mut Connection) -> Exit {
    loop {
        if let Happening::Exited(exit) = connection.next().await {
            return exit;
        }
    }
}

fn prompt(text: &str) -> Prompt {
    Prompt::text(text)
}

#[tokio::test]
async fn two_turns_run_in_one_process_at_the_same_time_and_each_gets_its_own_answer() {
    let (_stage, mut process, mut one, mut two) = Stage::two().await;
    one.submit(TurnId(1), &prompt("first")).expect("idle");
    two.submit(TurnId(2), &prompt("second")).expect("idle");
    let play = async {
        for _ in 0..2 {
            let request = process.hears().await;
            let thread = request["params"]["threadId"]
                .as_str()
                .expect("a thread")
                .to_owned();
            let turn =
                json!({"id": format!("turn of {thread}"), "status": "inProgress", "items": []});
            process
                .says(json!({"id": request["id"], "result": {"turn": turn}}))
                .await;
        }
        process.completes("two", "turn of two", "for two").await;
        process.completes("one", "turn of one", "for one").await;
        process
    };
    let (_process, first, second) =
        tokio::join!(play, until_ended(&mut one), until_ended(&mut two));
    assert_eq!(first, (Outcome::Completed, Some("for one".to_owned())));
    assert_eq!(second, (Outcome::Completed, Some("for two".to_owned())));
}

#[tokio::test]
async fn an_idle_lane_ends_alone_and_makes_room_for_another() {
    let (stage, mut process, mut one, mut two) = Stage::two().await;
    one.signal(GroupSignal::Terminate);
    assert_eq!(until_exit(&mut one).await.code, Some(0));
    drop(one);
    assert!(process.signals.try_recv().is_err(), "the process lives");
    two.submit(TurnId(1), &prompt("go on")).expect("idle");
    let play = async {
        process.takes_prompt("two", "t").await;
        process.completes("two", "t", "done").await;
    };
    let ((), ended) = tokio::join!(play, until_ended(&mut two));
    assert_eq!(ended.0, Outcome::Completed);
    let mut third = stage.connect().await;
    let play = process.answers("thread/start", json!({"thread": {"id": "three"}}));
    let (_, name) = tokio::join!(play, until_ready(&mut third));
    assert_eq!(
        name, "three",
        "the process was greeted before, so it is not again"
    );
}

#[tokio::test]
async fn whoever_is_stopped_in_the_middle_of_a_turn_takes_the_process_along() {
    let (mut stage, mut process, mut one, mut two) = Stage::two().await;
    one.submit(TurnId(1), &prompt("work")).expect("idle");
    let play = process.takes_prompt("one", "t");
    // The protocol is fed until it has told of the turn's beginning or the play is over.
    tokio::select! {
        () = play => {}
        happening = one.next() => panic!("{happening:?}"),
    }
    one.signal(GroupSignal::Terminate);
    assert_eq!(process.signals.recv().await, Some(GroupSignal::Terminate));
    one.signal(GroupSignal::Kill);
    assert_eq!(process.signals.recv().await, Some(GroupSignal::Kill));
    let third = stage.connect().await;
    assert!(
        stage.processes.recv().await.is_some(),
        "it takes nobody any more"
    );
    process.ends(3);
    drop(process);
    assert_eq!(until_exit(&mut one).await.code, Some(3));
    assert_eq!(until_exit(&mut two).await.code, Some(3));
    drop(third);
}

#[tokio::test]
async fn a_prompt_that_a_dead_process_was_never_given_is_not_written() {
    let (_stage, mut process, mut one, _two) = Stage::two().await;
    process.ends(9);
    drop(process);
    one.submit(TurnId(1), &prompt("never read")).expect("idle");
    assert_eq!(until_exit(&mut one).await.code, Some(9));
    assert!(!one.turn_was_written());
}

#[tokio::test]
async fn a_prompt_of_which_the_process_may_have_read_is_written() {
    let (_stage, mut process, mut one, _two) = Stage::two().await;
    one.submit(TurnId(1), &prompt("read")).expect("idle");
    tokio::select! {
        request = process.hears() => assert_eq!(request["method"], "turn/start"),
        happening = one.next() => panic!("{happening:?}"),
    }
    process.ends(9);
    drop(process);
    until_exit(&mut one).await;
    assert!(one.turn_was_written());
}

#[tokio::test]
async fn the_last_lane_ends_the_process() {
    let (_stage, mut process, one, two) = Stage::two().await;
    drop(one);
    assert!(process.signals.try_recv().is_err());
    drop(two);
    assert_eq!(process.signals.recv().await, Some(GroupSignal::Kill));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_closes_its_output_and_lives_on_is_killed() {
    let (_stage, mut process, mut one, _two) = Stage::two().await;
    process.stdout = tokio::io::duplex(1).0;
    assert_eq!(process.signals.recv().await, Some(GroupSignal::Kill));
    process.ends(9);
    assert_eq!(until_exit(&mut one).await.code, Some(9));
}
