//! A shared process, and what is a process to each instance that shares it.
//!
//! Owns the real process and the way of lines to and from its lanes. Must not know what a line means. Invariant: under
//! one lock a lane is either open, and its lines are forwarded, or closed, and they are dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::input::{self, Written};
use super::lanes::{Delivery, Lane, Lanes};
use super::lock;
use crate::connection::{CLOSED_WAIT, LEAK_WAIT};
use crate::launcher::{Exit, GroupSignal, Process, ProcessGroup};
use crate::protocol::json_rpc::{LineSplitter, MAX_LINE_BYTES};
use crate::unsent::Unsent;

/// What lies between a lane and its instance, in bytes: as much as in a Linux pipe.
const PIPE: usize = 64 << 10;
/// Lines on their way to a lane. When an instance reads so slowly that it has more, the others of the process wait too.
const LINES: usize = 4096;
/// Prompts on their way to the process.
const UNSENT: usize = 16;

/// A process with several lanes.
pub(super) struct Shared {
    pid: Option<u32>,
    group: Arc<dyn ProcessGroup>,
    to_process: mpsc::Sender<Line>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    lanes: Lanes,
    ports: HashMap<Lane, Port>,
    last: Lane,
    /// Takes no more lanes: it has been told to end, or has ended.
    retired: bool,
}

/// A line on its way to the process, and whose word that it has gone there.
struct Line {
    bytes: Vec<u8>,
    /// None behind the first line of what was written at once.
    taken: Option<oneshot::Sender<()>>,
}

/// The ways to one lane.
struct Port {
    output: mpsc::Sender<Vec<u8>>,
    errors: mpsc::Sender<Vec<u8>>,
    exit: oneshot::Sender<Exit>,
}

