#![no_main]

use toolpool_pool_core::protocol::json_rpc::{LineSplitter, Message};

// However the bytes are cut, the same lines come out, and none is longer than the limit.
libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let lines_of = |piece: usize| {
        let mut splitter = LineSplitter::new(64);
        let mut lines = Vec::new();
        for mut piece in bytes.chunks(piece) {
            loop {
                match splitter.next_line(&mut piece) {
                    Ok(Some(line)) => {
                        assert!(line.len() <= 64);
                        lines.push(line.to_vec());
                    }
                    Ok(None) => break,
                    Err(_) => return (lines, false),
                }
            }
        }
        (lines, true)
    };
    let whole = lines_of(bytes.len().max(1));
    assert_eq!(lines_of(usize::from(cut).max(1)), whole);
    for line in whole.0 {
        let _ = Message::parse(&line);
    }
    let _ = Message::parse(bytes);
});
