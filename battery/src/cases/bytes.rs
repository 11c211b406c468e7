//! Bytes of every kind, cut everywhere.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use toolpool::{Submission, ToolProfile};
use toolpool_testkit::ledgers::{Answer, answer_to};

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::in_time;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 25,
        tier: 1,
        name: "bytes that are no text",
        injects: "10 kinds: invalid and overlong UTF-8, surrogates, NUL, byte order marks, C1, lone continuations",
        alone: false,
        run: |lab| Box::pin(no_text(lab)),
    },
    Case {
        number: 26,
        tier: 1,
        name: "an answer cut at every byte",
        injects: "an answer of 2 KiB in seven scripts in two writes, cut after each of its bytes in turn, as lines and as messages",
        alone: false,
        run: |lab| Box::pin(cut_everywhere(lab)),
    },
    Case {
        number: 27,
        tier: 1,
        name: "line ends, colours and spinners",
        injects: "8 shapes of an answer: CRLF, lone CR, no last newline, colours, a spinner that is drawn over, and others, on pipes and on a terminal",
        alone: false,
        run: |lab| Box::pin(shapes(lab)),
    },
];

/// What is written behind the formula's answer, in hex.
const NO_TEXT: [(&str, &[u8]); 10] = [
    ("invalid", b"\xff\xfe\x80"),
    ("overlong", b"\xc0\xaf\xe0\x80\xaf"),
    ("surrogate", b"\xed\xa0\x80"),
    ("too large", b"\xf4\x90\x80\x80"),
    ("unfinished", b"a\xf0\x9f\x98"),
    ("continuation", b"\x80\x81"),
    ("nul", b"a\x00b"),
    ("mark", b"\xef\xbb\xbfa"),
    ("utf-16", b"\xfe\xff\x00a"),
    ("control", b"\xc2\x9b31m\x9b31m"),
];

async fn no_text(lab: &Lab) -> Result<Counted> {
    let rules = NO_TEXT.map(|(name, bytes)| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("on prompt ~\"{name};\" bytes {}", hex.join(" "))
    });
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let rig = lab
        .launch(lab.standin(&rules)?, 1, |builder| builder)
        .await?;
    let mut marked = 0;
    for (name, bytes) in NO_TEXT {
        let prompt = format!("{name};");
        let Ok(mut asked) = rig
            .begin(&prompt, Answer::Around, |submission| submission)
            .await?
        else {
            bail!("{prompt} was refused");
        };
        let mut streamed = Vec::new();
        while let Some(piece) = in_time(asked.stream.chunk()).await? {
            streamed.extend(piece);
        }
        let said = asked.end().await?.must_be("completed", "")?;
        let whole = [answer_to(lab.seed(), &prompt).as_bytes(), bytes].concat();
        ensure!(streamed == whole, "{name}: {streamed:?} came");
        let lossy = std::str::from_utf8(bytes).is_err();
        let reply = said.reply.as_ref().is_some_and(|reply| reply.lossy);
        ensure!(reply == lossy, "{name}: lossy is {reply}");
        ensure!(
            said.text == String::from_utf8_lossy(&whole),
            "{name}: {:?}",
            said.text
        );
        marked += usize::from(lossy);
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; 10 streams exact, {marked} texts marked as lossy"
    )))
}

/// A text of just above 2 KiB in seven scripts.
fn scripts() -> String {
    "Latin, Ελληνικά, кириллица, עברית, العربية, 漢字かな, 👩‍👩‍👧‍👦\n".repeat(20)
}

async fn cut_everywhere(lab: &Lab) -> Result<Counted> {
    let text = scripts();
    let quoted = format!("{text:?}").replace("\\u{200d}", "\\u200d");
    let rules = [
        format!("on every 1 reply {quoted}"),
        "on every 1 cut 300us".to_owned(),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut texts = Vec::new();
    for (what, profile) in [
        ("lines", lab.standin(&rules)?),
        ("messages", lab.agent(&rules)?),
    ] {
        // As lines, a nonce, a word and line ends follow; as messages, it is wrapped in JSON, and an end follows.
        let on_the_wire = if what == "lines" {
            text.len() + 40
        } else {
            text.len() + 260
        };
        let rig = lab.launch(profile, 1, |builder| builder).await?;
        for place in 1..=on_the_wire {
            let given = Answer::Given(text.clone());
            let said = rig
                .ask_so(&format!("{what} {place}"), given, |submission| submission)
                .await?;
            said.must_be("completed", "")?;
        }
        texts.push(format!("{what}: {}", rig.close().await?));
    }
    Ok(Counted::new(format!(
        "{}; each answer identical",
        texts.join("; ")
    )))
}

/// What is written, what it is on pipes, and what a terminal shows.
const SHAPES: [(&str, &str, &str); 8] = [
    ("crlf", "one\r\ntwo\r\n", "one\ntwo\n"),
    ("lone cr", "wrong\rright", "right\n"),
    ("no newline", "just this", "just this\n"),
    ("blank lines", "one\n\n\ntwo\n", "one\n\n\ntwo\n"),
    (
        "colours",
        "\x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[m",
        "red orange\n",
    ),
    ("spinner", "|\r/\r-\r\\\rdone", "done\n"),
    ("title", "\x1b]0;title\x07text", "text\n"),
    ("erased", "working...\x1b[2K\rdone", "done\n"),
];

async fn shapes(lab: &Lab) -> Result<Counted> {
    let rules: Vec<String> = SHAPES
        .iter()
        .map(|(name, written, _)| {
            Ok(format!(
                "on prompt ~\"{name};\" reply {}",
                serde_json::to_string(written)?
            ))
        })
        .collect::<Result<_>>()?;
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut texts = Vec::new();
    type Golden = fn(&(&'static str, &'static str, &'static str)) -> &'static str;
    let sides: [(&str, ToolProfile, Golden); 2] = [
        ("pipes", lab.standin(&rules)?, |shape| shape.1),
        ("terminal", lab.on_terminal(&rules)?, |shape| shape.2),
    ];
    for (what, profile, golden) in sides {
        let rig = lab.launch(profile, 1, |builder| builder).await?;
        for shape in &SHAPES {
            let given = Answer::Given(golden(shape).to_owned());
            let limit = |submission: Submission| submission.turn_timeout(Duration::from_secs(20));
            let said = rig.ask_so(&format!("{};", shape.0), given, limit).await?;
            said.must_be("completed", "")?;
        }
        texts.push(format!("{what}: {}", rig.close().await?));
    }
    Ok(Counted::new(format!(
        "{}; each text as written down",
        texts.join("; ")
    )))
}
