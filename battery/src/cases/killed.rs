//! A manager that is killed, and what its journal says then.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::process::{Child, Command};
use toolpool::journal::Journal;
use toolpool_testkit::ledgers::{Lives, Survived, answer_to, reads};

use crate::abort::{AWAITED, BESIDE, Point, Step};
use crate::books;
use crate::case::{Case, Counted};
use crate::lab::{LONG, Lab, program};
use crate::manager::Orders;
use crate::rig::in_time;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 63,
        tier: 1,
        name: "toolpool is killed",
        injects: "SIGKILL at 20 moments drawn by lot, or as many as `TOOLPOOL_KILLS` says, with 8 callers, 16 instances and a journal; then a life to the end",
        alone: false,
        run: |lab| Box::pin(killed(lab)),
    },
    Case {
        number: 64,
        tier: 1,
        name: "toolpool dies around each record of its journal",
        injects: "SIGKILL before and after each kind of record is put, is durable and is answered for, and while it never becomes durable",
        alone: false,
        run: |lab| Box::pin(around_each_record(lab)),
    },
    Case {
        number: 65,
        tier: 2,
        name: "toolpool is killed while it recovers",
        injects: "SIGKILL in full work, and again within 20 ms of the next start, 50 times",
        alone: false,
        run: |lab| Box::pin(killed_again(lab)),
    },
    Case {
        number: 70,
        tier: 1,
        name: "two owners of one journal",
        injects: "a second toolpool on the journal of one that works, and a lock that names a live process that is not its owner",
        alone: false,
        run: |lab| Box::pin(two_owners(lab)),
    },
    Case {
        number: 73,
        tier: 1,
        name: "a journal is read while it is written",
        injects: "the whole history is read again and again while 8 callers have 1,000 prompts answered",
        alone: false,
        run: |lab| Box::pin(read_meanwhile(lab)),
    },
];

/// The orders of a case.
pub(super) fn orders(lab: &Lab, folder: &Path) -> Orders {
    Orders {
        folder: folder.to_owned(),
        seed: lab.seed().to_owned(),
        prompts: 0..40,
        callers: 8,
        instances: 16,
        rules: vec!["on every 1 delay 5ms".to_owned()],
        leave_unread: 0,
        abort: None,
        persists: false,
    }
}

/// Begins a life.
fn begin(lab: &Lab, orders: &Orders) -> Result<Child> {
    begin_by(Command::new(program()?), lab, orders)
}

