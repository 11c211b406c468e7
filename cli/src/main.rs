//! The toolpool binary.
fn main() {}
