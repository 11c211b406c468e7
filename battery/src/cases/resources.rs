//! What there is too little of, and what must be given back.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use toolpool::{EventKind, InstanceState, Recycle, Submission, ToolProfile};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::own;
use crate::rig::Rig;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 76,
        tier: 1,
        name: "a tool that grows",
        injects: "50 MiB more after each of 20 prompts, with a limit of 120 MiB between turns; 200 MiB in the middle of 5 turns that hang, with a limit of 100 MiB",
        alone: false,
        run: |lab| Box::pin(grows(lab)),
    },
    Case {
        number: 77,
        tier: 1,
        name: "files that others leave open",
        injects: "500 starts while 4 threads keep pipes, sockets and terminals open that are inherited",
        alone: false,
        run: |lab| Box::pin(foreign_files(lab)),
    },
    Case {
        number: 79,
        tier: 1,
        name: "a fork bomb",
        injects: "a tool whose processes double 8 times, 5 times over, killed while they do, beside 3 that work",
        alone: true,
        run: |lab| Box::pin(fork_bomb(lab)),
    },
    Case {
        number: 80,
        tier: 1,
        name: "a thousand restarts",
        injects: "750 restarts on pipes and 250 on terminals",
        alone: false,
        run: |lab| Box::pin(restarts(lab)),
    },
];

async fn grows(lab: &Lab) -> Result<Counted> {
    let between = grows_between_turns(lab).await?;
    let within = grows_in_a_turn(lab).await?;
    Ok(Counted::new(format!("{between}; {within}")))
}

async fn grows_between_turns(lab: &Lab) -> Result<String> {
    const PROMPTS: usize = 20;
    let recycle = Recycle {
        rss_bytes: Some(120 << 20),
        ..Recycle::default()
    };
    let witness = Witness::default();
    let rig = lab
        .launch(lab.standin(&["on every 1 grow 50MiB"])?, 1, |builder| {
            builder.recycle(recycle).sink(witness.clone())
        })
        .await?;
    let before = own::resident()?;
    for number in 0..PROMPTS {
        let said = rig.ask(&format!("prompt {number}")).await?;
        said.must_be("completed", "")?;
        // Each third one is answered by a process that holds 150 MiB, which is replaced before the next.
        let generation = (number as u64 + 1) / 3 + 1;
        rig.until(0, "replaced", |status| {
            status.generation == generation && status.state == InstanceState::Ready
        })
        .await?;
    }
    let grown = own::resident()?.saturating_sub(before);
    let recycled = witness.count(
        |event| matches!(event, EventKind::InstanceRecycled { cause, .. } if *cause == "rss"),
    );
    let sums = rig.close().await?;
    ensure!(recycled == PROMPTS / 3, "{recycled} were replaced");
    ensure!(grown < 32 << 20, "toolpool itself grew by {grown} bytes");
    Ok(format!(
        "{sums}; {recycled} processes replaced between two turns"
    ))
}

async fn grows_in_a_turn(lab: &Lab) -> Result<String> {
    const TIMES: usize = 5;
    let rules = ["on prompt ~large grow 200MiB", "on prompt ~large hang"];
    let rig = lab
        .launch(lab.standin(&rules)?, 1, |builder| {
            builder
                .memory_limit(100 << 20)
                .stop_grace(Duration::from_millis(100))
        })
        .await?;
    let before = own::resident()?;
    for number in 0..TIMES {
        let said = rig.ask(&format!("small {number}")).await?;
        let small = said.must_be("completed", "")?;
        let said = rig.ask(&format!("large {number}")).await?;
        let large = said.must_be("indeterminate", "memory_limit")?;
        ensure!(
            large.generation() == small.generation() && large.detail.contains("may have 100 MiB"),
            "{large:?}"
        );
    }
    let grown = own::resident()?.saturating_sub(before);
    let sums = rig.close().await?;
    ensure!(sums.spawned >= TIMES as u64, "{} processes", sums.spawned);
    ensure!(grown < 32 << 20, "toolpool itself grew by {grown} bytes");
    Ok(format!("{sums}; {TIMES} killed in the middle of a turn"))
}

/// Keeps files open that a process inherits unless somebody takes care, each for a moment.
fn litter(done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let (pipe, _writer) = std::io::pipe()?;
        let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
        let terminal = std::fs::File::open("/dev/ptmx")?;
        // A duplicate has no close-on-exec flag.
        let kept = [pipe.as_fd(), socket.as_fd(), terminal.as_fd()].map(rustix::io::dup);
        // As long as some starts take.
        std::thread::sleep(Duration::from_millis(5));
        for file in kept {
            file?;
        }
    }
    Ok(())
}

