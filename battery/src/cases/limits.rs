//! Too few files and too few terminals.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use toolpool::{
    BreakerConfig, EventKind, InstanceState, Isolation, Submission, ToolProfile, launch_cluster,
};
use toolpool_testkit::census::MARKER;
use toolpool_testkit::ledgers::{Answer, answer_to};

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::mounts;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 74,
        tier: 1,
        name: "no more open files",
        injects: "a limit of 5 open files for 2 s while 4 instances crash",
        alone: true,
        run: |lab| Box::pin(no_files(lab)),
    },
    Case {
        number: 75,
        tier: 1,
        name: "a start that fails halfway",
        injects: "1,000 starts that run out of open files, each at one of the places where one is opened",
        alone: false,
        run: |lab| Box::pin(starts_fail(lab)),
    },
    Case {
        number: 78,
        tier: 1,
        name: "no more terminals",
        injects: "4 instances on terminals where the machine has 3, beside 4 on pipes",
        alone: false,
        run: |lab| Box::pin(few_terminals(lab)),
    },
];

/// Below this number every file of this program is open.
const FEW: u64 = 5;

/// Sets the limit of open files; those that are open stay so.
fn limit_files(files: u64) -> Result<()> {
    let limit = Rlimit {
        current: Some(files),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).context("cannot set the limit of open files")
}

/// The processor time of this process. No file is needed to know it.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

async fn no_files(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const LACK: Duration = Duration::from_secs(2);
    let witness = Witness::default();
    let rig = lab
        .launch(
            lab.standin(&["on prompt ~crash exit 1"])?,
            INSTANCES,
            |builder| {
                builder
                    .breaker(BreakerConfig {
                        failures: 5,
                        open_for: Duration::from_millis(100),
                        open_for_max: Duration::from_millis(200),
                    })
                    .sink(witness.clone())
            },
        )
        .await?;
    let before = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::from(u32::MAX));
    let spawned = || witness.count(|event| matches!(event, EventKind::InstanceSpawned { .. }));
    limit_files(FEW)?;
    let (begun, used) = (Instant::now(), cpu());
    for instance in 0..INSTANCES {
        let said = rig.ask_on(instance, &format!("crash {instance}")).await?;
        said.must_be("indeterminate", "crashed")?;
    }
    let prompt = "a prompt that waits for room";
    let asked = rig.begin(prompt, Answer::Formula, |wish| wish).await?;
    let mut asked = asked.ok().context("it was refused")?;
    let waited = tokio::time::timeout(LACK, asked.stream.chunk()).await;
    asked.leave();
    let used = (cpu() - used).as_secs_f64() / begun.elapsed().as_secs_f64();
    limit_files(before)?;
    ensure!(
        waited.is_err(),
        "it was answered by a process that cannot be"
    );
    ensure!(spawned() == INSTANCES, "{} processes began", spawned());
    for instance in 0..INSTANCES {
        let said = rig.ask_on(instance, &format!("fine {instance}")).await?;
        said.must_be("completed", "")?;
    }
    let failed = witness.count(is_failed_start);
    let sums = rig.close().await?;
    ensure!(failed > INSTANCES, "{failed} starts failed");
    ensure!(used < 0.2, "{:.0} % of a core", used * 100.0);
    Ok(Counted::new(format!(
        "{sums}; 0 processes began without files, {INSTANCES} with them again"
    ))
    .figure(
        "processor of toolpool meanwhile",
        format!("{:.1} % of a core", used * 100.0),
    ))
}

fn is_failed_start(event: &EventKind) -> bool {
    matches!(
        event,
        EventKind::InstanceChanged {
            from: InstanceState::Starting,
            to: InstanceState::Backoff | InstanceState::Tripped,
            ..
        }
    )
}

async fn starts_fail(lab: &Lab) -> Result<Counted> {
    const TRIES: usize = 1000;
    let witness = Witness::default();
    let never = BreakerConfig {
        failures: u32::MAX,
        ..BreakerConfig::default()
    };
    let rig = lab
        .launch(lab.standin(&["on prompt ~crash exit 1"])?, 1, |builder| {
            builder
                .breaker(never)
                .restart_delay(Duration::from_millis(1), Duration::from_millis(2))
                .sink(witness.clone())
        })
        .await?;
    let before = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::from(u32::MAX));
    let failed = || witness.count(is_failed_start);
    let mut places = 0;
    while failed() < TRIES {
        limit_files(FEW)?;
        let said = rig.ask(&format!("crash {places}")).await?;
        said.must_be("indeterminate", "crashed")?;
        // One file more each time, until it is enough.
        for files in FEW.. {
            limit_files(files)?;
            let enough = failed() + 10;
            let status = rig
                .until(0, "failed or ready", |status| {
                    failed() >= enough || status.state == InstanceState::Ready
                })
                .await?;
            if status.state == InstanceState::Ready {
                break;
            }
            places += 1;
        }
    }
    limit_files(before)?;
    rig.ask("fine").await?.must_be("completed", "")?;
    let crashes = rig.close().await?;
    ensure!(crashes.of("completed") == 1, "{crashes}");
    Ok(Counted::new(format!(
        "at least {TRIES} starts failed and nothing of them is left; the first that could answered"
    ))
    .figure("limits that were not enough, 10 starts each", places))
}

/// How many terminals there are then.
const TERMINALS: usize = 3;

/// Runs the case again in a mount namespace with a `devpts` of its own.
async fn few_terminals(lab: &Lab) -> Result<Counted> {
    if mounts::here().is_some() {
        return on_few_terminals(lab).await;
    }
    let mount = format!(
        "mount -t devpts -o newinstance,ptmxmode=0666,max={TERMINALS} devpts /dev/pts && \
         mount --bind /dev/pts/ptmx /dev/ptmx"
    );
    mounts::again(lab, 78, &mount).await
}

async fn on_few_terminals(lab: &Lab) -> Result<Counted> {
    const ASKED: usize = TERMINALS + 1;
    let rig = lab
        .launch(lab.on_terminal(&[])?, ASKED, |builder| builder)
        .await?;
    let status = rig.cluster.status().await?;
    let (ready, not): (Vec<_>, Vec<_>) = status
        .instances
        .iter()
        .partition(|instance| instance.state == InstanceState::Ready);
    ensure!(ready.len() == TERMINALS, "{} are ready", ready.len());
    let reason = &not[0].reason;
    ensure!(reason.contains("terminal"), "it says {reason:?}");
    // Beside it, and without an account: the case's ledger is that of the other cluster.
    let mut profile: ToolProfile = lab.standin(&[])?;
    let ledger = lab.ledger().display().to_string();
    profile
        .args
        .retain(|arg| *arg != "--ledger" && *arg != ledger);
    let (key, value) = (MARKER, lab.census().marker());
    let pipes = launch_cluster(profile)
        .count(ASKED)
        .cwd(lab.folder())
        .isolation(Isolation::Shared)
        .env(key, value)
        .await?;
    for instance in 0..ASKED {
        let prompt = format!("on pipes {instance}");
        let submission = Submission::text(prompt.as_str()).on_instance(instance);
        let reply = pipes.ask(submission).await?;
        ensure!(
            reply.text == answer_to(lab.seed(), &prompt),
            "another answer"
        );
    }
    pipes.shutdown().await;
    for instance in ready {
        let prompt = format!("on terminal {}", instance.index);
        let on = |wish: Submission| wish.on_instance(instance.index);
        let said = rig.ask_so(&prompt, Answer::Around, on).await?;
        said.must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; {TERMINALS} of {ASKED} have a terminal and the other one says why not, {ASKED} of {ASKED} on pipes answer"
    )))
}
