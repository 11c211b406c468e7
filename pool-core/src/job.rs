//! The driver of remote jobs: a process of our own that stands between a protocol and a service that is only asked.
//!
//! Jules works on a machine of its vendor's: a job is handed over, looked at until it has ended, and fetched. The driver
//! is what an instance runs: this very program, started again with [`ARGUMENT`]. So supervision, deadlines, the breaker and
//! the end of everything are what they are for every other tool.
//!
//! Owns the loop: it waits for one input, lets [`machine`] decide, and performs. Must not decide. Invariant: the loop
//! never waits for the service; each step is done by a thread, and the driver ends with its input.

mod api;
mod folder;
mod machine;
pub(crate) mod message;
mod program;
mod settings;

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use api::Api;
use folder::Folder;
use machine::{Action, Found, Input, Machine, Step, Trouble};
use program::Program;
use settings::{Settings, Way};

/// The first argument that turns a program which calls [`init`](crate::shim::init) into the driver. `api` follows, or
/// `program` and its path.
pub(crate) const ARGUMENT: &str = "__toolpool-jules";

/// Inputs on their way to the loop.
const INPUTS: usize = 16;

/// Runs the driver to its end, and answers its exit code.
pub(crate) fn main(args: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    match Settings::read(&args, |name| std::env::var(name).ok()).and_then(run) {
        Ok(()) => 0,
        Err(reason) => {
            // Standard error is the evidence that the supervisor shows.
            writeln!(std::io::stderr(), "{reason}").ok();
            1
        }
    }
}

/// The service and the working folder.
struct Outside {
    service: Service,
    folder: Folder,
}

enum Service {
    Api(Api),
    Program(Program),
}

impl Outside {
    fn perform(&self, step: &Step) -> Result<Found, Trouble> {
        match (step, &self.service) {
            (Step::Apply { patch }, _) => self.folder.apply(patch),
            (step, Service::Api(api)) => api.perform(step),
            (step, Service::Program(program)) => program.perform(step),
        }
    }
}

/// What woke the loop.
enum Woken {
    Input(Input),
    /// Our side has closed its end: nobody wants anything any more.
    Closed,
    /// Our side wrote what is no order.
    Garbled(String),
}

fn run(settings: Settings) -> Result<(), String> {
    let folder = Folder::find(settings.repository)?;
    let repository = folder.repository().to_owned();
    let service = match settings.way {
        Way::Api { base_url, key } => {
            Service::Api(Api::new(base_url, key, repository, settings.branch))
        }
        Way::Program(path) => Service::Program(Program::new(path, repository)),
    };
    let outside = Arc::new(Outside { service, folder });
    let (inputs, woken) = sync_channel(INPUTS);
    let orders = inputs.clone();
    thread::spawn(move || read_orders(&orders));

    let mut machine = Machine::new(settings.poll);
    let mut actions = Vec::new();
    machine.start(&mut actions);
    loop {
        for action in actions.drain(..) {
            match action {
                Action::Do(number, step) => {
                    let (outside, inputs) = (Arc::clone(&outside), inputs.clone());
                    thread::spawn(move || {
                        let answer = outside.perform(&step);
                        // A loop that has ended wants no answer.
                        inputs
                            .send(Woken::Input(Input::Answer(number, answer)))
                            .ok();
                    });
                }
                Action::Tell(report) => {
                    let mut stdout = std::io::stdout().lock();
                    let told = stdout
                        .write_all(message::line(&report).as_bytes())
                        .and_then(|()| stdout.flush());
                    if told.is_err() {
                        return Ok(());
                    }
                }
                Action::GiveUp(reason) => return Err(reason),
            }
        }
        let received = match machine.wake() {
            Some(wake) => woken.recv_timeout(wake.saturating_duration_since(Instant::now())),
            None => woken.recv().map_err(RecvTimeoutError::from),
        };
        let input = match received {
            Ok(Woken::Input(input)) => input,
            Ok(Woken::Garbled(reason)) => return Err(reason),
            Err(RecvTimeoutError::Timeout) => Input::Timer,
            Ok(Woken::Closed) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        machine.handle(Instant::now(), input, &mut actions);
    }
}

fn read_orders(inputs: &SyncSender<Woken>) {
    for line in std::io::stdin().lock().lines() {
        let order = line
            .map_err(|error| error.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()));
        let woken = match order {
            Ok(order) => Woken::Input(Input::Order(order)),
            Err(error) => Woken::Garbled(format!("the driver got what is no order: {error}")),
        };
        if inputs.send(woken).is_err() {
            return;
        }
    }
    inputs.send(Woken::Closed).ok();
}
