//! A tool without a process: its pipes and its signals are in the test's hands.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream,
};
use tokio::sync::{mpsc, oneshot};
use toolpool_cluster::{ClusterBuilder, ClusterManager, Isolation, launch_cluster};
use toolpool_pool_core::launcher::{
    Exit, GroupSignal, LaunchSpec, Launcher, Process, ProcessGroup,
};
use toolpool_pool_core::profile::ToolProfile;

/// Far beyond every limit that a test sets, and free: the time is paused.
pub(crate) const LONG: Duration = Duration::from_secs(24 * 3600);

/// The test's end of a launcher.
pub(crate) struct Tools {
    started: mpsc::UnboundedReceiver<Tool>,
    pub(crate) world: Arc<World>,
}

/// What all processes share.
#[derive(Default)]
pub(crate) struct World {
    /// The names of the instances that have a live process.
    alive: Mutex<HashSet<String>>,
    pub(crate) launches: AtomicUsize,
    /// So many launches are refused before the next one succeeds.
    pub(crate) refusals: AtomicUsize,
    /// How long a launch takes, in seconds.
    pub(crate) slowness: AtomicU64,
    /// Launches that have begun and have no result yet, whether somebody waits for it or not.
    pub(crate) under_way: AtomicUsize,
    /// The next launch panics, as the code of somebody else may.
    pub(crate) panics: AtomicBool,
    /// SIGTERM is ignored.
    pub(crate) deaf: AtomicBool,
    /// SIGKILL has no effect, as in an uninterruptible system call.
    pub(crate) undead: AtomicBool,
}

impl World {
    pub(crate) fn alive(&self) -> usize {
        self.alive.lock().expect("no test panics with it").len()
    }

    pub(crate) fn launches(&self) -> usize {
        self.launches.load(Ordering::SeqCst)
    }
}

struct MemoryLauncher {
    started: mpsc::UnboundedSender<Tool>,
    world: Arc<World>,
}

/// The end of a process, whoever brings it about.
struct Life {
    instance: String,
    exit: Mutex<Option<oneshot::Sender<Exit>>>,
    signals: mpsc::UnboundedSender<GroupSignal>,
    world: Arc<World>,
}

impl Life {
    fn end(&self, exit: Exit) {
        if let Some(sender) = self.exit.lock().expect("no test panics with it").take() {
            self.world
                .alive
                .lock()
                .expect("no test panics with it")
                .remove(&self.instance);
            sender.send(exit).ok();
        }
    }
}

struct Group(Arc<Life>);

impl ProcessGroup for Group {
    fn signal(&self, signal: GroupSignal) {
        self.0.signals.send(signal).ok();
        let by = |number| Exit {
            code: None,
            signal: Some(number),
        };
        match signal {
            GroupSignal::Terminate if !self.0.world.deaf.load(Ordering::SeqCst) => {
                self.0.end(by(15))
            }
            GroupSignal::Kill if !self.0.world.undead.load(Ordering::SeqCst) => self.0.end(by(9)),
            _ => {}
        }
    }
}

