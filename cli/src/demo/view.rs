//! What the demonstration looks like while it runs: a line for each instance and a bar on a terminal, plain lines
//! elsewhere.
//!
//! Owns the lines. Must not know the play. Invariant: both forms tell of every turn and every crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use toolpool::worktree::Landed;
use toolpool::{Event, EventKind, Outcome, Reply, TurnId};

use crate::console::{Console, Tone, shortened};
use crate::{duration, story};

/// Characters of a prompt that are shown.
const WIDTH: usize = 48;

pub(super) struct View {
    console: Console,
    prompts: HashMap<TurnId, &'static str>,
    live: Option<Live>,
}

struct Live {
    all: MultiProgress,
    bar: ProgressBar,
    instances: HashMap<String, ProgressBar>,
}

impl View {
    pub(super) fn new(instances: &[Arc<str>], prompts: usize, console: Console) -> Self {
        Self {
            console,
            prompts: HashMap::new(),
            live: console.is_live().then(|| Live::new(instances, prompts)),
        }
    }

    pub(super) fn submitted(&mut self, turn: TurnId, prompt: &'static str) {
        self.prompts.insert(turn, prompt);
    }

    pub(super) fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::TurnStarted { turn, instance, .. } => {
                let prompt = self.prompt(*turn);
                self.show(instance, &format!("busy   {prompt}"));
            }
            EventKind::TurnEnded {
                instance: Some(instance),
                ready,
                ..
            } => {
                self.show(instance, if *ready { "ready" } else { "down" });
            }
            EventKind::InstanceExited {
                instance,
                generation,
                code,
                signal,
                ..
            } => {
                let how = match (code, signal) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "unknown".to_owned(),
                };
                self.say(
                    Tone::Bad,
                    &format!("{instance} crashed: process {generation} ended with {how}"),
                );
                self.show(instance, "crashed");
            }
            EventKind::InstanceChanged {
                instance,
                to,
                reason,
                ..
            } => {
                self.show(
                    instance,
                    &format!("{}  {}", to.word(), shortened(reason, WIDTH)),
                );
                if let Some((tone, line)) = story::line(event) {
                    self.say(tone, &line);
                }
            }
            _ => {}
        }
    }

    pub(super) fn ended(&mut self, reply: &Reply) {
        let prompt = self.prompt(reply.turn);
        let instance = reply.instance.as_deref().unwrap_or("-");
        let (tone, what) = match (&reply.outcome, &reply.landed) {
            (Outcome::Completed, Some(landed)) => {
                story::landed(landed, "main").unwrap_or_else(|| {
                    (
                        Tone::Good,
                        format!("answered: {}", shortened(&reply.text, WIDTH)),
                    )
                })
            }
            (Outcome::Indeterminate(doubt), landed) => {
                let kept = match landed {
                    Some(Ok(Landed::Conflict { .. } | Landed::Blocked { .. })) => {
                        "; what it had done is kept on a branch of its own"
                    }
                    _ => "",
                };
                let what = format!(
                    "indeterminate ({}): it may have run, so it is not sent again{kept}",
                    doubt.cause.word()
                );
                (Tone::Bad, what)
            }
            (outcome, _) => (Tone::Note, outcome.word().to_owned()),
        };
        self.say(
            tone,
            &format!(
                "{instance} · {} · {prompt} · {what}",
                duration::show(reply.took)
            ),
        );
        if let Some(live) = &self.live {
            live.bar.inc(1);
        }
    }

    pub(super) fn finish(self) {
        if let Some(live) = self.live {
            live.all.clear().ok();
        }
    }

    fn prompt(&self, turn: TurnId) -> String {
        self.prompts
            .get(&turn)
            .map_or_else(|| turn.to_string(), |prompt| shortened(prompt, WIDTH))
    }

    fn show(&self, instance: &str, what: &str) {
        if let Some(line) = self
            .live
            .as_ref()
            .and_then(|live| live.instances.get(instance))
        {
            line.set_message(what.to_owned());
        }
    }

    fn say(&self, tone: Tone, text: &str) {
        match &self.live {
            Some(live) => drop(live.all.println(self.console.paint(tone, text))),
            None => self.console.tell(tone, text),
        }
    }
}

impl Live {
    fn new(instances: &[Arc<str>], prompts: usize) -> Self {
        let style =
            |template| ProgressStyle::with_template(template).expect("the template is right");
        let all = MultiProgress::new();
        let instances = instances
            .iter()
            .map(|name| {
                let line = all.add(ProgressBar::new_spinner());
                line.set_style(style("{spinner} {prefix}  {wide_msg}"));
                line.set_prefix(name.to_string());
                line.set_message("ready");
                line.enable_steady_tick(Duration::from_millis(100));
                (name.to_string(), line)
            })
            .collect();
        let bar = all.add(ProgressBar::new(prompts as u64));
        bar.set_style(style("{bar:36} {pos}/{len} prompts"));
        bar.tick();
        Self {
            all,
            bar,
            instances,
        }
    }
}
