//! Whether the log of a file was damaged before its end.
//!
//! Owns the reading of SQLite's log by its sums. Must not know what the pages hold. Invariants: a log that was only cut off, or
//! torn in what was not yet synced, is none that is damaged; nothing is written.
//!
//! SQLite takes a log up to the first frame whose sum does not fit, which is what a crash leaves, and drops the rest. A
//! frame is written only after the commit before it was synced. So where a commit and a frame behind it fit each other, and
//! are dropped all the same, what was acknowledged is lost, and the next owner would write over it.
//! The format is that of <https://www.sqlite.org/fileformat.html#the_write_ahead_log>.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{JournalError, Trouble};
use crate::file::{beside, refused};
use crate::planted::planted;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Finds damage in the log beside a file. Who only reads may call it while an owner writes.
pub(crate) fn is_whole(path: &Path) -> Result<(), JournalError> {
    let path_of_log = beside(path, "-wal");
    if planted("log_cut_short") {
        return Ok(());
    }
    let read = || match fs::read(&path_of_log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(refused(&path_of_log, "read it")),
    };
    let log = read()?;
    let Some(lost) = damage(&log) else {
        return Ok(());
    };
    // An owner may have written behind what was read: what is still so was so before.
    let again = read()?;
    if log.get(..HEADER) != again.get(..HEADER) || damage(&again) != Some(lost) {
        return Ok(());
    }
    let damaged = Trouble::Damaged(format!(
        "its log ({}) is not as it was written at byte {lost}, and there are records behind that",
        path_of_log.display()
    ));
    Err(damaged.at(path, "read its log"))
}

/// The sum over bytes that SQLite continues from frame to frame.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn over(mut self, bytes: &[u8], is_big_endian: bool) -> Self {
        let word = |bytes: &[u8]| {
            let bytes = bytes.try_into().expect("there are four");
            if is_big_endian {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        for pair in bytes.chunks_exact(8) {
            self.0 = self.0.wrapping_add(word(&pair[..4])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word(&pair[4..])).wrapping_add(self.0);
        }
        self
    }

    fn stored(bytes: &[u8]) -> Self {
        Self(number(bytes, 0), number(bytes, 4))
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("there are four");
    u32::from_be_bytes(bytes)
}

/// Where a log is damaged before its end; None if it is whole, or torn at its end.
fn damage(log: &[u8]) -> Option<usize> {
    if log.len() < HEADER {
        return None;
    }
    let (header, frames) = log.split_at(HEADER);
    let is_big_endian = match number(header, 0) {
        0x377F_0682 => false,
        0x377F_0683 => true,
        _ => cfg!(target_endian = "big"),
    };
    let is_sound = Sum(0, 0).over(&header[..24], is_big_endian) == Sum::stored(&header[24..]);
    let page = if is_sound {
        number(header, 8) as usize
    } else {
        // The journal's files have pages of this size.
        4096
    };
    if !page.is_power_of_two() || page < 512 {
        return None;
    }
    // What the frame before says that its sum is.
    let mut before = is_sound.then(|| Sum::stored(&header[24..]));
    let mut first = (!is_sound).then_some(0);
    let mut is_commit = false;
    let mut salts = is_sound.then(|| &header[16..24]);
    for (index, frame) in frames.chunks_exact(FRAME_HEADER + page).enumerate() {
        let (head, content) = frame.split_at(FRAME_HEADER);
        let stored = Sum::stored(&head[16..24]);
        let follows = before.is_some_and(|before: Sum| {
            let sum = before.over(&head[..8], is_big_endian);
            salts == Some(&head[8..16]) && sum.over(content, is_big_endian) == stored
        });
        match (follows, first) {
            (true, Some(first)) if is_commit => return Some(first),
            (false, None) => first = Some(HEADER + index * (FRAME_HEADER + page)),
            _ => {}
        }
        // A frame that does not follow may be followed all the same.
        is_commit = follows && number(head, 4) != 0;
        if !is_sound {
            salts = Some(&head[8..16]);
        }
        before = (salts == Some(&head[8..16])).then_some(stored);
    }
    None
}
