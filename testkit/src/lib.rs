//! REHEARSES: the scripted stand-in tool and the local model server, so that every failure can be ordered by name.
//!
//! Owns what plays the other side: a tool that does exactly as it is told ([`standin`]) and a language model that
//! answers by formula ([`model_server`]). Must not know any other crate of the workspace, so that an error there can
//! not hide itself here. Invariant: an answer is a function of the prompt, so an answer that was lost, cut, repeated or
//! given to another prompt is always seen.

#[cfg(any(feature = "model-server", feature = "standin"))]
mod hash;
#[cfg(any(feature = "model-server", feature = "standin"))]
mod units;

#[cfg(feature = "model-server")]
pub mod model_server;
#[cfg(feature = "standin")]
pub mod standin;
