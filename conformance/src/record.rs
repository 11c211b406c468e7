//! The table of what came of every case on every tool.
//!
//! Owns its form in the documentation, both ways. Must not run anything. Invariant: what is written is read back as it
//! was, so a run of one tool can be compared with, or put into, the table of all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::{Case, Verdict};

/// Before the table in the document.
const BEGIN: &str = "<!-- conformance: written by `cargo xtask conformance --write` -->\n";
/// Behind it.
const END: &str = "<!-- conformance: end -->\n";
/// A reason this short stands in the table itself.
const SHORT: usize = 10;

/// One field of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    word: String,
    note: Option<String>,
}

impl Cell {
    fn of(result: &Result<Verdict, String>) -> Self {
        let (word, note) = match result {
            Ok(Verdict::Pass) => ("pass", None),
            Ok(Verdict::PassBy(how)) => ("pass\\*", Some(how)),
            Ok(Verdict::NotApplicable(reason)) if reason.len() <= SHORT => (reason.as_str(), None),
            Ok(Verdict::NotApplicable(reason)) => ("n/a\\*", Some(reason)),
            Err(evidence) => ("FAIL\\*", Some(evidence)),
        };
        Self {
            word: word.to_owned(),
            note: note.map(|note| note.replace('\n', " ")),
        }
    }
}

/// What came of the cases, by tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    tools: Vec<String>,
    cells: BTreeMap<(Case, String), Cell>,
}

impl Record {
    /// Notes what came of a case.
    pub fn note(&mut self, tool: &str, case: Case, result: &Result<Verdict, String>) {
        if !self.tools.iter().any(|known| known == tool) {
            self.tools.push(tool.to_owned());
        }
        self.cells.insert((case, tool.to_owned()), Cell::of(result));
    }

    /// Puts the columns of another record over those of this one, and the tools into this order.
    pub fn merge(&mut self, other: &Self, order: &[&str]) {
        for tool in &other.tools {
            self.cells.retain(|(_, known), _| known != tool);
            if !self.tools.contains(tool) {
                self.tools.push(tool.clone());
            }
        }
        self.cells.extend(other.cells.clone());
        self.tools.retain(|tool| order.contains(&tool.as_str()));
        self.tools
            .sort_by_key(|tool| order.iter().position(|known| known == tool));
        let tools = &self.tools;
        self.cells.retain(|(_, tool), _| tools.contains(tool));
    }

    /// The cases of this record that another one, such as the committed, says something else of; each as a line.
    pub fn differences(&self, committed: &Self) -> Vec<String> {
        let said = |cell: Option<&Cell>| match cell {
            None => "nothing".to_owned(),
            Some(cell) => match &cell.note {
                None => cell.word.clone(),
                Some(note) => format!("{} ({note})", cell.word),
            },
        };
        let differing = self
            .cells
            .iter()
            .filter(|(key, cell)| committed.cells.get(*key) != Some(*cell));
        differing
            .map(|((case, tool), cell)| {
                let key = (*case, tool.clone());
                format!(
                    "{tool}, {}: {}, and the table says {}",
                    case.name(),
                    said(Some(cell)),
                    said(committed.cells.get(&key))
                )
            })
            .collect()
    }

