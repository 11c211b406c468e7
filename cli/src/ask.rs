//! `toolpool ask`: one prompt, its answer on stdout.
//!
//! Owns the options and the way of one prompt through one instance. Must not know how clusters are launched. Invariant:
//! stdout gets the answer and nothing else, as it comes.

mod everyone;
mod pieces;
mod session;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use toolpool::{AskError, Event, EventKind, Reply, ReplyStream, Submission, TurnId};

use crate::console::{Console, Format, Tone, print, print_answer, print_document};
use crate::documents::{TurnReply, TurnStarted, TurnText};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running::{self, Running};
use crate::settings::{ClusterArgs, Settings};
use crate::{journal, prompt, story};
use pieces::Pieces;

/// Told at the second signal; the third needs no words.
const STOPPING: &str = "killing its tool; Ctrl-C again to leave the rest to the keepers";

/// Characters of the prompt that name a commit.
const SUBJECT: usize = 60;

#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    /// The prompt; `-` reads it from standard input. What is piped in follows the prompt
    prompt: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
    /// Tell nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
    /// Put this file into the tool's context; may be repeated
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Send one of the tool's own commands, such as /tokens, instead of a prompt
    #[arg(long)]
    command: bool,
    /// Ask every instance, or with --role every one that has it; what they change does not land but stays on a branch each
    #[arg(long)]
    all: bool,
    /// Keep the prompt and its end in this file, where `toolpool history` finds it
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    session: session::SessionArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) async fn run(args: AskArgs) -> Result<Exit, CliError> {
    let console = Console::new(args.quiet);
    let mut interrupts = Interrupts::listen()?;
    let mut settings = args.cluster.resolve().await?;
    let text = tokio::select! {
        text = prompt::read(args.prompt, settings.max_prompt_bytes(), console) => text?,
        _ = interrupts.next() => return Err(interrupts.error()),
    };
    let submission = submission(&settings, &text, args.command, &args.file)?;
    let path = args.session.journal(args.journal, &settings.cwd)?;
    if let Some(path) = path {
        settings.journal = Some(journal::open(&path)?);
    }
    let submission = args.session.bind(submission);
    let mut running = running::launch(&settings, &mut interrupts, console).await?;
    let answered = if args.all {
        everyone::ask(
            &mut running,
            &submission,
            &settings.asked_instances(),
            args.output,
            &mut interrupts,
            console,
        )
        .await
    } else {
        let branch = settings
            .landing
            .as_ref()
            .map(|landing| landing.branch.as_str());
        let submission = match branch {
            Some(_) => submission.land(crate::console::shortened(&text, SUBJECT)),
            None => submission,
        };
        let streams = settings
            .asked()
            .all(|group| group.profile.streams_exactly());
        one(
            &mut running,
            submission,
            (args.output, streams),
            branch,
            &mut interrupts,
            console,
        )
        .await
    };
    running.stop(&mut interrupts, console).await;
    if interrupts.exit().is_none() {
        return answered;
    }
    Err(match answered {
        Ok(Exit::Done) => interrupts.error().telling("it was done already"),
        Ok(_) => interrupts.error(),
        Err(error) => interrupts.error().telling(error.message()),
    })
}

fn submission(
    settings: &Settings,
    text: &str,
    command: bool,
    files: &[PathBuf],
) -> Result<Submission, CliError> {
    let submission = if command {
        Submission::command(text)
    } else {
        Submission::text(text)
    };
    let submission = match &settings.role {
        Some(role) => submission.role(role),
        None => submission,
    };
    if let (false, Some(tool)) = (files.is_empty(), settings.takes_no_files()) {
        return Err(CliError::usage(
            "invalid",
            format!(
                "{tool} takes no files apart from the prompt; name them in the prompt, or pipe them in"
            ),
        ));
    }
    files.iter().try_fold(submission, |submission, file| {
        Ok(submission.file(inside(&settings.cwd, file)?))
    })
}

/// The path relative to the working folder, which is where the tool will look for it.
pub(crate) fn inside(cwd: &Path, file: &Path) -> Result<PathBuf, CliError> {
    let path = cwd.join(file);
    let unfit =
        |why: &str| CliError::usage("invalid", format!("the file {}: {why}", file.display()));
    // The folder is resolved, the file itself is not: a link is worked on under its own name.
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unfit("this is no file"));
    };
    let folder = folder
        .canonicalize()
        .map_err(|error| unfit(&error.to_string()))?;
    let below = folder
        .strip_prefix(cwd)
        .map_err(|_| unfit("it is outside of the working folder; choose another with --cwd"))?
        .join(name);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(below),
        Ok(_) => Err(unfit("this is no file")),
        Err(error) => Err(unfit(&error.to_string())),
    }
}

