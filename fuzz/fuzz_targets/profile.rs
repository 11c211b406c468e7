#![no_main]

use std::sync::LazyLock;

use tempfile::TempDir;
use toolpool_pool_core::profile::ToolProfile;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

// A profile that is accepted can make its protocol.
libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let path = FOLDER.path().join("mine.toml");
    std::fs::write(&path, text).expect("a writable folder");
    if let Ok(profile) = ToolProfile::from_file(&path) {
        let _ = profile.protocol(FOLDER.path());
    }
});
