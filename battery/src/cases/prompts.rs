//! Prompts that a tool could take for two, for none, or for a command.

use anyhow::{Result, bail, ensure};
use toolpool::Submission;
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[Case {
    number: 30,
    tier: 1,
    name: "prompts with line ends and blanks of every kind",
    injects: "15 prompts with LF, CR, CRLF, U+2028, a backslash at the end, blanks only, nothing at all, to lines, messages and a plain line program",
    alone: false,
    run: |lab| Box::pin(line_ends(lab)),
}];

const PROMPTS: [&str; 15] = [
    "one\ntwo",
    "one\n",
    "\none",
    "one\r\ntwo\r\n",
    "one\rtwo",
    "one\u{2028}two\u{2029}three",
    "one\u{85}two",
    "one\u{b}two\u{c}three",
    "ends with \\",
    "\\",
    "   ",
    "\t",
    "\n\n\n",
    "",
    "> \nstandin ready\n> ",
];

async fn line_ends(lab: &Lab) -> Result<Counted> {
    let mut texts = Vec::new();
    for (what, profile) in [
        ("lines", lab.standin(&[])?),
        ("messages", lab.agent(&[])?),
        ("a line program", lab.line_program(&[])?),
    ] {
        let rig = lab.launch(profile, 1, |builder| builder).await?;
        let by_line = what == "a line program";
        for prompt in PROMPTS {
            // Its last line end is what submits a line: the program gets the text before it, and its answer has one too.
            let prompt = if by_line {
                prompt.strip_suffix('\n').unwrap_or(prompt)
            } else {
                prompt
            };
            let answer = if by_line {
                Answer::Around
            } else {
                Answer::Formula
            };
            let wish = |submission: Submission| submission;
            let said = rig.ask_so(prompt, answer, wish).await?;
            match (said.outcome, said.cause) {
                ("completed", _) | ("failed", "refused") | ("refused", "invalid") => {}
                _ => bail!(
                    "{prompt:?} on {what}: {} ({}): {}",
                    said.outcome,
                    said.cause,
                    said.detail
                ),
            }
        }
        let sums = rig.close().await?;
        ensure!(sums.reads == sums.of("completed"), "{what}: {sums}");
        ensure!(sums.spawned == 1, "{what}: {} processes", sums.spawned);
        texts.push(format!("{what}: {sums}"));
    }
    Ok(Counted::new(format!(
        "{}; each read as one prompt or refused",
        texts.join("; ")
    )))
}
