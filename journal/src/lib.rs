//! REMEMBERS: every prompt and its one end, in one SQLite file.
//!
//! Owns the file, its schema, its one writer and its readers. Must not know how prompts are run: of a cluster it knows the
//! records that it is given. Invariant: what a caller was told is in the file.
