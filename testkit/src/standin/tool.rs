//! The stand-in at work: read a prompt, do what the script says, write the reply.
//!
//! Owns the turn. Must not know the language of the script or the bytes of a dialect. Invariant: without a script a turn
//! is one `read` and one `write`, from and to buffers that are used again.

use std::fs::File;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::input::Input;
use super::options::{Dialect, Formula, Options};
use super::report;
use super::script::{Action, Moment, Rule, Script, Shape, deeds};
use super::signals::{Signals, Woke};
use super::wire::Message;
use crate::hash::push_sha256;

/// Why the tool does not go on as usual.
#[derive(Debug)]
pub(super) enum Stop {
    Exit(u8),
    /// The running turn is to end with what was written so far.
    Interrupted,
    BadLine(String),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// One running stand-in.
pub(super) struct Tool {
    pub(super) options: Options,
    /// The arguments it was given, to start itself again as a sleeper.
    pub(super) args: Vec<String>,
    script: Rc<Script>,
    signals: Signals,
    ledger: Option<File>,
    generation: u64,
    /// As they were when the tool was started.
    open_files: Vec<(u64, String)>,
    pub(super) sleepers: Vec<u32>,
    pub(super) ballast: Vec<Vec<u8>>,
    pub(super) reading: bool,
    in_turn: bool,
    turn: u64,
    /// What is read and not yet looked at, while a deed may read on.
    pub(super) input: Input,
    /// What was answered to this turn's questions.
    allowed: Vec<bool>,
}

impl Tool {
    pub(super) fn new(mut options: Options, args: &[String]) -> Result<Self, Stop> {
        let script = Rc::new(std::mem::take(&mut options.script));
        let open_files = if script.reports() {
            report::open_files()
        } else {
            Vec::new()
        };
        let ledger = match &options.ledger {
            Some(path) => Some(File::options().append(true).create(true).open(path)?),
            None => None,
        };
        Ok(Self {
            signals: Signals::catch(&script.signals())?,
            generation: std::env::var("TOOLPOOL_GENERATION")
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            args: args.to_vec(),
            options,
            script,
            ledger,
            open_files,
            sleepers: Vec::new(),
            ballast: Vec::new(),
            reading: true,
            in_turn: false,
            turn: 0,
            input: Input::default(),
            allowed: Vec::new(),
        })
    }

    /// Works until the input ends.
    pub(super) fn run(&mut self) -> Result<(), Stop> {
        let script = Rc::clone(&self.script);
        for deed in script.at_start(Moment::Before) {
            self.perform(deed)?;
        }
        write(self.options.dialect.ready())?;
        for deed in script.at_start(Moment::After) {
            self.perform(deed)?;
        }
        let mut input = std::mem::take(&mut self.input);
        let mut out = Vec::new();
        loop {
            let Some(line) = self.read_line(&mut input)? else {
                return Ok(());
            };
            let decoded = self.options.dialect.decode(input.line(line));
            let request = match decoded.map_err(Stop::BadLine)? {
                Message::Prompt(request) => request,
                Message::Answer(answer) => {
                    write(&answer)?;
                    continue;
                }
                Message::Permission { .. } | Message::Nothing => continue,
            };
            self.turn += 1;
            self.enter(&request.prompt)?;
            out.clear();
            if self.script.is_empty() {
                self.reply(&request.prompt, &mut out);
                self.options.dialect.wrap(&mut out);
                self.options.dialect.end(&request.nonce, &mut out);
                write(&out)?;
            } else {
                // A question's answer is read in the middle of the turn.
                let request = request.into_owned();
                self.input = input;
                self.scripted_turn(&script, &request.nonce, &request.prompt, &mut out)?;
                input = std::mem::take(&mut self.input);
            }
        }
    }

