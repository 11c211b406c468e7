#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

// The journal that its own tests damage, too, and what they demand of it.
#[path = "../../journal/tests/books/mod.rs"]
#[allow(dead_code)]
mod books;
#[path = "../../journal/tests/damage/mod.rs"]
mod damage;

use damage::{Mutation, Whole};

static WHOLE: LazyLock<Whole> = LazyLock::new(Whole::make);

/// For all questions of a reader and of an owner. It is the processor's time, because the machine may have more to do.
const LONGEST: Duration = Duration::from_secs(1);

fn worked() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it only grows")
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mutations, _) = bytes.as_chunks();
    let mutations: &[Mutation] = &mutations[..mutations.len().min(16)];
    LazyLock::force(&WHOLE);
    let before = worked();
    WHOLE.hold(mutations);
    assert!(
        worked() - before < LONGEST,
        "it took {:?}",
        worked() - before
    );
});
