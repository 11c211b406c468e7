//! A manager that is killed, and what its journal says then.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::process::{Child, Command};
use toolpool_testkit::ledgers::{Kept, Lives, Survived, answer_to, reads};

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
        injects: "SIGKILL at 20 moments drawn by lot, with 8 callers, 16 instances and a journal; then a life to the end",
        alone: false,
        run: |lab| Box::pin(killed(lab, 20)),
    },
    Case {
        number: 64,
        tier: 1,
        name: "toolpool dies around each record of its journal",
        injects: "SIGKILL before and after each kind of record is put, is durable and is answered for, and while it never becomes durable",
        alone: false,
        run: |lab| Box::pin(around_each_record(lab)),
    },
];

/// The orders of a case.
fn orders(lab: &Lab, folder: &Path) -> Orders {
    Orders {
        folder: folder.to_owned(),
        seed: lab.seed().to_owned(),
        prompts: 40,
        callers: 8,
        instances: 16,
        rules: vec!["on every 1 delay 5ms".to_owned()],
        leave_unread: 0,
        abort: None,
    }
}

/// Begins a life.
fn begin(lab: &Lab, orders: &Orders) -> Result<Child> {
    Command::new(program()?)
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
async fn live_on(lab: &Lab, orders: &Orders) -> Result<()> {
    ensure!(!end(begin(lab, orders)?).await?, "it was killed");
    Ok(())
}

/// How long it takes until nothing of a killed life is left.
async fn until_gone(lab: &Lab) -> Result<Duration> {
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
fn lot(name: &str, limit: u64) -> u64 {
    let digits = answer_to("lot", name);
    u64::from_str_radix(&digits[..8], 16).unwrap_or_default() % limit
}

/// All prompts of a journal, by the reader that needs no owner.
fn kept(orders: &Orders) -> Result<Vec<Kept>> {
    let rows = books::rows(&orders.journal())?;
    Ok(rows.into_iter().map(books::Row::kept).collect())
}

/// Reconciles the accounts of all lives.
fn reconcile(lab: &Lab, orders: &Orders) -> Result<Survived> {
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
            .filter(|line| line["said"] != "serving")
            .collect(),
        kept: kept(orders)?,
    };
    lives.reconcile().map_err(|wrong| {
        let more = wrong.len().saturating_sub(5);
        anyhow!(
            "{}; and {more} more",
            wrong[..wrong.len() - more].join("; ")
        )
    })
}

/// Kills so many lives at moments drawn by lot, and reconciles after a last one.
async fn killed(lab: &Lab, kills: usize) -> Result<Counted> {
    const EACH: usize = 40;
    let mut orders = orders(lab, lab.folder());
    let (mut done, mut life, mut slowest) = (0, 0, Duration::ZERO);
    while done < kills {
        life += 1;
        ensure!(life < 10 * kills, "most lives end before they are killed");
        // New work in each life, beside what the lives before have left.
        orders.prompts += EACH;
        let mut child = begin(lab, &orders)?;
        let moment = Duration::from_millis(lot(&format!("{} {life}", lab.seed()), 400));
        tokio::time::sleep(moment).await;
        child.start_kill()?;
        if end(child).await? {
            done += 1;
        }
        slowest = slowest.max(until_gone(lab).await?);
    }
    live_on(lab, &orders).await?;
    let survived = reconcile(lab, &orders)?;
    ensure!(
        survived.kept == orders.prompts as u64,
        "{} prompts in the journal",
        survived.kept
    );
    let in_doubt = survived.ended.get("indeterminate").copied();
    Ok(Counted::new(format!(
        "{kills} kills: each prompt that a caller was told is accepted is in the journal with one end; 0 read twice, 0 \
         told otherwise than recorded, 0 processes left"
    ))
    .figure("prompts, and how many of them ended in doubt", format!("{}, {}", survived.kept, in_doubt.unwrap_or_default()))
    .figure("the last tool gone after a kill, at most", format!("{} ms", slowest.as_millis())))
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
        prompts: 12,
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
    let survived = reconcile(lab, &orders)?;
    ensure!(
        survived.kept == orders.prompts as u64,
        "{} prompts in the journal",
        survived.kept
    );
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