async fn foreign_files(lab: &Lab) -> Result<Counted> {
    const ON_PIPES: usize = 400;
    const ON_TERMINALS: usize = 100;
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || litter(&done))
        })
        .collect();
    let looked = async {
        look_at_files(lab, lab.standin(&[])?, ON_PIPES).await?;
        look_at_files(lab, lab.on_terminal(&[])?, ON_TERMINALS).await
    }
    .await;
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        match thread.join() {
            Ok(littered) => littered?,
            Err(_) => bail!("a thread panicked"),
        }
    }
    looked?;
    Ok(Counted::new(format!(
        "{ON_PIPES} tools on pipes and {ON_TERMINALS} on terminals have files 0, 1, 2 and their ledger open, and no other"
    )))
}

/// Launches so many tools, and looks at the open files of each from outside.
async fn look_at_files(lab: &Lab, profile: ToolProfile, count: usize) -> Result<()> {
    let rig = lab.launch(profile, count, |builder| builder).await?;
    let ledger = lab.ledger();
    let status = rig.cluster.status().await?;
    for instance in &status.instances {
        let pid = instance.pid.context("it has a process")?;
        let mut numbers = Vec::new();
        for file in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let file = file?;
            if std::fs::read_link(file.path())? != ledger {
                numbers.push(file.file_name().to_string_lossy().parse::<u32>()?);
            }
        }
        numbers.sort_unstable();
        ensure!(
            numbers == [0, 1, 2],
            "{} has {numbers:?} open",
            instance.name
        );
    }
    rig.close().await?;
    Ok(())
}

async fn restarts(lab: &Lab) -> Result<Counted> {
    let on_pipes = restart_often(lab, lab.standin(&[])?, 750).await?;
    let on_terminals = restart_often(lab, lab.on_terminal(&[])?, 250).await?;
    Ok(Counted::new(format!(
        "{on_pipes} processes on pipes and {on_terminals} on terminals began and ended; files, threads and processes are as many as before"
    )))
}

/// Restarts two instances so often together; gives how many processes that were.
async fn restart_often(lab: &Lab, profile: ToolProfile, times: usize) -> Result<u64> {
    const INSTANCES: usize = 2;
    let rig: Rig = lab.launch(profile, INSTANCES, |builder| builder).await?;
    let players = (0..INSTANCES).map(|instance| {
        let cluster = rig.cluster.clone();
        tokio::spawn(async move {
            for _ in (instance..times).step_by(INSTANCES) {
                cluster.restart_instance(instance).await?;
            }
            anyhow::Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    ensure!(
        sums.spawned == (times + INSTANCES) as u64,
        "{} processes",
        sums.spawned
    );
    Ok(sums.spawned)
}

async fn fork_bomb(lab: &Lab) -> Result<Counted> {
    const ROUNDS: usize = 5;
    // Bounded: 2^9 - 1 processes, each of which waits for ever.
    const BOMB: &str = "f() { if [ $1 -gt 0 ]; then f $(($1 - 1)) & f $(($1 - 1)) & fi; exec sleep 1000; }\n\
                        [ -e bomb ] && { rm bomb; (f 8) <&- >&- 2>&- & }";
    let mut profile = lab.standin(&["on prompt ~hang hang"])?;
    lab.behind(&mut profile, BOMB);
    let rig = lab
        .launch(profile, 4, |builder| {
            builder.stop_grace(Duration::from_millis(100))
        })
        .await?;
    let quiet = rig.census.alive().len();
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for round in 0..ROUNDS {
        std::fs::write(lab.folder().join("bomb"), "")?;
        rig.cluster.restart_instance(0).await?;
        let limited = |wish: Submission| {
            let wish = wish.on_instance(0);
            wish.turn_timeout(Duration::from_millis(20 * round as u64 + 20))
        };
        let hang = format!("hang {round}");
        let hanging = rig.ask_so(&hang, Answer::Formula, limited);
        let working = async {
            for number in 0..30 {
                let prompt = format!("work {number} in round {round}");
                let said = rig.ask_on(1 + number % 3, &prompt).await?;
                said.must_be("completed", "")?;
                most = most.max(rig.census.alive().len());
            }
            anyhow::Ok(())
        };
        let (hung, worked) = tokio::join!(hanging, working);
        worked?;
        hung?.must_be("indeterminate", "timed_out")?;
        // Whoever hears of the end hears it when all of them are gone.
        let begun = Instant::now();
        let status = rig
            .until(0, "ready again", |status| {
                status.state == InstanceState::Ready
            })
            .await?;
        let alive = rig.census.alive().len();
        ensure!(
            alive == quiet,
            "{alive} processes live in generation {}, and {quiet} before",
            status.generation
        );
        slowest = slowest.max(begun.elapsed());
    }
    let sums = rig.close().await?;
    ensure!(most > quiet, "there was no bomb");
    Ok(
        Counted::new(format!(
            "{} offered, {} completed, {} indeterminate; the processes of {ROUNDS} bombs are gone, 0 left",
            sums.offered,
            sums.of("completed"),
            sums.of("indeterminate")
        ))
            .figure("most processes at a time, of which 8 are no bomb", most),
    )
}
