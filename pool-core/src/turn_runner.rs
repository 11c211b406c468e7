//! A process per prompt behind one that stays: the turn runner.
//!
//! Owns the main loop of the program that the shim becomes for a tool of one process per prompt: it takes a prompt,
//! starts the tool's command, passes on what that writes, and tells how it ended. Must not know profiles, nor what the
//! output means. Invariant: at most one command at a time; before its end is told, everything it has started is dead;
//! and when nobody is left to tell, the runner ends it and itself.
//!
//! The runner leads the session and the group that its command is in, so a signal to the group reaches both: it
//! survives SIGINT, and outlives a SIGTERM until the command has ended. The kernel makes it the parent of every orphan
//! below it, so that what a command leaves behind is found even in a session of its own. It is one thread: the signal
//! by which a command dies with the runner follows the thread that started it.

mod command;
mod family;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Signal, getpid, kill_current_process_group, set_child_subreaper,
    set_parent_process_death_signal,
};
use signal_hook::consts::signal::{SIGCHLD, SIGINT, SIGTERM};

use self::command::{Command, Running};
use crate::protocol::oneshot::OneshotConfig;
use crate::protocol::oneshot::frame::{self, Ended, Frames, HEADER};
use crate::shim;

/// The first argument that makes a program which calls [`init`](crate::shim::init) a turn runner.
pub(crate) const RUN_ARGUMENT: &str = "__toolpool-run";

/// The longest prompt in bytes; profiles set lower limits.
const MAX_PROMPT_BYTES: usize = 1 << 30;
/// One read; a Linux pipe holds this much.
const READ: usize = 64 << 10;
/// So many reads empty the largest pipe that a command may make of its own, 1 MiB.
const LAST_READS: usize = 32;

/// The program and the arguments of a turn runner for a tool's `program`, whose private folder is `state`; None if there
/// is no shim.
pub(crate) fn launch(
    program: PathBuf,
    args: Vec<OsString>,
    config: &OneshotConfig,
    state: &Path,
) -> Option<(PathBuf, Vec<OsString>)> {
    let runner = shim::program()?.to_owned();
    let count = config.prompt_args.len().to_string();
    let mut all: Vec<OsString> = vec![
        RUN_ARGUMENT.into(),
        state.into(),
        count.into(),
        program.into(),
    ];
    all.extend(args);
    all.extend(config.prompt_args.iter().map(OsString::from));
    Some((runner, all))
}

/// Runs turns until nobody is left to run them for; returns only the reason why it could not.
///
/// `arguments` are those behind [`RUN_ARGUMENT`], as [`command::Command`] describes them.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let command = Command::parse(arguments)
        .ok_or_else(|| format!("{RUN_ARGUMENT} is internal: it takes a tool's command"))?;
    Runner::new(command)
        .and_then(|mut runner| runner.serve())
        .map_err(|error| format!("the turn runner cannot go on: {error}"))
}

struct Runner {
    command: Command,
    requests: Frames,
    stdin: File,
    stdout: File,
    stderr: File,
    /// Has a byte when a child has ended or SIGTERM has come.
    signals: UnixStream,
    terminated: Arc<AtomicBool>,
    running: Option<Running>,
    /// One read, with room for a header before it.
    buffer: Vec<u8>,
}

/// What there is to do.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Signals,
    Requests,
    Input,
    Output,
    Errors,
}