impl Shared {
    /// Begins to serve a process; `state` is kept as long as it runs.
    pub(super) fn start(mut process: Process, state: Arc<crate::folder::Folder>) -> Arc<Self> {
        let group = std::mem::replace(&mut process.group, Box::new(Nobody));
        let group: Arc<dyn ProcessGroup> = Arc::from(group);
        process.group = Box::new(Group(Arc::clone(&group)));
        let (to_process, lines) = mpsc::channel(UNSENT);
        let shared = Arc::new(Self {
            pid: process.pid,
            group,
            to_process,
            desk: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        tokio::spawn(async move {
            served.serve(process, lines).await;
            drop(state);
        });
        shared
    }

    /// A lane as a process of its own; None if there is no room or no process any more.
    pub(super) fn open_lane(self: &Arc<Self>, capacity: usize) -> Option<Process> {
        let mut desk = lock(&self.desk);
        if desk.retired || desk.lanes.len() >= capacity {
            return None;
        }
        desk.last += 1;
        let lane = desk.last;
        desk.lanes.open(lane);
        let (stdin, input) = input::new();
        let (stdout, output) = pipe();
        let (stderr, errors) = pipe();
        let (exit, exited) = oneshot::channel();
        desk.ports.insert(
            lane,
            Port {
                output,
                errors,
                exit,
            },
        );
        drop(desk);
        tokio::spawn(Arc::clone(self).read_lane(lane, input));
        Some(Process {
            pid: self.pid,
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            exit: Box::pin(async move {
                exited.await.unwrap_or(Exit {
                    code: None,
                    signal: None,
                })
            }),
            group: Box::new(LaneGroup {
                shared: Arc::clone(self),
                lane,
                left: AtomicBool::new(false),
            }),
        })
    }

    /// Passes on what a lane writes, until it writes no more.
    async fn read_lane(self: Arc<Self>, lane: Lane, mut input: mpsc::Receiver<Written>) {
        // What our own protocols write is as long as a prompt may be.
        let mut splitter = LineSplitter::new(usize::MAX);
        while let Some(Written { bytes, taken }) = input.recv().await {
            let mut taken = Some(taken);
            let mut bytes = bytes.as_slice();
            while let Ok(Some(line)) = splitter.next_line(&mut bytes) {
                let delivery = lock(&self.desk).lanes.said_by(lane, &line);
                match delivery {
                    Some(Delivery::Process(bytes)) => {
                        let taken = taken.take();
                        self.to_process.send(Line { bytes, taken }).await.ok();
                    }
                    Some(Delivery::Lane(lane, line)) => self.send(lane, line).await,
                    Some(Delivery::All(_)) | None => {}
                }
            }
            // Nothing of it was for the process.
            if let Some(taken) = taken {
                taken.send(()).ok();
            }
        }
    }

    async fn send(&self, lane: Lane, line: Vec<u8>) {
        let output = lock(&self.desk)
            .ports
            .get(&lane)
            .map(|port| port.output.clone());
        if let Some(output) = output {
            output.send(line).await.ok();
        }
    }

    /// Drives the process until it has ended, and then tells every lane.
    async fn serve(&self, mut process: Process, mut lines: mpsc::Receiver<Line>) {
        let mut stdout = vec![0; PIPE];
        let mut stderr = vec![0; PIPE];
        let (mut reads_out, mut reads_err) = (true, true);
        let mut splitter = LineSplitter::new(MAX_LINE_BYTES);
        let mut unsent = Unsent::default();
        let mut waits: Option<oneshot::Sender<()>> = None;
        let mut exit = None;
        let mut patience: Option<Instant> = None;
        while exit.is_none() || reads_out || reads_err {
            let until = patience.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                written = unsent.send(&mut *process.stdin), if unsent.is_pending() => {
                    let waits = waits.take();
                    if written.is_ok() {
                        // From the first byte on, the process may have read it.
                        waits.map(|taken| taken.send(()));
                    } else {
                        unsent.close();
                        patience.get_or_insert(Instant::now() + CLOSED_WAIT);
                    }
                }
                ended = &mut process.exit, if exit.is_none() => {
                    exit = Some(ended);
                    unsent.close();
                    waits = None;
                    self.group.signal(GroupSignal::Kill);
                    patience = Some(Instant::now() + LEAK_WAIT);
                }
                () = tokio::time::sleep_until(until), if patience.is_some() => {
                    patience = None;
                    self.group.signal(GroupSignal::Kill);
                    if exit.is_some() {
                        (reads_out, reads_err) = (false, false);
                    }
                }
                Some(mut line) = lines.recv(), if !unsent.is_pending() => {
                    unsent.push(&mut line.bytes);
                    // After the end there is nothing to write it to, and whoever waits hears so.
                    waits = line.taken.filter(|_| unsent.is_pending());
                }
                count = process.stdout.read(&mut stdout), if reads_out => {
                    let Ok(count @ 1..) = count else {
                        reads_out = false;
                        patience.get_or_insert(Instant::now() + CLOSED_WAIT);
                        continue;
                    };
                    let mut bytes = &stdout[..count];
                    loop {
                        match splitter.next_line(&mut bytes) {
                            Ok(Some(line)) => self.take_line(&line, &mut unsent).await,
                            Ok(None) => break,
                            // No lane could read on from here.
                            Err(_) => {
                                self.group.signal(GroupSignal::Kill);
                                reads_out = false;
                                break;
                            }
                        }
                    }
                }
                count = process.stderr.read(&mut stderr), if reads_err => match count {
                    Ok(count @ 1..) => self.tell_errors(&stderr[..count]),
                    _ => reads_err = false,
                },
            }
        }
        let mut desk = lock(&self.desk);
        desk.retired = true;
        if let Some(exit) = exit {
            for (_, port) in desk.ports.drain() {
                port.exit.send(exit).ok();
            }
        }
    }

    async fn take_line(&self, line: &[u8], unsent: &mut Unsent) {
        let (deliveries, everybody) = {
            let mut desk = lock(&self.desk);
            let deliveries = desk.lanes.said_by_process(line);
            (deliveries, desk.ports.keys().copied().collect::<Vec<_>>())
        };
        for delivery in deliveries {
            match delivery {
                Delivery::Process(mut line) => unsent.push(&mut line),
                Delivery::Lane(lane, line) => self.send(lane, line).await,
                Delivery::All(line) => {
                    for lane in &everybody {
                        self.send(*lane, line.clone()).await;
                    }
                }
            }
        }
    }

    /// Standard error is evidence for every lane. One that has no room for it does without.
    fn tell_errors(&self, bytes: &[u8]) {
        for port in lock(&self.desk).ports.values() {
            port.errors.try_send(bytes.to_vec()).ok();
        }
    }

    /// Ends a lane: alone if the process owes it nothing and serves others, else together with the process. Tells
    /// whether alone.
    fn end_lane(&self, lane: Lane, signal: GroupSignal) -> bool {
        let mut desk = lock(&self.desk);
        let alone = !desk.retired && desk.lanes.len() > 1 && !desk.lanes.is_busy(lane);
        if alone {
            desk.lanes.close(lane);
            if let Some(port) = desk.ports.remove(&lane) {
                let exit = Exit {
                    code: Some(0),
                    signal: None,
                };
                port.exit.send(exit).ok();
            }
        } else {
            desk.retired = true;
            drop(desk);
            self.group.signal(signal);
        }
        alone
    }
}

/// A pipe to a lane: its reading end, and the channel whose lines are written into it.
fn pipe() -> (DuplexStream, mpsc::Sender<Vec<u8>>) {
    let (reader, writer) = tokio::io::duplex(PIPE);
    let (lines, source) = mpsc::channel(LINES);
    tokio::spawn(pump(source, writer));
    (reader, lines)
}

async fn pump(mut lines: mpsc::Receiver<Vec<u8>>, mut writer: DuplexStream) {
    while let Some(line) = lines.recv().await {
        if writer.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// Stands in for a group while it is being replaced.
struct Nobody;

impl ProcessGroup for Nobody {
    fn signal(&self, _signal: GroupSignal) {}
}

/// The process's group, in the hands of several.
struct Group(Arc<dyn ProcessGroup>);

impl ProcessGroup for Group {
    fn signal(&self, signal: GroupSignal) {
        self.0.signal(signal);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The process group that an instance believes to have.
struct LaneGroup {
    shared: Arc<Shared>,
    lane: Lane,
    /// The lane has ended alone, so what becomes of the process is no business of its owner's.
    left: AtomicBool,
}

impl ProcessGroup for LaneGroup {
    fn signal(&self, signal: GroupSignal) {
        // An interrupt would reach the turns of all lanes; the protocols that share a process interrupt by a message.
        if signal == GroupSignal::Interrupt || self.left.load(Ordering::Relaxed) {
            return;
        }
        if self.shared.end_lane(self.lane, signal) {
            self.left.store(true, Ordering::Relaxed);
        }
    }

    fn is_empty(&self) -> bool {
        self.left.load(Ordering::Relaxed) || self.shared.group.is_empty()
    }
}

#[cfg(test)]
mod tests;
