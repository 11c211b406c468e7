//! The command of a turn.
//!
//! Owns how a prompt reaches it: as an argument, in a file, or on its standard input. Must not know when. Invariant: the
//! prompt takes the place of a placeholder within one argument and is never cut into several; a command that gets its
//! prompt otherwise finds its standard input at an end.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, Stdio};

use memchr::memmem;
use rustix::process::Pid;

use crate::launch::write_private;
use crate::protocol::oneshot::{PROMPT, PROMPT_FILE};
use crate::shim;

/// The name of the file that holds the prompt, in the private folder.
const FILE_NAME: &str = "prompt.txt";

/// What to start for each prompt.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    file: PathBuf,
    program: OsString,
    args: Vec<OsString>,
    /// The last arguments, with placeholders.
    prompt_args: Vec<OsString>,
}

/// A command that runs.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) input: Option<Input>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// A prompt on its way to the standard input of a command.
pub(super) struct Input {
    pub(super) pipe: ChildStdin,
    prompt: Vec<u8>,
    written: usize,
}

impl Command {
    /// Reads the arguments of the runner: the private folder, how many of the last arguments may hold the prompt, the
    /// tool's program and its arguments.
    pub(super) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let folder = PathBuf::from(arguments.next()?);
        let last: usize = arguments.next()?.to_str()?.parse().ok()?;
        let program = arguments.next()?;
        let mut args: Vec<OsString> = arguments.collect();
        let prompt_args = args.split_off(args.len().checked_sub(last)?);
        Some(Self {
            file: folder.join(FILE_NAME),
            program,
            args,
            prompt_args,
        })
    }

    /// Starts it with a prompt.
    ///
    /// # Errors
    /// Why it could not be started; nothing runs then.
    pub(super) fn start(&self, prompt: Vec<u8>) -> io::Result<Running> {
        let failed =
            |what: &str, error: io::Error| io::Error::other(format!("cannot {what}: {error}"));
        let holds = |placeholder: &str| {
            let found = |arg: &OsString| memmem::find(arg.as_bytes(), placeholder.as_bytes());
            self.prompt_args.iter().any(|arg| found(arg).is_some())
        };
        if holds(PROMPT_FILE) {
            write_private(&self.file, &prompt)
                .map_err(|error| failed("write the prompt", error))?;
        }
        let on_stdin = !holds(PROMPT_FILE) && !holds(PROMPT);
        let stdin = if on_stdin {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let file = self.file.as_os_str();
        let prompt_args = self.prompt_args.iter().map(|arg| {
            filled(
                &filled(arg, PROMPT_FILE, file),
                PROMPT,
                OsStr::from_bytes(&prompt),
            )
        });
        let mut command: process::Command = shim::turn_command(&self.program);
        let mut child = command
            .args(&self.args)
            .args(prompt_args)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&format!("start {}", self.program.display()), error))?;
        let input = child.stdin.take().map(|pipe| Input {
            pipe,
            prompt,
            written: 0,
        });
        let running = Running {
            pid: Pid::from_child(&child),
            input,
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        running.never_wait()?;
        Ok(running)
    }

    /// Removes the file that held the prompt, if there is one.
    pub(super) fn forget_prompt(&self) {
        std::fs::remove_file(&self.file).ok();
    }
}

impl Running {
    /// Reads and writes take what is there, because a pipe that was ready may be that of the turn before.
    fn never_wait(&self) -> io::Result<()> {
        if let Some(input) = &self.input {
            rustix::io::ioctl_fionbio(&input.pipe, true)?;
        }
        if let Some(pipe) = &self.stdout {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &self.stderr {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(())
    }
}

impl Input {
    /// Writes as much as fits; false when the command has it all or wants no more.
    pub(super) fn write(&mut self) -> bool {
        while self.written < self.prompt.len() {
            match self.pipe.write(&self.prompt[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

/// An argument with something in the place of a placeholder.
fn filled(arg: &OsStr, placeholder: &str, value: &OsStr) -> OsString {
    let arg = arg.as_bytes();
    let mut filled = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(arg, placeholder) {
        filled.extend_from_slice(&arg[from..at]);
        filled.extend_from_slice(value.as_bytes());
        from = at + placeholder.len();
    }
    filled.extend_from_slice(&arg[from..]);
    OsString::from_vec(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Option<Command> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_last_arguments_are_those_that_may_hold_the_prompt() {
        let command = parsed(&["/state", "2", "tool", "a", "b", "--", "{prompt}"]).expect("valid");
        assert_eq!(command.args, ["a", "b"]);
        assert_eq!(command.prompt_args, ["--", "{prompt}"]);
        assert_eq!(command.file, PathBuf::from("/state/prompt.txt"));
        for wrong in [
            &["/state", "3", "tool", "a"][..],
            &["/state", "x", "tool"],
            &["/state", "0"],
            &[],
        ] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_prompt_that_holds_a_placeholder_is_not_filled_again() {
        let fill = |arg: &str| filled(OsStr::new(arg), "{prompt}", OsStr::new("a {prompt} b"));
        assert_eq!(fill("{prompt}"), "a {prompt} b");
        assert_eq!(fill("--message={prompt}."), "--message=a {prompt} b.");
        assert_eq!(fill("none"), "none");
    }
}
