//! One cluster of which every account is kept.
//!
//! Owns the clients' ledger and the collection of the others. Must not judge: the checker of the testkit does. Invariant:
//! every prompt goes through here, so the clients' ledger is whole.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tokio::sync::mpsc;
use toolpool::{
    AskError, ClusterBuilder, ClusterManager, Event, EventSink, Grade, InstanceStatus, Isolation,
    Metrics, Outcome, Reply, ReplyStream, RestartLimit, Session, ShutdownReport, Submission,
    ToolProfile, launch_cluster,
};
use toolpool_testkit::census::{Census, MARKER};
use toolpool_testkit::ledgers::{Answer, Ledgers, Sums, Told, reads};

use crate::books;
use crate::lab::{LONG, Lab};

/// Restarts as they come.
const WITHOUT_END: RestartLimit = RestartLimit {
    restarts: u32::MAX,
    within: Duration::from_secs(60),
};

/// Names the bug that is in, see `cargo xtask planted`.
const PLANTED: &str = "TOOLPOOL_PLANTED";

/// What the launch and the stop of very many processes may take longer on a slow machine, for each of them.
const FOR_EACH: Duration = Duration::from_millis(200);

/// A cluster with its ledgers. Clones are handles to the same one, but only one of them can close it.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) cluster: ClusterManager,
    pub(crate) census: Census,
    seed: String,
    ledger: PathBuf,
    /// Its journal, which is an account like the others.
    journal: Option<PathBuf>,
    metrics: Metrics,
    before: String,
    told: Arc<Mutex<Vec<Told>>>,
    patience: Duration,
    /// What a completed reply is, unless a case says otherwise.
    usual: Answer,
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Value>>>,
}

/// Takes every event; the channel ends with the cluster.
struct History(mpsc::UnboundedSender<Value>);

impl EventSink for History {
    fn on_event(&mut self, event: &Event) {
        // A case that has failed does not collect them any more.
        self.0
            .send(serde_json::to_value(event).unwrap_or_default())
            .ok();
    }
}

/// What a caller was told about its prompt.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// The outcome's word, or `refused`.
    pub(crate) outcome: &'static str,
    /// The class of a failure, the cause of a doubt, the code of a refusal; empty if it completed.
    pub(crate) cause: &'static str,
    /// The details, for a human.
    pub(crate) detail: String,
    /// The reply as far as it came.
    pub(crate) text: String,
    /// How the end was known.
    pub(crate) reply: Option<Reply>,
}

impl Said {
    /// Demands an outcome and, unless it is empty, a cause.
    pub(crate) fn must_be(self, outcome: &str, cause: &str) -> Result<Self> {
        if self.outcome == outcome && (cause.is_empty() || self.cause == cause) {
            return Ok(self);
        }
        bail!(
            "{outcome} ({cause}) was expected, and it was {} ({}): {}",
            self.outcome,
            self.cause,
            self.detail
        )
    }

    /// Which process of the instance ran it.
    pub(crate) fn generation(&self) -> u64 {
        self.reply.as_ref().map_or(0, |reply| reply.generation)
    }
}

/// A prompt that was accepted and has not ended yet.
pub(crate) struct Asked {
    pub(crate) stream: ReplyStream,
    prompt: String,
    answer: Answer,
    rig: Rig,
}

