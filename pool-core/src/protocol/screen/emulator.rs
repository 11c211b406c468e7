//! The terminal that the program believes it has.
//!
//! Owns the grid of cells, the cursor, the rows that left the screen at its top, and the answers to the few questions
//! that programs wait for. Must not know turns. Invariant: the same bytes give the same rows however they are cut, no
//! bytes make it panic, and a program can make it type nothing but those answers.

use std::collections::VecDeque;

use vt100::capture::{BasicFormattedCaptureState, RowContents, basic_formatted_to_plain};
use vt100::{Callbacks, Parser, Screen};

use crate::launcher::TerminalSize;

/// U+FE0F asks for the colored form of the character before it, which makes that twice as wide; vt100 0.18.1 panics if
/// no cell is left for it (found by fuzzing; without this character 7 million random sequences did no harm). It is
/// invisible, so it is dropped.
const VARIATION_SELECTOR_16: &[u8] = "\u{fe0f}".as_bytes();

/// No program asks this much at once; a flood of questions is a file with escape sequences in it.
const MOST_ANSWER_BYTES: usize = 1 << 10;

/// A row of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What it shows, blanks at its end left out.
    pub(super) text: String,
    /// Whether its line goes on in the next row.
    pub(super) wrapped: bool,
}

/// A place: the row, counted from the first one that the program ever had, and the column.
pub(super) type Place = (u64, u16);

pub(super) struct Emulator {
    parser: Parser<Watcher>,
    /// How many bytes of a variation selector have come.
    selector: usize,
}

#[derive(Default)]
struct Watcher {
    answers: Vec<u8>,
    gone: VecDeque<Row>,
    /// How many rows have left the screen.
    top: u64,
}

impl Emulator {
    pub(super) fn new(size: TerminalSize) -> Self {
        Self {
            parser: Parser::new_with_callbacks(size.rows, size.cols, 0, Watcher::default()),
            selector: 0,
        }
    }

    /// Takes one byte that the program wrote.
    pub(super) fn take(&mut self, byte: u8) {
        if byte == VARIATION_SELECTOR_16[self.selector] {
            self.selector = (self.selector + 1) % VARIATION_SELECTOR_16.len();
            return;
        }
        let held = &VARIATION_SELECTOR_16[..std::mem::take(&mut self.selector)];
        if !held.is_empty() {
            self.parser.process(held);
            return self.take(byte);
        }
        self.parser.process(&[byte]);
    }

    /// The answers to the program's questions so far, taken out.
    pub(super) fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.parser.callbacks_mut().answers)
    }

    /// The oldest row that has left the screen and was not taken yet, with its number.
    pub(super) fn take_gone(&mut self) -> Option<(u64, Row)> {
        let watcher = self.parser.callbacks_mut();
        let row = watcher.gone.pop_front()?;
        Some((watcher.top - watcher.gone.len() as u64 - 1, row))
    }

    /// Whether the program has asked for pastes to be marked as such.
    pub(super) fn takes_pastes(&self) -> bool {
        self.parser.screen().bracketed_paste()
    }

    /// Whether a full-screen view, such as a pager's, hides the rows.
    pub(super) fn shows_other_screen(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    /// The number of the screen's first row.
    pub(super) fn top(&self) -> u64 {
        self.parser.callbacks().top
    }

    pub(super) fn cursor(&self) -> Place {
        let (row, col) = self.parser.screen().cursor_position();
        (self.top() + u64::from(row), col)
    }

    /// A row that is on the screen.
    pub(super) fn row(&self, number: u64) -> Row {
        let row = self.on_screen(number);
        let (_, cols) = self.parser.screen().size();
        let mut text = self.text(row, cols.get());
        text.truncate(text.trim_end().len());
        Row {
            text,
            wrapped: self.parser.screen().row_wrapped(row),
        }
    }

    /// The cursor's row up to the cursor, blanks included.
    pub(super) fn up_to_cursor(&self) -> String {
        let (row, col) = self.parser.screen().cursor_position();
        self.text(row, col)
    }

    fn on_screen(&self, number: u64) -> u16 {
        u16::try_from(number.saturating_sub(self.top())).unwrap_or(u16::MAX)
    }

    fn text(&self, row: u16, cols: u16) -> String {
        let screen = self.parser.screen();
        (0..cols)
            .filter_map(|col| screen.cell(row, col))
            .filter(|cell| !cell.is_wide_continuation())
            .map(|cell| {
                if cell.has_contents() {
                    cell.contents()
                } else {
                    " "
                }
            })
            .collect()
    }
}

impl Watcher {
    fn answer(&mut self, answer: &[u8]) {
        if self.answers.len() + answer.len() <= MOST_ANSWER_BYTES {
            self.answers.extend_from_slice(answer);
        }
    }
}

impl Callbacks for Watcher {
    /// The questions of ECMA-48 and DEC terminals that programs wait for: the state, the cursor's place (prompt_toolkit
    /// asks at each prompt), the kind of terminal. Nothing of an answer is chosen by the one who asks, but the two
    /// numbers of the cursor's place.
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        first: Option<u8>,
        _second: Option<u8>,
        params: &[&[u16]],
        last: char,
    ) {
        let number = params.first().and_then(|param| param.first()).copied();
        match (first, last, number) {
            (None, 'n', Some(5)) => self.answer(b"\x1b[0n"),
            (None, 'n', Some(6)) => {
                let (row, col) = screen.cursor_position();
                let (_, cols) = screen.size();
                // Behind a full row the cursor still stands on its last cell.
                let col = col.saturating_add(1).min(cols.get());
                self.answer(format!("\x1b[{};{col}R", row.saturating_add(1)).as_bytes());
            }
            // A VT102, which can do nothing that could be asked for next.
            (None, 'c', None | Some(0)) => self.answer(b"\x1b[?6c"),
            (Some(b'>'), 'c', None | Some(0)) => self.answer(b"\x1b[>0;0;0c"),
            _ => {}
        }
    }

    fn on_scroll(&mut self, row: RowContents<'_>, other_screen: bool) {
        if other_screen {
            return;
        }
        // Whether a row is wrapped shows only in what is written before the next one.
        let mut state = BasicFormattedCaptureState::new();
        let (mut formatted, mut again) = (String::new(), String::new());
        let written = row
            .write_formatted_basic(&mut formatted, &mut state)
            .and_then(|()| row.write_formatted_basic(&mut again, &mut state));
        written.expect("a String takes everything");
        let mut text: String = basic_formatted_to_plain(&formatted).collect();
        text.truncate(text.trim_end().len());
        self.gone.push_back(Row {
            text,
            wrapped: !again.starts_with('\n'),
        });
        self.top += 1;
    }
}
