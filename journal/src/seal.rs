//! Sums that tell whether a row or a text is what was written.
//!
//! Owns what is summed and how it is written and checked. Must not know what the columns mean. Invariant: a row whose seal
//! does not fit is never taken for a fact. (The log of SQLite has sums of its own; its main file has none.)

use std::ops::Range;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql};
use sha2::{Digest as _, Sha256};

use crate::error::Trouble;
use crate::planted::planted;

/// The hash of a text.
pub(crate) fn sha256(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Hexadecimal digits of a hash.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[derive(Default)]
struct Sum(Sha256);

impl Sum {
    fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.update([0]),
            ValueRef::Integer(number) => {
                self.0.update([1]);
                self.0.update(number.to_le_bytes());
            }
            // SQLite keeps what is no number as nothing, and a zero without its sign.
            ValueRef::Real(number) if number.is_nan() => self.add(ValueRef::Null),
            ValueRef::Real(number) => {
                self.0.update([2]);
                self.0.update((number + 0.0).to_bits().to_le_bytes());
            }
            ValueRef::Text(bytes) => self.add_bytes(3, bytes),
            ValueRef::Blob(bytes) => self.add_bytes(4, bytes),
        }
    }

    fn add_bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update([kind]);
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> i64 {
        let digest: [u8; 32] = self.0.finalize().into();
        let (first, _) = digest.split_first_chunk().expect("32 bytes begin with 8");
        i64::from_le_bytes(*first)
    }
}

/// Runs a statement that writes these values and, as its last parameter, their seal.
pub(crate) fn write(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut sum = Sum::default();
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
        match value.to_sql()? {
            ToSqlOutput::Borrowed(value) => sum.add(value),
            ToSqlOutput::Owned(value) => sum.add(ValueRef::from(&value)),
            _ => unreachable!("only plain values are written"),
        }
    }
    statement.raw_bind_parameter(values.len() + 1, sum.finish())?;
    statement.raw_execute()
}

/// Sees that the columns of a row are those that were written; the seal is the column behind them.
pub(crate) fn check(row: &Row<'_>, columns: Range<usize>, what: &str) -> Result<(), Trouble> {
    let seal: i64 = row.get(columns.end)?;
    let mut sum = Sum::default();
    for column in columns {
        sum.add(row.get_ref(column)?);
    }
    if sum.finish() == seal || planted("seal_unchecked") {
        Ok(())
    } else {
        Err(Trouble::Damaged(format!("{what} is not as it was written")))
    }
}

/// Sees that a text is the one that was written.
pub(crate) fn check_text(text: &str, hash: &[u8], what: &str) -> Result<(), Trouble> {
    if sha256(text.as_bytes()) == hash || planted("seal_unchecked") {
        Ok(())
    } else {
        Err(Trouble::Damaged(format!(
            "{what} is not the one that was written"
        )))
    }
}
