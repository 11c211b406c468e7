//! What a rehearsal tells while it plays: more than the story of a command, since it is what people came for.
//!
//! Owns the lines. Must not know what was ordered. Invariant: a line for each thing that toolpool does about a fault.

use toolpool::{Event, EventKind, InstanceState};

use crate::console::Tone;
use crate::story;

/// The line about an event, if it is worth one.
pub(super) fn line(event: &Event) -> Option<(Tone, String)> {
    match &event.kind {
        EventKind::TurnEnded {
            turn,
            instance,
            outcome,
            cause,
            reply_bytes,
            ..
        } => {
            let place = instance
                .as_ref()
                .map_or_else(String::new, |instance| format!("{instance} · "));
            let kept = match reply_bytes {
                0 => String::new(),
                _ => "; what came of its answer is kept".to_owned(),
            };
            match (*outcome, cause) {
                ("completed", _) => Some((Tone::Good, format!("{place}{turn} completed"))),
                ("indeterminate", Some(cause)) => Some((
                    Tone::Bad,
                    format!(
                        "{place}{turn} is in doubt ({cause}): it may have run, so it is not sent again{kept}"
                    ),
                )),
                (outcome, Some(cause)) => Some((
                    Tone::Bad,
                    format!("{place}{turn} {outcome} ({cause}){kept}"),
                )),
                (outcome, None) => Some((Tone::Note, format!("{place}{turn} {outcome}{kept}"))),
            }
        }
        EventKind::TurnHandedBack { turn, instance } => Some((
            Tone::Note,
            format!("{instance} · {turn} was not sent yet, so it is the first in the queue again"),
        )),
        EventKind::InstanceChanged {
            instance,
            to: InstanceState::Stopping,
            reason,
            ..
        } => Some((
            Tone::Note,
            format!(
                "{instance}: {reason}; its process gets SIGTERM, and SIGKILL if that does nothing"
            ),
        )),
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
                (None, None) => "an unknown end".to_owned(),
            };
            Some((
                Tone::Plain,
                format!(
                    "{instance}: process {generation} has ended: {how}; nothing that it started is left"
                ),
            ))
        }
        EventKind::BreakerChanged { instance, to } => {
            let what = match *to {
                "open" => "its breaker is open: no start and no prompt until a probe",
                "half_open" => "its breaker lets one probe out",
                _ => "its breaker is closed: it serves again",
            };
            Some((Tone::Note, format!("{instance}: {what}")))
        }
        _ => story::line(event),
    }
}
