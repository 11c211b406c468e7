//! The stand-in tool as a program of its own; `toolpool standin` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    toolpool_testkit::standin::main(std::env::args().skip(1))
}
