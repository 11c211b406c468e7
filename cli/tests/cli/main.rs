//! What the `toolpool` program promises to those who run it, tested on the real binary with the embedded stand-in.

mod approvals;
mod ask;
mod batch;
mod demo;
mod documents;
mod errors;
mod exam;
mod history;
mod inherited;
mod interrupts;
mod journal;
mod jules;
mod killed;
mod mixed;
mod real_batch;
mod rehearse;
mod schema;
mod stopped;
mod support;
mod texts;
