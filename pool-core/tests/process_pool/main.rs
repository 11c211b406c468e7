//! The pool on real processes: the stand-in under its shim, and real interpreters.
//!
//! Nothing here waits for a time: ends of processes are awaited through their process descriptors.

mod containment;
mod exchange;
mod failures;
mod interrupts;
mod jobs;
mod keeper;
mod oneshot;
mod starts;
mod support;
mod tools;
