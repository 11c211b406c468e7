//! REHEARSES: the scripted stand-in tool and the local model server, so that every failure can be ordered by name.
//!
//! Owns what plays the other side: a tool that does exactly as it is told ([`standin`]), a language model that answers by
//! formula ([`model_server`]), and Jules, as an API ([`jules_server`]) and as a program ([`JULES_PROGRAM`]); and who judges
//! what came of it: the count of processes ([`census`]) and the checker of all accounts ([`ledgers`]); and [`git`] for tests. Must not know
//! any other crate of the workspace, so that an error there can not hide itself here. Invariant: an answer is a function
//! of the prompt, so an answer that was lost, cut, repeated or given to another prompt is always seen.

#[cfg(any(
    feature = "model-server",
    feature = "standin",
    feature = "jules-server",
    feature = "ledgers"
))]
mod hash;
#[cfg(any(feature = "model-server", feature = "jules-server"))]
mod orders;
#[cfg(any(feature = "model-server", feature = "standin"))]
mod units;

#[cfg(feature = "census")]
pub mod census;
pub mod git;
#[cfg(feature = "jules-server")]
pub mod jules_server;
#[cfg(feature = "ledgers")]
pub mod ledgers;
#[cfg(feature = "model-server")]
pub mod model_server;
#[cfg(feature = "standin")]
pub mod standin;

/// A stand-in of Jules' command-line program, a script for `sh`: the documented commands of 0.1.42, and sessions that do
/// what their prompts order. The script says how.
pub const JULES_PROGRAM: &str = include_str!("jules_program.sh");
