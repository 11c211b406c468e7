//! The table of the cases in the documentation.
//!
//! Owns its form, both ways. Must not run anything. Invariant: what is written is read back as it was, so a run of one
//! case can be compared with, or put into, the table of all; measured values are written beside it and never compared.

use std::collections::BTreeMap;

use crate::case::Verdict;
use crate::run::Outcome;
use crate::shown::Shown;

/// Around the table.
const BEGIN: &str = "<!-- battery: written by `cargo xtask battery --write` -->\n";
const END: &str = "<!-- battery: end -->\n";
/// Around what was measured.
const BEGIN_FIGURES: &str = "<!-- battery figures: written by `cargo xtask battery --write` -->\n";
const END_FIGURES: &str = "<!-- battery figures: end -->\n";

const HEAD: &str = "| # | tier | case | injected | counted |\n|---|---|---|---|---|\n";
const HEAD_FIGURES: &str = "| # | figure | measured |\n|---|---|---|\n";

/// What came of the cases, by number: the rest of the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    rows: BTreeMap<u16, String>,
    /// The cases that were skipped: their rows stay as they are.
    skipped: Vec<u16>,
    figures: BTreeMap<u16, Vec<String>>,
}

impl Record {
    /// What came of a run in which no case failed.
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let mut record = Self::default();
        for outcome in outcomes {
            let case = outcome.case;
            match &outcome.verdict {
                Verdict::Passed(counted) => {
                    let cells = [case.name, case.injects, &counted.counts].map(cell);
                    let row = format!("{} | {}", case.tier, cells.join(" | "));
                    record.rows.insert(case.number, row);
                    let figures = counted.figures.iter();
                    let figures = figures
                        .map(|(name, value)| format!("{} | {}", cell(name), cell(value)))
                        .collect();
                    record.figures.insert(case.number, figures);
                }
                Verdict::Skipped(_) | Verdict::Failed(_) => record.skipped.push(case.number),
            }
        }
        record
    }

    /// Adds what other tests show.
    pub(crate) fn add(&mut self, shown: &[Shown]) {
        for shown in shown {
            let cells = [shown.name, shown.injects, &shown.by()].map(cell);
            self.rows
                .insert(shown.number, format!("1 | {}", cells.join(" | ")));
        }
    }

    /// Puts what another record says over what this one does.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows.extend(other.rows.clone());
        self.figures.extend(other.figures.clone());
    }

    /// The cases of this record that another one, such as the committed, says something else of; each as a line.
    pub(crate) fn differences(&self, committed: &Self) -> Vec<String> {
        let differing = self
            .rows
            .iter()
            .filter(|(number, row)| committed.rows.get(*number) != Some(*row));
        differing
            .map(|(number, row)| {
                let known = committed.rows.get(number).map_or("nothing", String::as_str);
                format!("{number}: {row}\n   and the table says: {known}")
            })
            .collect()
    }

    /// The numbers of the cases in the table.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.rows.keys().copied().collect()
    }

    /// Reads the tables in a document.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub(crate) fn read(document: &str) -> Result<Self, String> {
        let mut record = Self::default();
        let (_, table, _) = cut(document, BEGIN, END)?;
        for (number, row) in rows(table) {
            record.rows.insert(number, row.to_owned());
        }
        let (_, table, _) = cut(document, BEGIN_FIGURES, END_FIGURES)?;
        for (number, row) in rows(table) {
            record
                .figures
                .entry(number)
                .or_default()
                .push(row.to_owned());
        }
        Ok(record)
    }

    /// The document with these tables in it.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub(crate) fn write(&self, document: &str) -> Result<String, String> {
        let mut table = HEAD.to_owned();
        for (number, row) in &self.rows {
            table.push_str(&format!("| {number} | {row} |\n"));
        }
        let mut figures = HEAD_FIGURES.to_owned();
        for (number, rows) in &self.figures {
            for row in rows {
                figures.push_str(&format!("| {number} | {row} |\n"));
            }
        }
        let (before, _, after) = cut(document, BEGIN, END)?;
        let document = format!("{before}{BEGIN}\n{table}\n{END}{after}");
        let (before, _, after) = cut(&document, BEGIN_FIGURES, END_FIGURES)?;
        Ok(format!(
            "{before}{BEGIN_FIGURES}\n{figures}\n{END_FIGURES}{after}"
        ))
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// The rows of a table that begin with a number, with what follows it.
fn rows(table: &str) -> impl Iterator<Item = (u16, &str)> {
    table.lines().filter_map(|line| {
        let (number, row) = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        Some((number.parse().ok()?, row))
    })
}

fn cut<'a>(
    document: &'a str,
    begin: &str,
    end: &str,
) -> Result<(&'a str, &'a str, &'a str), String> {
    let missing = |mark: &str| format!("the line {:?} is missing", mark.trim_end());
    let (before, rest) = document.split_once(begin).ok_or_else(|| missing(begin))?;
    let (table, after) = rest.split_once(end).ok_or_else(|| missing(end))?;
    Ok((before, table, after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::case::Counted;
    use crate::cases;
    use crate::shown::SHOWN;

    fn outcome(place: usize, verdict: Verdict) -> Outcome {
        Outcome {
            case: cases::all().nth(place).expect("there are cases"),
            verdict,
            took: Duration::ZERO,
        }
    }

    fn record() -> Record {
        let counted = Counted::new("1 offered | 2\nread").figure("kill", "10 ms");
        Record::of(&[
            outcome(0, Verdict::Passed(counted)),
            outcome(1, Verdict::Passed(Counted::new("nothing"))),
            outcome(2, Verdict::Skipped("no room".to_owned())),
        ])
    }

    #[test]
    fn a_table_is_read_back_as_it_was_written() {
        let document = format!("a\n{BEGIN}old\n{END}b\n{BEGIN_FIGURES}old\n{END_FIGURES}c\n");
        let written = record().write(&document).expect("there are marks");
        assert!(written.starts_with("a\n") && written.ends_with("c\n"));
        let read = Record::read(&written).expect("a table");
        assert_eq!(read.rows, record().rows);
        assert_eq!(record().differences(&read), Vec::<String>::new());
        assert_eq!(read.write(&written), Ok(written));
        assert!(Record::read("no marks").is_err());
    }

    #[test]
    fn counts_are_compared_and_measured_values_are_not() {
        let mut slower = outcome(
            0,
            Verdict::Passed(Counted::new("1 offered | 2\nread").figure("kill", "99 ms")),
        );
        assert!(Record::of(&[slower]).differences(&record()).is_empty());
        slower = outcome(0, Verdict::Passed(Counted::new("2 offered")));
        assert_eq!(Record::of(&[slower]).differences(&record()).len(), 1);
        let skipped = outcome(0, Verdict::Skipped("no room".to_owned()));
        assert!(Record::of(&[skipped]).differences(&record()).is_empty());
    }

    #[test]
    fn the_document_has_a_row_of_each_case_and_of_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
        let document = std::fs::read_to_string(path).expect("the document is there");
        let mut numbers: Vec<u16> = cases::all().map(|case| case.number).collect();
        numbers.extend(SHOWN.iter().map(|shown| shown.number));
        numbers.sort_unstable();
        let committed = Record::read(&document).expect("it has the tables");
        assert_eq!(
            committed.numbers(),
            numbers,
            "`cargo xtask battery --write` writes it anew"
        );
    }
}