#[async_trait]
impl Launcher for MemoryLauncher {
    async fn launch(&self, spec: &LaunchSpec) -> io::Result<Process> {
        self.world.launches.fetch_add(1, Ordering::SeqCst);
        assert!(
            !self.world.panics.load(Ordering::SeqCst),
            "a launcher with a bug"
        );
        self.world.under_way.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(
            self.world.slowness.load(Ordering::SeqCst),
        ))
        .await;
        self.world.under_way.fetch_sub(1, Ordering::SeqCst);
        let left = self.world.refusals.load(Ordering::SeqCst);
        if left > 0 {
            self.world.refusals.store(left - 1, Ordering::SeqCst);
            return Err(io::Error::other("no more processes"));
        }
        let named = |name: &str| {
            let pair = spec.env.iter().find(|(key, _)| key == name);
            pair.map(|(_, value)| value.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let instance = named("TOOLPOOL_INSTANCE");
        let alone = self
            .world
            .alive
            .lock()
            .expect("no test panics with it")
            .insert(instance.clone());
        assert!(alone, "{instance} has two processes");
        let (stdin, tool_stdin) = tokio::io::duplex(64 << 10);
        let (tool_stdout, stdout) = tokio::io::duplex(64 << 10);
        let (tool_stderr, stderr) = tokio::io::duplex(64 << 10);
        let (exit, exited) = oneshot::channel();
        let (signals, heard) = mpsc::unbounded_channel();
        let life = Arc::new(Life {
            instance: instance.clone(),
            exit: Mutex::new(Some(exit)),
            signals,
            world: Arc::clone(&self.world),
        });
        let args = spec.args.iter().map(|arg| arg.to_string_lossy());
        let tool = Tool {
            args: args.map(Into::into).collect(),
            folder: named("CLAUDE_CODE_TMPDIR"),
            instance,
            generation: named("TOOLPOOL_GENERATION"),
            stdin: Some(BufReader::new(tool_stdin)),
            stdout: tool_stdout,
            stderr: tool_stderr,
            signals: heard,
            life: Arc::clone(&life),
        };
        self.started
            .send(tool)
            .map_err(|_| io::Error::other("the test is over"))?;
        let exit = async move {
            exited.await.unwrap_or(Exit {
                code: None,
                signal: None,
            })
        };
        Ok(Process {
            pid: None,
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            exit: Box::pin(exit),
            group: Box::new(Group(life)),
        })
    }
}

/// One process, in the test's hands.
pub(crate) struct Tool {
    args: Vec<String>,
    /// The private folder, where Claude is told of it.
    pub(crate) folder: String,
    pub(crate) instance: String,
    pub(crate) generation: String,
    stdin: Option<BufReader<DuplexStream>>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    signals: mpsc::UnboundedReceiver<GroupSignal>,
    life: Arc<Life>,
}

/// A prompt as the tool reads it.
pub(crate) struct Read {
    pub(crate) nonce: String,
    pub(crate) text: String,
}

impl Tool {
    /// The conversation that Claude is told to go on with.
    pub(crate) fn resumes(&self) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == "--resume")?;
        self.args.get(at + 1).map(String::as_str)
    }

    pub(crate) async fn ready(&mut self) {
        self.say("standin ready\n").await;
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.stdout
            .write_all(text.as_bytes())
            .await
            .expect("somebody reads it");
    }

    /// The same if anybody reads it; false if nobody does any more.
    pub(crate) async fn try_say(&mut self, text: &str) -> bool {
        self.stdout.write_all(text.as_bytes()).await.is_ok()
    }

    pub(crate) async fn complain(&mut self, text: &str) {
        self.stderr
            .write_all(text.as_bytes())
            .await
            .expect("somebody reads it");
    }

    /// The next prompt; None when there will be no more.
    pub(crate) async fn maybe_read(&mut self) -> Option<Read> {
        let mut line = String::new();
        self.stdin.as_mut()?.read_line(&mut line).await.ok()?;
        let (nonce, json) = line.trim_end().split_once(' ')?;
        Some(Read {
            nonce: nonce.to_owned(),
            text: serde_json::from_str(json).expect("a prompt is JSON"),
        })
    }

    /// The next line of a tool that speaks JSON.
    pub(crate) async fn read_json(&mut self) -> serde_json::Value {
        let mut line = String::new();
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.read_line(&mut line).await.expect("it can be read");
        serde_json::from_str(&line).expect("it is JSON")
    }

    /// What it is sent from here to the end of its input.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.read_to_string(&mut text).await.expect("it is text");
        text
    }

    /// So much of its input, and no more.
    pub(crate) async fn read_some(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin
            .read_exact(&mut bytes)
            .await
            .expect("there is so much");
        String::from_utf8(bytes).expect("it is text")
    }

    pub(crate) async fn read(&mut self) -> Read {
        self.maybe_read().await.expect("a prompt")
    }

    pub(crate) async fn answer(&mut self, nonce: &str, text: &str) {
        self.say(&format!("{text}\n{nonce} end\n")).await;
    }

    /// Reads a prompt and answers it.
    pub(crate) async fn turn(&mut self) {
        let read = self.read().await;
        self.answer(&read.nonce, &format!("{}: {}", self.instance, read.text))
            .await;
    }

    /// Answers everything until its end.
    pub(crate) async fn serve(mut self) {
        while let Some(read) = self.maybe_read().await {
            let reply = format!("{}: {}\n{} end\n", self.instance, read.text, read.nonce);
            if self.stdout.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// From now on nothing can be written to it.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn exit(self, code: i32) {
        self.life.end(Exit {
            code: Some(code),
            signal: None,
        });
    }

    /// The next signal that it gets.
    pub(crate) async fn signaled(&mut self) -> GroupSignal {
        self.signals.recv().await.expect("the group outlives it")
    }
}

