#![no_main]

libfuzzer_sys::fuzz_target!(|story: &[u8]| toolpool_fuzz::drive("aider", story));
