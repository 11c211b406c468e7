//! EXAMINES: one list of cases, written once, for every tool there is.
//!
//! Owns the cases, what it takes to speak to a tool so that its answer is known, and the laboratory where the real tools
//! meet the local model server. Must not know protocols, nor anything else below the facade: what is examined is what a
//! user of the library gets. Invariant: a case says why it does not apply or what it saw fail; it is never left out.
//!
//! A crate of its own, because two programs need the cases: the `conformance` program, with all of them against the
//! local model server (feature `lab`), and `toolpool tools test`, with those that are safe on a user's own tool and
//! without the server. Neither the testkit, which must know no crate of ours, nor the command, which nothing may depend
//! on, could hold them for both. The tests of single tools, in the root package, use the laboratory too.

mod bench;
mod case;
mod cases;
mod faults;
#[cfg(feature = "lab")]
pub mod figures;
#[cfg(feature = "lab")]
pub mod lab;
mod plain;
mod program;
#[cfg(feature = "lab")]
pub mod record;
mod speech;
mod stdin;

pub use bench::Bench;
pub use case::{Case, Verdict};
pub use plain::PlainWords;
pub use program::Program;
pub use speech::{Endless, Expected, Fault, Speech, Spoken};
pub use toolpool_testkit::census::{MARKER, census};
