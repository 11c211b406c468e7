#![no_main]

// One with a prelude and marks, one whose frame is its own.
libfuzzer_sys::fuzz_target!(|story: &[u8]| {
    toolpool_fuzz::drive("bash", story);
    toolpool_fuzz::drive("standin", story);
});