impl Rig {
    pub(crate) async fn launch(
        lab: &Lab,
        profile: ToolProfile,
        count: usize,
        change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Result<Self> {
        let (sink, events) = mpsc::unbounded_channel();
        // A screen is read in rows, so an answer has a line end there.
        let usual = match profile.grade() {
            Grade::D => Answer::Around,
            _ => Answer::Formula,
        };
        let metrics = Metrics::new();
        let before = metrics.render();
        let builder = launch_cluster(profile)
            .count(count)
            .cwd(lab.folder())
            .isolation(Isolation::Shared)
            .restart_delay(Duration::from_millis(1), Duration::from_millis(10))
            // Cases crash an instance far more often than is let pass elsewhere.
            .restart_limits(WITHOUT_END, WITHOUT_END)
            .env(MARKER, lab.census().marker())
            .sink(History(sink))
            .sink(metrics.sink());
        // A keeper is as wrong as the program that it belongs to.
        let bug = std::env::var(PLANTED).ok();
        let builder = match bug {
            Some(bug) if cfg!(planted) => builder.env(PLANTED, bug),
            _ => builder,
        };
        let patience = LONG + FOR_EACH * u32::try_from(count)?;
        let cluster = tokio::time::timeout(patience, change(builder).into_future());
        let cluster = cluster.await.context("the launch does not end")?;
        let cluster = cluster.context("the cluster was not launched")?;
        Ok(Self {
            cluster,
            census: lab.census().clone(),
            seed: lab.seed().to_owned(),
            ledger: lab.ledger(),
            journal: None,
            metrics,
            before,
            told: Arc::default(),
            patience,
            usual,
            events: Arc::new(tokio::sync::Mutex::new(events)),
        })
    }

    /// The cluster keeps a journal there, which has no other cluster's prompts.
    pub(crate) fn with_journal(self, journal: PathBuf) -> Self {
        Self {
            journal: Some(journal),
            ..self
        }
    }

    /// Asks, and waits for the end; a completed reply must be the formula's.
    pub(crate) async fn ask(&self, prompt: &str) -> Result<Said> {
        self.ask_so(prompt, self.usual.clone(), |submission| submission)
            .await
    }

    /// The same on one instance.
    pub(crate) async fn ask_on(&self, instance: usize, prompt: &str) -> Result<Said> {
        self.ask_so(prompt, self.usual.clone(), |submission| {
            submission.on_instance(instance)
        })
        .await
    }

    /// Asks with wishes of the caller's own.
    pub(crate) async fn ask_so(
        &self,
        prompt: &str,
        answer: Answer,
        wish: impl FnOnce(Submission) -> Submission,
    ) -> Result<Said> {
        match self.begin(prompt, answer, wish).await? {
            Ok(asked) => asked.end().await,
            Err(refused) => Ok(refused),
        }
    }

    /// Begins to ask: until the prompt is accepted, or was refused.
    pub(crate) async fn begin(
        &self,
        prompt: &str,
        answer: Answer,
        wish: impl FnOnce(Submission) -> Submission,
    ) -> Result<Result<Asked, Said>> {
        let submission = wish(Submission::text(prompt));
        let begun = in_time(self.cluster.stream(submission)).await?;
        self.begun(prompt, answer, begun)
    }

    /// The same in a session, as its handle sends it.
    pub(crate) async fn begin_in(
        &self,
        session: &Session,
        prompt: &str,
        answer: Answer,
    ) -> Result<Result<Asked, Said>> {
        let begun = in_time(session.stream(prompt)).await?;
        self.begun(prompt, answer, begun)
    }

    fn begun(
        &self,
        prompt: &str,
        answer: Answer,
        begun: Result<ReplyStream, AskError>,
    ) -> Result<Result<Asked, Said>> {
        match begun {
            Ok(stream) => Ok(Ok(Asked {
                stream,
                prompt: prompt.to_owned(),
                answer,
                rig: self.clone(),
            })),
            Err(AskError::Submit(refusal)) => {
                let said = Said {
                    outcome: "refused",
                    cause: refusal.code(),
                    detail: refusal.to_string(),
                    text: String::new(),
                    reply: None,
                };
                self.note(prompt, None, Some(&said), answer);
                Ok(Err(said))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A caller left before it was told anything. The turn, and how it must end, is what somebody else knows of it.
    pub(crate) fn left_unheard(&self, prompt: &str, turn: u64, outcome: &'static str) {
        let said = Said {
            outcome,
            cause: "",
            detail: String::new(),
            text: String::new(),
            reply: None,
        };
        self.note(prompt, Some(turn), Some(&said), Answer::Formula);
    }

    fn note(&self, prompt: &str, turn: Option<u64>, said: Option<&Said>, answer: Answer) {
        let told = Told {
            prompt: prompt.to_owned(),
            turn,
            outcome: said.map(|said| said.outcome.to_owned()),
            cause: said.map_or_else(String::new, |said| said.cause.to_owned()),
            text: said.map_or_else(String::new, |said| said.text.clone()),
            answer,
        };
        // Nothing can panic while it is held.
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(told);
    }

    /// One instance at this moment.
    pub(crate) async fn status(&self, instance: usize) -> Result<InstanceStatus> {
        let mut status = in_time(self.cluster.status()).await??;
        Ok(status.instances.swap_remove(instance))
    }

    /// Looks until the instance is as it is waited for. Looking is a message to the cluster, so it is no busy wait alone.
    pub(crate) async fn until(
        &self,
        instance: usize,
        what: &str,
        seen: impl Fn(&InstanceStatus) -> bool,
    ) -> Result<InstanceStatus> {
        let begun = Instant::now();
        loop {
            let status = self.status(instance).await?;
            if seen(&status) {
                return Ok(status);
            }
            if begun.elapsed() > LONG {
                bail!("{} was never {what}: {status:?}", status.name);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many series the metrics have now.
    pub(crate) fn series(&self) -> usize {
        let text = self.metrics.render();
        let is_series = |line: &&str| !line.is_empty() && !line.starts_with('#');
        text.lines().filter(is_series).count()
    }

    /// Stops the cluster and reconciles all accounts. Nothing of it lives afterwards.
    pub(crate) async fn close(self) -> Result<Sums> {
        self.close_within(LONG).await
    }

    /// The same with a time for what still runs.
    pub(crate) async fn close_within(self, patience: Duration) -> Result<Sums> {
        let report = tokio::time::timeout(self.patience, self.cluster.shutdown_within(patience));
        let report = report.await.context("the shutdown does not end")?;
        self.settle(report).await
    }

    /// Reconciles all accounts of a cluster that has been shut down with this report.
    pub(crate) async fn settle(self, report: ShutdownReport) -> Result<Sums> {
        let alive = self.census.alive();
        if !alive.is_empty() {
            bail!("after the shutdown these live: {alive:?}");
        }
        if !report.books.balance() || report.books.queued + report.books.running > 0 {
            bail!("the books do not balance: {:?}", report.books);
        }
        let mut events = Vec::new();
        let mut told = self.events.lock().await;
        while let Some(event) = in_time(told.recv()).await? {
            events.push(event);
        }
        let ledger = match std::fs::read_to_string(&self.ledger) {
            // No tool has read anything.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        std::fs::remove_file(&self.ledger).ok();
        let ledgers = Ledgers {
            seed: self.seed.clone(),
            reads: reads(&ledger).map_err(|wrong| anyhow!(wrong))?,
            told: std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner)),
            events,
            before: self.before.clone(),
            after: self.metrics.render(),
            kept: self.journal.as_deref().map(books::kept).transpose()?,
        };
        let mut sums = ledgers.reconcile();
        if let Ok(sums) = &sums
            && (sums.accepted, sums.refused) != (report.books.accepted, report.books.refused)
        {
            bail!(
                "the books say {:?}, and the accounts {sums:?}",
                report.books
            );
        }
        if let Err(wrong) = &mut sums {
            let more = wrong.len().saturating_sub(5);
            wrong.truncate(5);
            bail!(
                "the accounts disagree: {}; and {more} more",
                wrong.join("; ")
            );
        }
        sums.map_err(|wrong| anyhow!(wrong.join("; ")))
    }
}

impl Asked {
    /// Goes away before the end, which withdraws the prompt.
    pub(crate) fn leave(self) {
        let turn = Some(self.stream.turn().0);
        self.rig.note(&self.prompt, turn, None, self.answer);
    }

    /// Waits for the end.
    pub(crate) async fn end(self) -> Result<Said> {
        let (rig, prompt, answer) = (self.rig, self.prompt, self.answer);
        let reply = match in_time(self.stream.reply()).await? {
            Ok(reply) => reply,
            Err(AskError::Turn(reply)) => *reply,
            Err(error) => return Err(error.into()),
        };
        let outcome = reply.outcome.word();
        let (cause, detail) = match &reply.outcome {
            Outcome::Failed(failure) => (failure.class.word(), failure.message.clone()),
            Outcome::Indeterminate(doubt) => (doubt.cause.word(), doubt.detail.clone()),
            _ => ("", String::new()),
        };
        let turn = Some(reply.turn.0);
        let said = Said {
            outcome,
            cause,
            detail,
            text: reply.text.clone(),
            reply: Some(reply),
        };
        rig.note(&prompt, turn, Some(&said), answer);
        Ok(said)
    }
}

/// A case must not hang for ever.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LONG, what)
        .await
        .with_context(|| format!("it took longer than {} s", LONG.as_secs()))
}
