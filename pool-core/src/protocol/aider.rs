//! aider.
