//! The lives of instances, as the events tell them.
//!
//! Owns the fold over the events of processes. Must not know who supervises them. Invariant: a process whose owner has gone has
//! gone too, whether its end was told or not.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Map, Value};

use super::event;
use super::rows::{EventRow, Life};
use crate::error::Trouble;
use crate::{openings, stamp};

pub(super) fn lives(connection: &Connection, instance: Option<&str>) -> Result<Vec<Life>, Trouble> {
    let openings = openings::first_events(connection)?;
    let mut select = connection.prepare(
        "SELECT id, instance, turn, body, seal FROM events WHERE instance IS NOT NULL AND (?1 IS NULL OR instance IN ('', ?1)) ORDER BY id",
    )?;
    let mut rows = select.query([instance])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row)?);
    }
    Ok(fold(&openings, &events))
}

/// `openings` are the numbers of the first events of each owner, in order.
fn fold(openings: &[i64], events: &[EventRow]) -> Vec<Life> {
    let mut openings = openings.iter().peekable();
    let mut lives: Vec<Life> = Vec::new();
    // Processes without an end, by their names, as places in `lives`.
    let mut open: HashMap<(String, u64), usize> = HashMap::new();
    let mut cluster = String::new();
    for EventRow { id, event } in events {
        while openings
            .next_if(|first| first.cast_unsigned() <= *id)
            .is_some()
        {
            lose(&mut lives, &mut open);
        }
        let word = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = || {
            let generation = event.get("generation").and_then(Value::as_u64);
            (word("instance").to_owned(), generation.unwrap_or_default())
        };
        match word("type") {
            "cluster_started" => {
                lose(&mut lives, &mut open);
                cluster = word("cluster").to_owned();
            }
            "instance_spawned" => {
                let (instance, generation) = name();
                open.insert((instance.clone(), generation), lives.len());
                lives.push(Life {
                    cluster: cluster.clone(),
                    instance,
                    generation,
                    pid: number(event, "pid").and_then(|pid| u32::try_from(pid).ok()),
                    spawned: at(event),
                    start: None,
                    ended: None,
                    code: None,
                    signal: None,
                    reason: None,
                    lost: false,
                });
            }
            "instance_changed" => {
                if let Some(place) = open.get(&name()) {
                    let life = &mut lives[*place];
                    let start = event.get("start_s").and_then(Value::as_f64);
                    // That it is ready is no reason for its end.
                    life.reason = Some(word("reason").to_owned())
                        .filter(|reason| start.is_none() && !reason.is_empty());
                    if let Some(start) = start {
                        life.start = Duration::try_from_secs_f64(start).ok();
                    }
                }
            }
            "instance_exited" => {
                if let Some(place) = open.remove(&name()) {
                    let life = &mut lives[place];
                    let small =
                        |name| number(event, name).and_then(|number| i32::try_from(number).ok());
                    life.ended = Some(at(event));
                    (life.code, life.signal) = (small("code"), small("signal"));
                }
            }
            _ => {}
        }
    }
    if openings.next().is_some() {
        lose(&mut lives, &mut open);
    }
    lives
}

fn lose(lives: &mut [Life], open: &mut HashMap<(String, u64), usize>) {
    for (_, place) in open.drain() {
        lives[place].lost = true;
    }
}

fn number(event: &Map<String, Value>, name: &str) -> Option<i64> {
    event.get(name)?.as_i64()
}

fn at(event: &Map<String, Value>) -> std::time::SystemTime {
    let seconds = event.get("unix_s").and_then(Value::as_f64);
    let since = Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
    stamp::time(stamp::of_duration(since))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(events: &[Value]) -> Vec<EventRow> {
        let rows = events.iter().zip(1..).map(|(event, id)| EventRow {
            id,
            event: event.as_object().expect("a map").clone(),
        });
        rows.collect()
    }

    #[test]
    fn a_life_ends_with_its_process_or_is_lost_with_its_owner() {
        let started = json!({"type": "cluster_started", "cluster": "main", "unix_s": 1.0});
        let spawned = |generation: u64| json!({"type": "instance_spawned", "instance": "main/0", "generation": generation, "pid": 7, "unix_s": 2.5});
        let ready = json!({"type": "instance_changed", "instance": "main/0", "generation": 1, "start_s": 0.5,
            "reason": "it is ready", "unix_s": 3.0});
        let exited = json!({"type": "instance_exited", "instance": "main/0", "generation": 1, "code": 3, "signal": null,
            "unix_s": 4.0});
        let events = told(&[started, spawned(1), ready, exited, spawned(2)]);
        let summary = |openings: &[i64]| -> Vec<_> {
            let lives = fold(openings, &events).into_iter();
            let life = |life: Life| {
                (
                    life.generation,
                    life.start,
                    life.code,
                    life.ended.is_some(),
                    life.reason,
                    life.lost,
                )
            };
            lives.map(life).collect()
        };
        let first = (
            1,
            Some(Duration::from_millis(500)),
            Some(3),
            true,
            None,
            false,
        );
        assert_eq!(
            summary(&[1]),
            [first.clone(), (2, None, None, false, None, false)]
        );
        assert_eq!(
            summary(&[1, 6]),
            [first, (2, None, None, false, None, true)]
        );
    }
}
