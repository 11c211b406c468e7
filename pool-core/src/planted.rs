//! Bugs that can be put in, to see that the tests find them.
//!
//! Owns the switch. Must not know the bugs: each is in the place where it could have been made, under its name. Invariant:
//! without `--cfg planted` there is no switch, and the compiler leaves nothing of the bugs.
//!
//! `cargo xtask planted` builds with it, and puts in one after the other.

/// Whether that bug is in.
#[cfg(not(planted))]
pub const fn planted(_bug: &str) -> bool {
    false
}

/// Whether that bug is in: the one that `TOOLPOOL_PLANTED` names.
#[cfg(planted)]
pub fn planted(bug: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = PLANTED.get_or_init(|| std::env::var("TOOLPOOL_PLANTED").ok());
    named.as_deref() == Some(bug)
}