    fn read_line(&mut self, input: &mut Input) -> Result<Option<std::ops::Range<usize>>, Stop> {
        loop {
            if !self.reading {
                self.pause(None)?;
            }
            if let Some(line) = input.next_line() {
                return Ok(Some(line));
            }
            if !self.signals.is_empty()
                && let Woke::Signal(signal) = self.signals.wait(true, None)?
            {
                self.on_signal(signal)?;
                continue;
            }
            if !input.fill()? {
                return Ok(None);
            }
        }
    }

    /// Waits until there is something to read, or the input has ended.
    pub(super) fn await_input(&mut self) -> Result<(), Stop> {
        while let Woke::Signal(signal) = self.signals.wait(true, None)? {
            self.on_signal(signal)?;
        }
        Ok(())
    }

    /// Asks and waits for the answer; the end of the input is a no.
    pub(super) fn ask(&mut self, question: &str) -> Result<(), Stop> {
        write(&self.options.dialect.question(question))?;
        let mut input = std::mem::take(&mut self.input);
        let allowed = loop {
            let Some(line) = self.read_line(&mut input)? else {
                break false;
            };
            match (self.options.dialect, input.line(line)) {
                (Dialect::Acp, line) => {
                    if let Ok(Message::Permission { allowed }) = self.options.dialect.decode(line) {
                        break allowed;
                    }
                }
                (Dialect::Framed | Dialect::Plain, line) => break line == b"y",
            }
        };
        self.input = input;
        self.allowed.push(allowed);
        Ok(())
    }

    /// Writes down that the prompt was read, before anything else can happen to it.
    fn enter(&mut self, prompt: &[u8]) -> io::Result<()> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let mut line =
            format!("{} {} {} ", std::process::id(), self.generation, self.turn).into_bytes();
        push_sha256(&[prompt], &mut line);
        let now = clock_gettime(ClockId::Monotonic);
        line.extend_from_slice(
            format!(" {}\n", now.tv_sec * 1_000_000_000 + now.tv_nsec).as_bytes(),
        );
        // One write, so that the lines of several tools never mix.
        ledger.write_all(&line)
    }

    /// The reply that the formula gives.
    fn reply(&self, prompt: &[u8], out: &mut Vec<u8>) {
        if self.options.edits
            && let Some(reply) = super::deeds::edit(prompt)
        {
            out.extend_from_slice(reply.as_bytes());
            return;
        }
        match &self.options.formula {
            Formula::Echo => {
                out.extend_from_slice(b"echo ");
                out.extend_from_slice(prompt);
            }
            Formula::Sha256(seed) => push_sha256(&[seed, prompt], out),
        }
    }

    fn scripted_turn(
        &mut self,
        script: &Script,
        nonce: &[u8],
        prompt: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let rules = script.of_turn(self.turn, prompt);
        self.in_turn = true;
        self.allowed.clear();
        let played = self.play(&rules, nonce, prompt, out);
        self.in_turn = false;
        match played {
            Err(Stop::Interrupted) => {
                out.clear();
                out.extend_from_slice(b"interrupted");
                self.options.dialect.wrap(out);
                self.options.dialect.end(nonce, out);
                write(out)?;
            }
            played => played?,
        }
        for deed in deeds(rules.iter().copied(), Moment::After) {
            self.perform(deed)?;
        }
        Ok(())
    }

