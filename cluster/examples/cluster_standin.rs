//! The stand-in tool and its shim in one program, for the tests of this package.

use toolpool_pool_core::shim;

fn main() -> std::process::ExitCode {
    shim::init();
    toolpool_testkit::standin::main(std::env::args().skip(1))
}
