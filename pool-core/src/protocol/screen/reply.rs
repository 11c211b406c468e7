//! The rows of a screen that are a reply.
//!
//! Owns what is new since the prompt was submitted, less the echo of the prompt, and how rows become lines. Must not know
//! where rows come from. Invariant: no row behind the echo is left out, and what has been passed on does not change.

use std::collections::VecDeque;

use super::emulator::{Place, Row};

#[derive(Default)]
pub(super) struct Reply {
    /// The number of the first row that may belong to it.
    from: u64,
    /// What the program shows of the prompt, row by row. The last one ends at the cursor.
    echo: VecDeque<String>,
    /// Text ready to be passed on.
    text: String,
    /// Line ends that belong before the next text, if there is one.
    line_ends: usize,
    /// The last row goes on in the next one.
    wrapped: bool,
    /// There was text.
    any: bool,
    /// The program went above the first row.
    drawn_anew: bool,
}

impl Reply {
    /// A reply whose prompt is about to be typed in this row.
    pub(super) fn new(from: u64) -> Self {
        Self {
            from,
            ..Self::default()
        }
    }

    /// The number of the first row that may belong to it.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    /// What the program shows of the prompt, now that it is about to be submitted: rows from this number on.
    pub(super) fn echoed(&mut self, from: u64, echo: VecDeque<String>) {
        self.from = from;
        self.echo = echo;
        self.drawn_anew = false;
    }

    /// Whether the program has drawn the screen anew since the prompt was submitted.
    pub(super) fn is_drawn_anew(&self) -> bool {
        self.drawn_anew
    }

    /// The cursor was seen at a place. Above the first row, the program is drawing the screen anew: then all that it
    /// draws counts.
    pub(super) fn cursor_at(&mut self, (row, _): Place) {
        if row < self.from {
            self.from = row;
            self.echo.clear();
            self.drawn_anew = true;
        }
    }

    /// Takes the next row, which does not change any more.
    pub(super) fn take(&mut self, number: u64, row: Row) {
        if number < self.from {
            return;
        }
        let Some(echo) = self.echo.pop_front() else {
            return self.push(row);
        };
        let last = self.echo.is_empty();
        let echo = echo.trim_end();
        match row.text.strip_prefix(echo) {
            Some("") => {}
            Some(rest) if last => {
                let rest = rest.trim_start();
                if !rest.is_empty() {
                    self.push(Row {
                        text: rest.to_owned(),
                        wrapped: row.wrapped,
                    });
                }
            }
            _ => {
                // It is not what was typed, so nothing that follows is.
                self.echo.clear();
                self.push(row);
            }
        }
    }

    fn push(&mut self, row: Row) {
        if !self.wrapped && row.text.is_empty() && !row.wrapped {
            self.line_ends += 1;
            return;
        }
        if !row.text.is_empty() {
            self.text.extend(std::iter::repeat_n(
                '\n',
                std::mem::take(&mut self.line_ends),
            ));
            self.text.push_str(&row.text);
            self.any = true;
        }
        self.wrapped = row.wrapped;
        self.line_ends += usize::from(!row.wrapped);
    }

    /// The text so far, taken out.
    pub(super) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Ends it. Blank lines at the end of a screen mean nothing.
    pub(super) fn finish(&mut self) -> String {
        if self.any {
            self.text.push('\n');
        }
        self.take_text()
    }
}
