//! What the stand-in does apart from replying.
//!
//! Owns one short arm for each deed. Must not decide when a deed is due.

use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path};

use rustix::process::{Signal, getpid, kill_process};

use super::input::Input;
use super::script::Deed;
use super::tool::{Stop, Tool, write, write_to};
use super::{signals, sleeper};

impl Tool {
    pub(super) fn perform(&mut self, deed: &Deed) -> Result<(), Stop> {
        match deed {
            Deed::Exit(code) => return Err(Stop::Exit(*code)),
            Deed::Signal(signal) => {
                // The handler that every Rust program has for these two only puts the default back.
                if matches!(*signal, Signal::SEGV | Signal::BUS) {
                    kill_process(getpid(), *signal)?;
                }
                kill_process(getpid(), *signal)?;
            }
            Deed::Delay(time) => self.pause(Some(*time))?,
            Deed::Hang => self.pause(None)?,
            Deed::Flood(size) => fill(rustix::stdio::stdout(), b'x', *size)?,
            Deed::FloodStderr(size) => fill(rustix::stdio::stderr(), b'x', *size)?,
            Deed::Ignore(ignored) => signals::ignore(ignored)?,
            Deed::Fork { count, sleeper } => {
                for _ in 0..*count {
                    self.sleepers.push(sleeper::start(sleeper, &self.args)?);
                }
            }
            Deed::CloseStdout => {
                rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?
            }
            Deed::CloseStdin => {
                rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
                self.reading = false;
            }
            Deed::StopReading => self.reading = false,
            Deed::AwaitInput => self.await_input()?,
            Deed::Read(count) => Input::discard(*count)?,
            Deed::ReadSlowly { piece, every } => self.input.slow_down(*piece, *every),
            Deed::Nest(count) => {
                fill(rustix::stdio::stdout(), b'[', *count)?;
                write(b"\n")?;
            }
            Deed::Grow(size) => {
                // What is written to is resident; zeros need not be.
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                self.ballast.push(vec![b'x'; size]);
            }
            Deed::Ask(question) => self.ask(question)?,
            Deed::Say { after, text } => {
                if !after.is_zero() {
                    self.pause(Some(*after))?;
                }
                write(&self.options.dialect.aside(text))?;
            }
        }
        Ok(())
    }
}

fn fill(fd: rustix::fd::BorrowedFd<'_>, byte: u8, size: u64) -> Result<(), Stop> {
    let block = [byte; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        write_to(fd, &block[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// Obeys `edit FILE: TEXT` and gives the reply; `None` if the prompt is no such order.
pub(super) fn edit(prompt: &[u8]) -> Option<String> {
    let order = std::str::from_utf8(prompt).ok()?.strip_prefix("edit ")?;
    let (file, text) = order.split_once(": ")?;
    Some(match append(Path::new(file), text) {
        Ok(()) => format!("edited {file}"),
        Err(problem) => format!("refused to edit {file}: {problem}"),
    })
}

fn append(file: &Path, text: &str) -> Result<(), String> {
    if !file
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err("the file must be inside the working folder, named without `..`".to_owned());
    }
    let opened = File::options().append(true).create(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(format!("{text}\n").as_bytes()));
    written.map_err(|error| error.to_string())
}