impl Runner {
    fn new(command: Command) -> io::Result<Self> {
        // Orphans below come to this process instead of process 1.
        set_child_subreaper(Some(getpid()))?;
        // The end of the input tells that the parent is gone. To be killed at that moment would leave what the command
        // has started alive; a runner that is stopped, however, must be woken up to see it.
        set_parent_process_death_signal(Some(Signal::CONT))?;
        signal_hook::flag::register(SIGINT, Arc::default())?;
        let terminated = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, Arc::clone(&terminated))?;
        let (signals, wake) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGTERM, wake.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGCHLD, wake)?;
        let own = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
        Ok(Self {
            command,
            requests: Frames::new(MAX_PROMPT_BYTES),
            stdin: own(io::stdin().as_fd())?,
            stdout: own(io::stdout().as_fd())?,
            stderr: own(io::stderr().as_fd())?,
            signals,
            terminated,
            running: None,
            buffer: vec![0; HEADER + READ],
        })
    }

    /// Takes prompts until the input ends or SIGTERM has come.
    fn serve(&mut self) -> io::Result<()> {
        let served = self.tell(frame::READY, &[]).and_then(|()| self.work());
        family::end()?;
        match served {
            // Nobody reads any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            served => served,
        }
    }

    fn work(&mut self) -> io::Result<()> {
        while self.running.is_some() || !self.terminated.load(Ordering::Relaxed) {
            for source in self.wait()? {
                match source {
                    Source::Signals => self.take_signals()?,
                    Source::Requests if !self.take_requests()? => return Ok(()),
                    Source::Requests => {}
                    Source::Input => self.feed(),
                    Source::Output | Source::Errors => {
                        self.pass_on(source)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
            (Source::Requests, self.stdin.as_fd(), PollFlags::IN),
        ];
        if let Some(running) = &self.running {
            if let Some(input) = &running.input {
                sources.push((Source::Input, input.pipe.as_fd(), PollFlags::OUT));
            }
            if let Some(pipe) = &running.stdout {
                sources.push((Source::Output, pipe.as_fd(), PollFlags::IN));
            }
            if let Some(pipe) = &running.stderr {
                sources.push((Source::Errors, pipe.as_fd(), PollFlags::IN));
            }
        }
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, pipe, flags)| PollFd::from_borrowed_fd(*pipe, *flags))
            .collect();
        match poll(&mut polled, None) {
            // The handler has written into `signals`.
            Err(Errno::INTR) => return Ok(Vec::new()),
            polled => polled?,
        };
        Ok(sources
            .iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty())
            .map(|((source, ..), _)| *source)
            .collect())
    }

    fn take_signals(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64];
        while matches!((&self.signals).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let pid = self.running.as_ref().map(|running| running.pid);
        match family::reap(pid)? {
            Some(ended) => self.finish(ended),
            None => Ok(()),
        }
    }

    /// Reads from the parent; false when it is gone.
    fn take_requests(&mut self) -> io::Result<bool> {
        match self.stdin.read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => self.requests.push(&self.buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        while let Some((tag, bytes)) = self.requests.next().map_err(io::Error::other)? {
            match tag {
                frame::PROMPT if self.running.is_none() => self.begin(bytes)?,
                frame::INTERRUPT if self.running.is_some() => {
                    kill_current_process_group(Signal::INT)?;
                }
                // The turn was faster.
                frame::INTERRUPT => {}
                _ => {
                    return Err(io::Error::other(
                        "the parent is not a toolpool of this version",
                    ));
                }
            }
        }
        Ok(true)
    }

    fn begin(&mut self, prompt: Vec<u8>) -> io::Result<()> {
        match self.command.start(prompt) {
            Ok(running) => {
                self.running = Some(running);
                self.feed();
                Ok(())
            }
            Err(error) => {
                family::end()?;
                self.command.forget_prompt();
                self.tell(frame::NOT_STARTED, error.to_string().as_bytes())
            }
        }
    }

    /// Writes what the command takes of its input now.
    fn feed(&mut self) {
        if let Some(running) = &mut self.running
            && running.input.as_mut().is_some_and(|input| !input.write())
        {
            running.input = None;
        }
    }

    /// Passes on one read of a command's output; false if there is none now.
    fn pass_on(&mut self, source: Source) -> io::Result<bool> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let room = &mut self.buffer[HEADER..];
        let (tag, read) = match (source, &mut running.stdout, &mut running.stderr) {
            (Source::Output, Some(pipe), _) => (frame::STDOUT, pipe.read(room)),
            (Source::Errors, _, Some(pipe)) => (frame::STDERR, pipe.read(room)),
            _ => return Ok(false),
        };
        match read {
            Ok(count) if count > 0 => {
                if tag == frame::STDERR {
                    // Evidence for whoever watches this process, should it end before it can tell.
                    self.stderr.write_all(&room[..count])?;
                }
                let header = frame::header(tag, count).map_err(io::Error::other)?;
                self.buffer[..HEADER].copy_from_slice(&header);
                self.stdout.write_all(&self.buffer[..HEADER + count])?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            _ => {
                if source == Source::Output {
                    running.stdout = None;
                } else {
                    running.stderr = None;
                }
                Ok(false)
            }
        }
    }

    /// Ends what the command has left, and tells the end of the turn.
    fn finish(&mut self, ended: Ended) -> io::Result<()> {
        family::end()?;
        if let Some(running) = &mut self.running {
            running.input = None;
        }
        // All who could write are dead, so what there is to read is in the pipes. Only somebody who was given a pipe on
        // purpose could still hold it; they are not waited for.
        for source in [Source::Output, Source::Errors] {
            for _ in 0..LAST_READS {
                if !self.pass_on(source)? {
                    break;
                }
            }
        }
        self.running = None;
        self.command.forget_prompt();
        self.tell(frame::ENDED, &ended.encode())
    }

    fn tell(&mut self, tag: u8, bytes: &[u8]) -> io::Result<()> {
        let mut whole = frame::header(tag, bytes.len())
            .map_err(io::Error::other)?
            .to_vec();
        whole.extend_from_slice(bytes);
        self.stdout.write_all(&whole)
    }
}
