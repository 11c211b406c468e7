//! One tool on the bench.
//!
//! Owns the tool's warm instance and the limit of each case. Must not know what the cases are. Invariant: a case that
//! fails does not spoil the next one: that begins with a new instance.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use toolpool::{Approvals, ClusterBuilder, ClusterError, ClusterManager, Isolation};

use crate::case::{Case, Verdict};
use crate::cases;
use crate::census;
use crate::speech::{Expected, Speech, Spoken};

/// Longest time of one case. The longest that was measured took 182 s, with nine processes for each of two cores.
const LIMIT: Duration = Duration::from_secs(600);

/// A tool that is examined.
pub struct Bench {
    launch: Box<dyn Fn() -> ClusterBuilder + Send + Sync>,
    pub(crate) speech: Box<dyn Speech>,
    pub(crate) folder: PathBuf,
    pub(crate) marker: String,
    warm: Option<ClusterManager>,
    asking: Option<(Duration, ClusterManager)>,
    numbers: usize,
}

impl Bench {
    /// `launch` makes a cluster of the tool that works in `folder` and has the marker in its environment, see
    /// [`MARKER`](crate::MARKER); `speech` is how that tool is spoken to.
    pub fn new(
        launch: impl Fn() -> ClusterBuilder + Send + Sync + 'static,
        speech: Box<dyn Speech>,
        folder: &Path,
        marker: &str,
    ) -> Self {
        Self {
            launch: Box::new(launch),
            speech,
            folder: folder.to_owned(),
            marker: marker.to_owned(),
            warm: None,
            asking: None,
            numbers: 0,
        }
    }

    /// Runs one case.
    ///
    /// # Errors
    /// What was seen to be wrong.
    pub async fn examine(&mut self, case: Case) -> Result<Verdict, String> {
        let verdict = match tokio::time::timeout(LIMIT, cases::run(case, self)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(format!("did not end within {} s", LIMIT.as_secs())),
        };
        if verdict.is_err() {
            self.quit().await;
            self.clear_away();
        }
        verdict
    }

    /// Kills what a case that failed has left behind.
    pub(crate) fn clear_away(&self) {
        for pid in self.census() {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                // One that has gone meanwhile is no error.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }

    /// Stops all instances.
    pub async fn quit(&mut self) {
        self.quit_within(Duration::ZERO).await;
    }

    /// Stops all instances. Their turns, if any run, have so long to end.
    pub(crate) async fn quit_within(&mut self, within: Duration) {
        let asking = self.asking.take().map(|(_, cluster)| cluster);
        for cluster in [self.warm.take(), asking].into_iter().flatten() {
            cluster.shutdown_within(within).await;
        }
    }

    /// Settings for a cluster of its own.
    pub(crate) fn builder(&self) -> ClusterBuilder {
        (self.launch)()
            .isolation(Isolation::Shared)
            .approvals(Approvals::All)
    }

    /// The warm instance, started if need be. It is allowed everything that it asks for.
    pub(crate) async fn warm(&mut self) -> Result<ClusterManager, String> {
        match &self.warm {
            Some(cluster) => Ok(cluster.clone()),
            None => {
                let cluster = self.builder().await.map_err(|error| error.to_string())?;
                Ok(self.warm.insert(cluster).clone())
            }
        }
    }

    /// An instance that asks before it acts and waits so long for an answer, started if need be; None if the tool never
    /// asks.
    pub(crate) async fn asking(
        &mut self,
        patience: Duration,
    ) -> Result<Option<ClusterManager>, String> {
        if let Some((known, cluster)) = self.asking.take() {
            if known == patience {
                self.asking = Some((known, cluster.clone()));
                return Ok(Some(cluster));
            }
            cluster.shutdown_within(Duration::ZERO).await;
        }
        let builder = self.builder().approvals(Approvals::Ask);
        match builder.approval_timeout(patience).await {
            Ok(cluster) => {
                self.asking = Some((patience, cluster.clone()));
                Ok(Some(cluster))
            }
            Err(ClusterError::Setting {
                setting: "approvals",
                ..
            }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends a prompt afresh to the warm instance, and judges its answer.
    pub(crate) async fn say(&mut self, spoken: Spoken) -> Result<(), String> {
        let cluster = self.warm().await?;
        let submission = toolpool::Submission::text(spoken.prompt).fresh();
        let reply = cluster
            .ask(submission)
            .await
            .map_err(|error| error.to_string())?;
        spoken.expected.judge(&reply.text)
    }

    /// Sees that the warm instance takes a prompt, and says which of its processes answered it.
    pub(crate) async fn next_turn(&mut self) -> Result<u64, String> {
        let cluster = self.warm().await?;
        let number = self.number();
        let spoken = self.speech.say(&format!("next turn {number}"));
        let reply = cluster.ask(spoken.prompt).await;
        let reply = reply.map_err(|error| format!("the next turn: {error}"))?;
        let judged = spoken.expected.judge(&reply.text);
        judged.map_err(|wrong| format!("the next turn: {wrong}"))?;
        Ok(reply.generation)
    }

    /// Which of its processes the warm instance has.
    pub(crate) async fn generation(&mut self) -> Result<u64, String> {
        let status = self.warm().await?.status().await;
        let status = status.map_err(|error| error.to_string())?;
        let instance = status.instances.first().ok_or("it has no instance")?;
        Ok(instance.generation)
    }

    /// A number that was not used on this bench.
    pub(crate) fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    /// The processes that live.
    pub(crate) fn census(&self) -> Vec<u32> {
        census(&self.marker)
    }

    /// Orders something of which only what it does counts.
    pub(crate) fn order(&self, prompt: String) -> Spoken {
        Spoken {
            prompt,
            expected: Expected::Any,
        }
    }
}