    /// The table and its notes, as Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("| case | {} |\n", self.tools.join(" | "));
        text.push_str(&format!("|---|{}\n", "---|".repeat(self.tools.len())));
        let mut notes = String::new();
        for case in Case::ALL {
            let cell = |tool: &String| self.cells.get(&(case, tool.clone()));
            let words: Vec<&str> = self
                .tools
                .iter()
                .map(|tool| cell(tool).map_or("", |cell| cell.word.as_str()))
                .collect();
            writeln!(text, "| {} | {} |", case.name(), words.join(" | ")).ok();
            // Tools that do the same share a note.
            let mut by_note: Vec<(&str, Vec<&str>)> = Vec::new();
            for tool in &self.tools {
                if let Some(note) = cell(tool).and_then(|cell| cell.note.as_deref()) {
                    match by_note.iter_mut().find(|(known, _)| *known == note) {
                        Some((_, tools)) => tools.push(tool),
                        None => by_note.push((note, vec![tool])),
                    }
                }
            }
            for (note, tools) in by_note {
                writeln!(notes, "- **{}**, {}: {note}", case.name(), tools.join(", ")).ok();
            }
        }
        if !notes.is_empty() {
            text.push_str("\n\\* what the tool does:\n\n");
            text.push_str(&notes);
        }
        text
    }

    /// Reads the table in a document.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn read(document: &str) -> Result<Self, String> {
        let (_, table, _) = cut(document)?;
        let mut record = Self::default();
        let named = |name: &str| Case::ALL.into_iter().find(|case| case.name() == name);
        for line in table.lines() {
            if let Some(row) = line
                .strip_prefix("| ")
                .and_then(|row| row.strip_suffix(" |"))
            {
                let mut words = row.split(" | ").map(str::to_owned);
                let first = words.next().unwrap_or_default();
                match named(&first) {
                    None => record.tools = words.collect(),
                    Some(case) => {
                        for (tool, word) in record.tools.iter().zip(words) {
                            let cell = Cell { word, note: None };
                            record.cells.insert((case, tool.clone()), cell);
                        }
                    }
                }
            } else if let Some(note) = line.strip_prefix("- **") {
                let parts = note.split_once("**, ").and_then(|(case, rest)| {
                    let (tools, note) = rest.split_once(": ")?;
                    Some((named(case)?, tools, note))
                });
                let (case, tools, note) = parts.ok_or_else(|| format!("no note: {line}"))?;
                for tool in tools.split(", ") {
                    if let Some(cell) = record.cells.get_mut(&(case, tool.to_owned())) {
                        cell.note = Some(note.to_owned());
                    }
                }
            }
        }
        Ok(record)
    }

    /// The document with this table in it.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn write(&self, document: &str) -> Result<String, String> {
        let (before, _, after) = cut(document)?;
        Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", self.table()))
    }
}

fn cut(document: &str) -> Result<(&str, &str, &str), String> {
    let missing = |mark: &str| format!("the line {:?} is missing", mark.trim_end());
    let (before, rest) = document.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (table, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok((before, table, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::default();
        for (tool, case, result) in [
            ("a", Case::Nobody, Ok(Verdict::Pass)),
            (
                "a",
                Case::Killed,
                Ok(Verdict::PassBy("so, and: so".to_owned())),
            ),
            ("b", Case::Nobody, Ok(Verdict::not_applicable("no model"))),
            (
                "b",
                Case::Killed,
                Ok(Verdict::PassBy("so, and: so".to_owned())),
            ),
            ("c", Case::Nobody, Err("it | did\nnot".to_owned())),
        ] {
            record.note(tool, case, &result);
        }
        record
    }

    #[test]
    fn a_table_is_read_back_as_it_was_written() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let written = record().write(&document).expect("there are marks");
        assert!(written.starts_with("before\n") && written.ends_with("after\n"));
        let read = Record::read(&written).expect("a table");
        assert_eq!(read.table(), record().table());
        assert_eq!(record().differences(&read), Vec::<String>::new());
        assert_eq!(record().write(&written), Ok(written));
        assert!(Record::read("no marks").is_err());
    }

    #[test]
    fn a_run_of_one_tool_is_compared_in_its_own_column() {
        let mut run = Record::default();
        run.note("b", Case::Nobody, &Ok(Verdict::Pass));
        let differences = run.differences(&record());
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].starts_with("b, permission asked: nobody there: pass, and"));
        let mut all = record();
        all.merge(&run, &["b", "a", "d"]);
        assert_eq!(all.tools, ["b", "a"]);
        assert_eq!(run.differences(&all), Vec::<String>::new());
    }
}
