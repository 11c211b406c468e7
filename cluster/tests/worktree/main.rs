//! Worktrees and landing, with the real `git` in temporary folders.

mod checkout;
mod landing;
mod leftovers;
mod places;
mod running;
mod user;
