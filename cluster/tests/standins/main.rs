//! A cluster of real processes: the stand-in under its shim.
//!
//! Nothing here waits for a time. What is to happen is awaited as a reply, as an event, or as the end of a process.

mod containment;
mod faults;
mod mixed;
mod scaling;
mod shapes;
mod support;
