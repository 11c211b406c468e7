//! An event as a row.
//!
//! Owns what an event is found by. Must not know what it is for. Invariant: the row has the event as it is told everywhere.

use rusqlite::Connection;
use toolpool_cluster::{Event, EventKind, TurnId};

use super::number;
use crate::seal;

/// What an event tells of: the life of an instance or (empty) of its cluster, and a turn.
fn subject(event: &Event) -> (Option<&str>, Option<TurnId>) {
    match &event.kind {
        EventKind::ClusterStarted { .. } | EventKind::ClusterStopped => (Some(""), None),
        EventKind::InstanceSpawned { instance, .. }
        | EventKind::InstanceChanged { instance, .. }
        | EventKind::InstanceExited { instance, .. } => (Some(instance), None),
        EventKind::TurnRetrying { turn, .. }
        | EventKind::TurnSilent { turn, .. }
        | EventKind::TurnHeard { turn, .. }
        | EventKind::TurnElsewhere { turn, .. }
        | EventKind::PermissionAsked { turn, .. }
        | EventKind::PermissionAnswered { turn, .. }
        | EventKind::PermissionWithdrawn { turn, .. }
        | EventKind::TurnHandedBack { turn, .. } => (None, Some(*turn)),
        _ => (None, None),
    }
}

/// Writes an event as it is told.
pub(crate) fn write_event(connection: &Connection, id: i64, event: &Event) -> rusqlite::Result<()> {
    let body = serde_json::to_string(event).expect("an event's maps have texts as keys");
    let (instance, turn) = subject(event);
    seal::write(
        connection,
        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)",
        &[&id, &instance, &turn.map(number), &body],
    )?;
    Ok(())
}