impl Tools {
    /// A builder of clusters whose processes come from here.
    pub(crate) fn cluster(count: usize) -> (ClusterBuilder, Self) {
        Self::cluster_of("standin", count)
    }

    /// The same with the dialect of another tool.
    pub(crate) fn cluster_of(tool: &str, count: usize) -> (ClusterBuilder, Self) {
        Self::changed(tool, count, |_| {})
    }

    /// The same with a profile that is changed.
    pub(crate) fn cluster_with(
        count: usize,
        change: impl FnOnce(&mut ToolProfile),
    ) -> (ClusterBuilder, Self) {
        Self::changed("standin", count, change)
    }

    fn changed(
        tool: &str,
        count: usize,
        change: impl FnOnce(&mut ToolProfile),
    ) -> (ClusterBuilder, Self) {
        let (sender, started) = mpsc::unbounded_channel();
        let world = Arc::new(World::default());
        let launcher = MemoryLauncher {
            started: sender,
            world: Arc::clone(&world),
        };
        let mut profile = ToolProfile::builtin(tool).expect("built in");
        // It is looked for, but never started.
        profile.program = "/bin/sh".to_owned();
        change(&mut profile);
        let builder = launch_cluster(profile)
            .count(count)
            .isolation(Isolation::Shared)
            .launcher(Arc::new(launcher));
        (builder, Self { started, world })
    }

    pub(crate) async fn next(&mut self) -> Tool {
        self.started.recv().await.expect("the launcher lives")
    }

    /// The next process, made ready.
    pub(crate) async fn next_ready(&mut self) -> Tool {
        let mut tool = self.next().await;
        tool.ready().await;
        tool
    }

    /// Launches, with every instance ready, in the order of their names.
    pub(crate) async fn launch(
        &mut self,
        builder: ClusterBuilder,
        count: usize,
    ) -> (ClusterManager, Vec<Tool>) {
        let make_ready = async {
            let mut tools = Vec::new();
            for _ in 0..count {
                tools.push(self.next_ready().await);
            }
            tools.sort_by(|a, b| a.instance.cmp(&b.instance));
            tools
        };
        let (cluster, tools) = tokio::join!(builder, make_ready);
        (cluster.unwrap_or_else(|error| panic!("{error}")), tools)
    }

    /// Lets every process from now on answer by itself.
    pub(crate) fn serve_all(mut self) -> Arc<World> {
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            while let Some(mut tool) = self.started.recv().await {
                tool.ready().await;
                tokio::spawn(tool.serve());
            }
        });
        world
    }
}

/// One instance, ready.
pub(crate) async fn one(
    change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
) -> (ClusterManager, Tool, Tools) {
    let (builder, mut tools) = Tools::cluster(1);
    let (cluster, mut ready) = tools.launch(change(builder), 1).await;
    let tool = ready.pop().expect("one");
    (cluster, tool, tools)
}

/// A cluster whose tools answer by themselves.
pub(crate) async fn served(
    count: usize,
    change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
) -> (ClusterManager, Arc<World>) {
    let (builder, tools) = Tools::cluster(count);
    let world = tools.serve_all();
    let cluster = change(builder)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    (cluster, world)
}

/// Lets everything happen that can happen without the time passing.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
