//! The tables of what came of every case on every tool.
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

/// Tools that are shown in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are, above the table.
    pub title: &'static str,
    /// Their names, in the order of the columns.
    pub tools: Vec<&'static str>,
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

    /// Puts what another record says over what this one does.
    pub fn merge(&mut self, other: &Self) {
        self.cells.extend(other.cells.clone());
        for tool in &other.tools {
            if !self.tools.contains(tool) {
                self.tools.push(tool.clone());
            }
        }
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

    /// A table of each group of which there is a tool, and the notes of all, as Markdown. Other tools are left out.
    pub fn tables(&self, groups: &[Group]) -> String {
        let mut text = String::new();
        let known = |tool: &&str| self.tools.iter().any(|known| known == tool);
        for group in groups {
            let tools: Vec<&str> = group.tools.iter().copied().filter(known).collect();
            if !tools.is_empty() {
                writeln!(text, "{}:\n", group.title).ok();
                self.columns(&tools, &mut text);
                text.push('\n');
            }
        }
        let order = groups.iter().flat_map(|group| &group.tools);
        let notes = self.notes(&order.copied().filter(known).collect::<Vec<_>>());
        if notes.is_empty() {
            text.truncate(text.trim_end().len());
            text.push('\n');
        } else {
            text.push_str("\\* what the tool does:\n\n");
            text.push_str(&notes);
        }
        text
    }

    fn cell(&self, case: Case, tool: &str) -> Option<&Cell> {
        self.cells.get(&(case, tool.to_owned()))
    }

    fn columns(&self, tools: &[&str], text: &mut String) {
        writeln!(text, "| case | {} |", tools.join(" | ")).ok();
        writeln!(text, "|---|{}", "---|".repeat(tools.len())).ok();
        for case in Case::ALL {
            let word = |tool: &&str| self.cell(case, tool).map_or("", |cell| cell.word.as_str());
            let words: Vec<&str> = tools.iter().map(word).collect();
            writeln!(text, "| {} | {} |", case.name(), words.join(" | ")).ok();
        }
    }

    fn notes(&self, tools: &[&str]) -> String {
        let mut notes = String::new();
        for case in Case::ALL {
            // Tools that do the same share a note.
            let mut by_note: Vec<(&str, Vec<&str>)> = Vec::new();
            for tool in tools {
                if let Some(note) = self.cell(case, tool).and_then(|cell| cell.note.as_deref()) {
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
        notes
    }

    /// Reads the tables in a document.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn read(document: &str) -> Result<Self, String> {
        let (_, table, _) = cut(document)?;
        let mut record = Self::default();
        let mut columns: Vec<String> = Vec::new();
        let named = |name: &str| Case::ALL.into_iter().find(|case| case.name() == name);
        for line in table.lines() {
            if let Some(row) = line
                .strip_prefix("| ")
                .and_then(|row| row.strip_suffix(" |"))
            {
                let mut words = row.split(" | ").map(str::to_owned);
                let first = words.next().unwrap_or_default();
                match named(&first) {
                    None => {
                        columns = words.collect();
                        record.tools.extend(columns.clone());
                    }
                    Some(case) => {
                        for (tool, word) in columns.iter().zip(words) {
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

    /// The document with these tables in it.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn write(&self, document: &str, groups: &[Group]) -> Result<String, String> {
        let (before, _, after) = cut(document)?;
        Ok(format!(
            "{before}{BEGIN}\n{}\n{END}{after}",
            self.tables(groups)
        ))
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

    fn groups() -> [Group; 2] {
        [("One", vec!["b", "a"]), ("Other", vec!["d", "c"])]
            .map(|(title, tools)| Group { title, tools })
    }

    #[test]
    fn a_table_is_read_back_as_it_was_written() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let written = record()
            .write(&document, &groups())
            .expect("there are marks");
        assert!(written.starts_with("before\n") && written.ends_with("after\n"));
        let read = Record::read(&written).expect("a table");
        assert_eq!(read.tables(&groups()), record().tables(&groups()));
        assert_eq!(record().differences(&read), Vec::<String>::new());
        assert_eq!(record().write(&written, &groups()), Ok(written));
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
        all.merge(&run);
        assert_eq!(run.differences(&all), Vec::<String>::new());
        let tables = all.tables(&groups());
        assert!(tables.starts_with("One:\n\n| case | b | a |\n"), "{tables}");
        assert!(tables.contains("\n\nOther:\n\n| case | c |\n"), "{tables}");
    }
}
