//! The developer entry point.
fn main() {}