async fn one(
    running: &mut Running,
    submission: Submission,
    (format, streams): (Format, bool),
    branch: Option<&str>,
    interrupts: &mut Interrupts,
    console: Console,
) -> Result<Exit, CliError> {
    let mut stream = running.cluster.stream(submission).await?;
    let mut output = Answer::new(format, stream.turn(), streams);
    // A reader of stdout that has gone ends the command as it ends others: at once.
    loop {
        tokio::select! {
            biased;
            count = interrupts.next() => {
                if count > 1 {
                    console.tell(Tone::Note, STOPPING);
                    running.kill();
                } else {
                    console.tell(Tone::Note, "cancelling the turn; Ctrl-C again to kill its tool");
                    stream.cancel().await;
                }
            }
            Some((event, lines)) = running.event() => {
                // What a tool wrote before it asked has come already, and is read before its question.
                if matches!(event.kind, EventKind::PermissionAsked { .. }) {
                    while let Some(bytes) = chunk_at_hand(&mut stream).await {
                        output.chunk(&bytes)?;
                    }
                }
                for (tone, line) in lines {
                    console.tell(tone, &line);
                }
                output.event(&event)?;
            }
            chunk = stream.chunk() => match chunk {
                Some(bytes) => output.chunk(&bytes)?,
                None => break,
            }
        }
    }
    let (reply, error) = ended(stream).await?;
    for (tone, line) in running.sequel(&reply).await {
        console.tell(tone, &line);
    }
    finish((reply, error), output, branch, console)
}

/// The next piece of the answer, if it has come.
async fn chunk_at_hand(stream: &mut ReplyStream) -> Option<Vec<u8>> {
    tokio::select! {
        biased;
        chunk = stream.chunk() => chunk,
        () = std::future::ready(()) => None,
    }
}

/// The reply, whatever its outcome, and the error that its outcome is.
async fn ended(stream: ReplyStream) -> Result<(Reply, Option<CliError>), CliError> {
    match stream.reply().await {
        Ok(reply) => Ok((reply, None)),
        Err(AskError::Turn(reply)) => {
            let error = CliError::from(AskError::Turn(reply.clone()));
            Ok((*reply, Some(error)))
        }
        Err(other) => Err(other.into()),
    }
}

fn finish(
    (reply, error): (Reply, Option<CliError>),
    mut output: Answer,
    branch: Option<&str>,
    console: Console,
) -> Result<Exit, CliError> {
    output.end(&reply)?;
    console.tell(Tone::Plain, &story::turn(&reply));
    if let (Some(landed), Some(branch)) = (&reply.landed, branch)
        && let Some((tone, line)) = story::landed(landed, branch)
    {
        console.tell(tone, &line);
    }
    match error {
        Some(error) => Err(error),
        None if story::is_home(&reply) => Ok(Exit::Done),
        None => Err(CliError::new(
            Exit::TurnFailed,
            "not_landed",
            format!(
                "{} completed, but its changes are not on the branch",
                reply.turn
            ),
        )),
    }
}

/// The answer on its way to stdout.
struct Answer {
    format: Format,
    turn: TurnId,
    pieces: Pieces,
    /// Text is printed as it comes. aider writes lines of its own between the model's, which a person at a terminal
    /// gladly sees, and which have no place in a file or a pipe: there the exact answer is printed at the end.
    streams: bool,
    ends_with_newline: bool,
}

impl Answer {
    fn new(format: Format, turn: TurnId, streams: bool) -> Self {
        Self {
            format,
            turn,
            pieces: Pieces::default(),
            streams: streams || std::io::stdout().is_terminal(),
            ends_with_newline: true,
        }
    }

    fn event(&self, event: &Event) -> Result<(), CliError> {
        match &event.kind {
            EventKind::TurnStarted {
                turn,
                instance,
                generation,
                queued,
                ..
            } if self.format == Format::Jsonl && *turn == self.turn => {
                print_document(&TurnStarted {
                    turn: turn.0,
                    instance: instance.to_string(),
                    generation: *generation,
                    queued_s: queued.as_secs_f64(),
                })
            }
            _ => Ok(()),
        }
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self.format {
            Format::Json => Ok(()),
            Format::Text if !self.streams => Ok(()),
            Format::Text => {
                self.ends_with_newline = bytes.ends_with(b"\n");
                print_answer(bytes)
            }
            Format::Jsonl => {
                let text = self.pieces.push(bytes);
                self.text(text)
            }
        }
    }

    fn text(&self, text: String) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        print_document(&TurnText {
            turn: self.turn.0,
            text,
        })
    }

    fn end(&mut self, reply: &Reply) -> Result<(), CliError> {
        match self.format {
            Format::Text => {
                // Some tools do not write the answer as it comes; then it is printed now.
                if (reply.first_output.is_none() || !self.streams) && !reply.text.is_empty() {
                    print_answer(reply.text.as_bytes())?;
                    self.ends_with_newline = reply.text.ends_with('\n');
                }
                if !self.ends_with_newline {
                    print(b"\n")?;
                }
                Ok(())
            }
            Format::Json => print_document(&TurnReply::from(reply)),
            Format::Jsonl => {
                let rest = self.pieces.finish();
                self.text(rest)?;
                print_document(&TurnReply::from(reply))
            }
        }
    }
}