/// Begins a life by a command that ends in this program.
pub(super) fn begin_by(mut command: Command, lab: &Lab, orders: &Orders) -> Result<Child> {
    command
        .args(["--manager", &serde_json::to_string(orders)?])
        .args(["--marker", lab.census().marker()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a manager")
}

/// How a life ended: true if it was killed, false if it ended well.
async fn end(life: Child) -> Result<bool> {
    use std::os::unix::process::ExitStatusExt as _;
    let output = in_time(life.wait_with_output()).await??;
    if output.status.signal() == Some(9) {
        return Ok(true);
    }
    ensure!(
        output.status.success(),
        "a manager ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(false)
}

/// Lives to the end of all prompts.
pub(super) async fn live_on(lab: &Lab, orders: &Orders) -> Result<()> {
    ensure!(!end(begin(lab, orders)?).await?, "it was killed");
    Ok(())
}

/// How long it takes until nothing of a killed life is left.
pub(super) async fn until_gone(lab: &Lab) -> Result<Duration> {
    let begun = Instant::now();
    while !lab.census().alive().is_empty() {
        ensure!(
            begun.elapsed() < LONG,
            "these outlive their manager: {:?}",
            lab.census().alive()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(begun.elapsed())
}

/// A number that is always the same for the same name, below a limit.
pub(super) fn lot(name: &str, limit: u64) -> u64 {
    let digits = answer_to("lot", name);
    u64::from_str_radix(&digits[..8], 16).unwrap_or_default() % limit
}

/// Reconciles the accounts of all lives, of which the journal has every prompt.
pub(super) fn reconcile(lab: &Lab, orders: &Orders) -> Result<Survived> {
    let survived = agree(lab, orders)?;
    ensure!(
        survived.kept == orders.prompts.len() as u64,
        "{} prompts in the journal",
        survived.kept
    );
    Ok(survived)
}

/// Reconciles the accounts of all lives.
pub(super) fn agree(lab: &Lab, orders: &Orders) -> Result<Survived> {
    let told = std::fs::read_to_string(orders.told())?;
    let told: Vec<serde_json::Value> = told
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let ledger = std::fs::read_to_string(orders.folder.join("ledger"))?;
    let lives = Lives {
        seed: lab.seed().to_owned(),
        reads: reads(&ledger).map_err(|wrong| anyhow!(wrong))?,
        told: told
            .into_iter()
            .filter(|line| line["said"] != "serving" && line["said"] != "refused")
            .collect(),
        kept: books::kept(&orders.journal())?,
    };
    lives.reconcile().map_err(|wrong| {
        let more = wrong.len().saturating_sub(5);
        anyhow!(
            "{}; and {more} more",
            wrong[..wrong.len() - more].join("; ")
        )
    })
}

/// How often callers were told that a life serves them.
fn served(orders: &Orders) -> usize {
    let told = std::fs::read_to_string(orders.told()).unwrap_or_default();
    told.lines().filter(|line| line.contains("serving")).count()
}

/// Begins a life and waits until it serves its callers.
async fn begin_to_serve(lab: &Lab, orders: &Orders) -> Result<Child> {
    let (before, begun) = (served(orders), Instant::now());
    let mut life = begin(lab, orders)?;
    while served(orders) == before {
        ensure!(begun.elapsed() < LONG, "it never serves anybody");
        ensure!(
            life.try_wait()?.is_none(),
            "it has ended before it served anybody"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(life)
}

/// Kills so many lives at moments drawn by lot, and reconciles after a last one.
async fn killed(lab: &Lab) -> Result<Counted> {
    const EACH: usize = 100;
    let kills = match std::env::var("TOOLPOOL_KILLS") {
        Ok(kills) => kills.parse().context("TOOLPOOL_KILLS is no number")?,
        Err(_) => 20,
    };
    let mut orders = orders(lab, lab.folder());
    let (mut done, mut life) = (0, 0);
    let (mut slowest, mut served_after) = (Duration::ZERO, Duration::ZERO);
    while done < kills {
        life += 1;
        ensure!(life < 10 * kills, "most lives end before they are killed");
        // New work in each life, beside what the lives before have left.
        orders.prompts = life * EACH..(life + 1) * EACH;
        let begun = Instant::now();
        // Each second one while it opens the journal and launches.
        let mut child = if life % 2 == 0 {
            begin(lab, &orders)?
        } else {
            let child = begin_to_serve(lab, &orders).await?;
            served_after = served_after.max(begun.elapsed());
            child
        };
        let moment = Duration::from_millis(lot(&format!("{} {life}", lab.seed()), 100));
        tokio::time::sleep(moment).await;
        child.start_kill()?;
        done += usize::from(end(child).await?);
        slowest = slowest.max(until_gone(lab).await?);
    }
    orders.prompts = EACH..orders.prompts.end;
    live_on(lab, &orders).await?;
    let survived = reconcile(lab, &orders)?;
    let in_doubt = survived.ended.get("indeterminate").copied();
    let in_doubt = in_doubt.context("no kill has hit a turn")?;
    Ok(Counted::new(
        "each prompt that a caller was told is accepted is in the journal with one end; 0 read twice, 0 told otherwise than \
         recorded, 0 processes left",
    )
    .figure(
        "kills; prompts; how many of them ended in doubt",
        format!("{kills}; {}; {in_doubt}", survived.kept),
    )
    .figure(
        "the last tool gone after a kill, at most",
        format!("{} ms", slowest.as_millis()),
    )
    .figure(
        "16 instances serve again after a start on a journal, at most",
        format!("{} ms", served_after.as_millis()),
    ))
}

/// How a prompt may stand in the journal when its manager has died at a point; nothing stands for not being there.
fn may_stand(kind: &str, step: Step) -> &'static [&'static str] {
    match (kind, step) {
        ("accepted", Step::BeforePut | Step::Withheld) => &[""],
        ("accepted", Step::AfterPut) => &["", "queued"],
        // One commit may have had what follows, too.
        ("accepted", _) => &["queued", "running"],
        // Prompts are routed while their acceptance is on its way to the disk.
        ("dispatching", Step::BeforePut | Step::Withheld) => &["", "queued"],
        ("dispatching", Step::AfterPut) => &["", "queued", "running"],
        ("dispatching", _) => &["running"],
        ("handed_back", Step::BeforePut | Step::Withheld) => &["running"],
        ("handed_back", Step::AfterPut) => &["running", "queued"],
        ("handed_back", _) => &["queued", "running"],
        ("ended", Step::BeforePut | Step::Withheld) => &["running"],
        ("ended", Step::AfterPut) => &["running", "completed"],
        ("ended", _) => &["completed"],
        _ => &["running", "completed"],
    }
}

/// All points, each with the kind of record it is at.
fn points() -> impl Iterator<Item = Point> {
    use Step::{AfterPut, Answered, BeforePut, Durable, Withheld};
    let awaited = AWAITED.iter().flat_map(|kind| {
        [BeforePut, Withheld, AfterPut, Durable, Answered].map(|step| (*kind, step))
    });
    let beside = BESIDE
        .iter()
        .flat_map(|kind| [BeforePut, AfterPut].map(|step| (*kind, step)));
    awaited.chain(beside).map(|(kind, step)| Point {
        kind: kind.to_owned(),
        step,
        nth: 3,
    })
}

async fn around_each_record(lab: &Lab) -> Result<Counted> {
    let mut count = 0;
    for (number, point) in points().enumerate() {
        let folder = lab.folder().join(number.to_string());
        std::fs::create_dir(&folder)?;
        let at = format!("{:?} of {}", point.step, point.kind);
        at_point(lab, &folder, point)
            .await
            .with_context(|| format!("at {at}"))?;
        count += 1;
    }
    Ok(Counted::new(format!(
        "{count} points; each prompt stood as it must when its manager died there, and has one end after the next life; 0 \
         read twice, 0 told otherwise than recorded"
    )))
}

/// Dies at a point and lives on.
async fn at_point(lab: &Lab, folder: &Path, point: Point) -> Result<()> {
    let mut orders = Orders {
        instances: 4,
        prompts: 0..12,
        callers: 4,
        leave_unread: 4,
        // A piece of a reply is kept when the rest takes its time.
        rules: vec!["on every 1 stream 16B 1ms".to_owned()],
        abort: Some(point.clone()),
        ..orders(lab, folder)
    };
    ensure!(end(begin(lab, &orders)?).await?, "it has not died there");
    until_gone(lab).await?;
    let turn: u64 = std::fs::read_to_string(folder.join("aborted"))?.parse()?;
    let stands = stands(&orders, turn)?;
    let may = may_stand(&point.kind, point.step);
    ensure!(
        turn == 0 || may.contains(&stands.as_str()),
        "t{turn} is {stands:?} in the journal, and {may:?} is right"
    );
    orders.abort = None;
    live_on(lab, &orders).await?;
    reconcile(lab, &orders)?;
    if turn > 0 && !stands.is_empty() {
        let ended = self::stands(&orders, turn)?;
        let right = match stands.as_str() {
            "running" => "indeterminate",
            _ => "completed",
        };
        ensure!(ended == right, "t{turn} was {stands} and ended {ended}");
    }
    Ok(())
}

/// How a prompt stands in the journal; nothing if it is not there.
fn stands(orders: &Orders, turn: u64) -> Result<String> {
    let rows = books::rows(&orders.journal())?;
    let found = rows.into_iter().find(|row| row.turn == turn);
    Ok(found.map_or_else(String::new, |row| row.state))
}

/// What a journal has once it was opened and closed again.
fn settled(journal: &Path) -> Result<Vec<books::Row>> {
    drop(Journal::open(journal)?);
    books::rows(journal)
}

async fn killed_again(lab: &Lab) -> Result<Counted> {
    const TIMES: usize = 50;
    const EACH: usize = 60;
    let mut orders = orders(lab, lab.folder());
    let (mut done, mut round) = (0, 0);
    while done < TIMES {
        round += 1;
        ensure!(round < 10 * TIMES, "most kills come when it has recovered");
        orders.prompts = (round - 1) * EACH..round * EACH;
        let mut child = begin_to_serve(lab, &orders).await?;
        tokio::time::sleep(Duration::from_millis(lot(&format!("first {round}"), 20))).await;
        child.start_kill()?;
        end(child).await?;
        until_gone(lab).await?;
        let copy = tempfile::tempdir()?;
        for ending in ["", "-wal"] {
            let name = format!("journal.db{ending}");
            std::fs::copy(lab.folder().join(&name), copy.path().join(&name)).ok();
        }
        let once = settled(&copy.path().join("journal.db"))?;
        let serving = served(&orders);
        let mut child = begin(lab, &orders)?;
        tokio::time::sleep(Duration::from_millis(lot(&format!("second {round}"), 20))).await;
        child.start_kill()?;
        end(child).await?;
        until_gone(lab).await?;
        if served(&orders) > serving {
            continue;
        }
        let twice = settled(&orders.journal())?;
        ensure!(once == twice, "another recovery has another result");
        done += 1;
    }
    orders.prompts = 0..orders.prompts.end;
    live_on(lab, &orders).await?;
    reconcile(lab, &orders)?;
    Ok(Counted::new(format!(
        "{TIMES} recoveries that were cut off; the next one has the result of one that was not, {TIMES} of {TIMES} times"
    )))
}

async fn two_owners(lab: &Lab) -> Result<Counted> {
    let orders = Orders {
        prompts: 0..400,
        ..orders(lab, lab.folder())
    };
    let mut first = begin_to_serve(lab, &orders).await?;
    let owner = first.id().context("it lives")?.to_string();
    let begun = Instant::now();
    let refused = in_time(begin(lab, &orders)?.wait_with_output()).await??;
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.contains(&owner),
        "the second one ended with {}: {said}",
        refused.status
    );
    first.start_kill()?;
    ensure!(end(first).await?, "it was done too soon");
    until_gone(lab).await?;
    // The number in the lock has come to be that of another process, which lives.
    std::fs::write(
        lab.folder().join("journal.db.lock"),
        std::process::id().to_string(),
    )?;
    live_on(lab, &orders).await?;
    reconcile(lab, &orders)?;
    Ok(Counted::new(
        "the second one ended with an error that names the first; the lock of the dead one was taken over",
    )
    .figure("the second one has ended after", format!("{} ms", took.as_millis())))
}

async fn read_meanwhile(lab: &Lab) -> Result<Counted> {
    let orders = Orders {
        prompts: 0..1000,
        rules: Vec::new(),
        ..orders(lab, lab.folder())
    };
    let mut life = begin_to_serve(lab, &orders).await?;
    let (mut before, mut times) = (Vec::new(), 0_u32);
    while life.try_wait()?.is_none() {
        let now = books::rows(&orders.journal())?;
        check_progress(lab, &before, &now)?;
        before = now;
        times += 1;
    }
    ensure!(!end(life).await?, "it was killed");
    ensure!(times > 1, "it was read {times} times");
    reconcile(lab, &orders)?;
    Ok(Counted::new(
        "1000 prompts; each look shows whole prompts with whole answers, and nothing that a later one takes back",
    )
    .figure("looks", times))
}

/// A later look shows what an earlier one has, and more.
fn check_progress(lab: &Lab, before: &[books::Row], now: &[books::Row]) -> Result<()> {
    for row in now {
        let answer = answer_to(lab.seed(), &row.prompt);
        ensure!(
            row.state != "completed" || row.reply == answer,
            "t{} completed with half an answer",
            row.turn
        );
    }
    let now: HashMap<u64, &books::Row> = now.iter().map(|row| (row.turn, row)).collect();
    for earlier in before {
        let turn = earlier.turn;
        let later = now
            .get(&turn)
            .with_context(|| format!("t{turn} was there before"))?;
        ensure!(
            earlier.prompt == later.prompt && (earlier.is_open() || earlier == *later),
            "t{turn} has become another"
        );
    }
    Ok(())
}
