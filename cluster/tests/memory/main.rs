//! A cluster on tools that live in this test's memory: tokio's paused time makes every wait exact and free.

mod answering;
mod asking;
mod canceling;
mod claude;
mod ending;
mod explaining;
mod failing;
mod floods;
mod healing;
mod jobs;
mod journaling;
mod keys;
mod lives;
mod operating;
mod pausing;
mod permissions;
mod replacing;
mod restarting;
mod resuming;
mod retrying;
mod scaling;
mod spares;
mod storms;
mod telling;
mod tool;
mod watching;