    /// Everything of a turn up to its end mark.
    fn play(
        &mut self,
        rules: &[&Rule],
        nonce: &[u8],
        prompt: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        for deed in deeds(rules.iter().copied(), Moment::Before) {
            self.perform(deed)?;
        }
        let shapes = || {
            rules.iter().filter_map(|rule| match &rule.action {
                Action::Shape(shape) => Some(shape),
                Action::Deed(_) | Action::End => None,
            })
        };
        if shapes().any(|shape| *shape == Shape::Forge) {
            self.options.dialect.forge(nonce, out);
        }
        match shapes().find(|shape| matches!(shape, Shape::Reply(_) | Shape::Report)) {
            Some(Shape::Reply(text)) => out.extend_from_slice(text.as_bytes()),
            Some(_) => out.extend_from_slice(
                report::describe(&self.open_files, &self.sleepers)
                    .to_string()
                    .as_bytes(),
            ),
            None => self.reply(prompt, out),
        }
        for allowed in &self.allowed {
            out.extend_from_slice(if *allowed { b" allowed" } else { b" denied" });
        }
        let mut stream = None;
        let mut ends = 1;
        let mut cut = None;
        for shape in shapes() {
            match shape {
                Shape::Bytes(bytes) => out.extend_from_slice(bytes),
                Shape::Stream { piece, every } => stream = Some((*piece, *every)),
                Shape::DoubleEnd => ends = 2,
                Shape::Repeat(times) => *out = out.repeat(*times),
                Shape::Cut(time) => cut = Some(*time),
                Shape::Reply(_) | Shape::Report | Shape::Forge => {}
            }
        }
        self.options.dialect.wrap(out);
        if shapes().any(|shape| *shape == Shape::Forge) {
            out.splice(0..0, self.options.dialect.forge_others());
        }
        for _ in 0..ends {
            self.options.dialect.end(nonce, out);
        }
        if let Some(time) = cut {
            let (first, second) = out.split_at(
                out.len()
                    .min(usize::try_from(self.turn).unwrap_or(usize::MAX)),
            );
            write(first)?;
            self.pause(Some(time))?;
            write(second)?;
            return Ok(());
        }
        self.emit(rules, stream, out)
    }

    /// Writes the reply in pieces, with what happens in the midst of it at its place.
    fn emit(
        &mut self,
        rules: &[&Rule],
        stream: Option<(usize, Duration)>,
        out: &[u8],
    ) -> Result<(), Stop> {
        let (piece, every) = stream.unwrap_or((out.len(), Duration::ZERO));
        let mut stops: Vec<u64> = rules
            .iter()
            .filter_map(|rule| match rule.moment {
                Moment::Byte(byte) => Some(byte),
                Moment::Before | Moment::After => None,
            })
            .collect();
        stops.sort_unstable();
        stops.dedup();
        let mut stops = stops.into_iter().peekable();
        let mut written = 0;
        loop {
            while let Some(stop) = stops.next_if(|stop| *stop <= written as u64) {
                for deed in deeds(rules.iter().copied(), Moment::Byte(stop)) {
                    self.perform(deed)?;
                }
            }
            if written == out.len() {
                return Ok(());
            }
            let stop = stops
                .peek()
                .and_then(|stop| usize::try_from(*stop).ok())
                .unwrap_or(out.len());
            let next = stop.min(out.len()).min(written - written % piece + piece);
            write(&out[written..next])?;
            written = next;
            if stream.is_some() && written % piece == 0 {
                self.pause(Some(every))?;
            }
        }
    }

    /// Waits, for ever if no time is given, and answers the signals that come meanwhile.
    pub(super) fn pause(&mut self, time: Option<Duration>) -> Result<(), Stop> {
        let deadline = time.map(|time| std::time::Instant::now() + time);
        loop {
            match self.signals.wait(false, deadline)? {
                Woke::Signal(signal) => self.on_signal(signal)?,
                Woke::Input | Woke::Time => return Ok(()),
            }
        }
    }

    fn on_signal(&mut self, signal: rustix::process::Signal) -> Result<(), Stop> {
        let script = Rc::clone(&self.script);
        for action in script.on_signal(signal) {
            match action {
                Action::Deed(deed) => self.perform(deed)?,
                Action::End if self.in_turn => return Err(Stop::Interrupted),
                Action::End | Action::Shape(_) => {}
            }
        }
        Ok(())
    }
}

/// Writes all of it to standard output, in one system call where the kernel takes it in one.
pub(super) fn write(bytes: &[u8]) -> Result<(), Errno> {
    write_to(rustix::stdio::stdout(), bytes)
}

/// Writes all of it.
pub(super) fn write_to(fd: rustix::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
