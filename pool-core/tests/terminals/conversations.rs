//! Prompts and replies.

use toolpool_pool_core::Happening;
use toolpool_pool_core::outcome::Outcome;

use crate::support::{Terminal, profile};

/// Asks in turn and compares; what one prompt left behind may be used by the next.
async fn converse(name: &str, turns: &[(&str, &str)]) {
    let Some(profile) = profile(name) else { return };
    let mut terminal = Terminal::launch(&profile).await;
    for (prompt, reply) in turns {
        assert_eq!(terminal.answer(prompt).await, *reply, "{name}: {prompt:?}");
    }
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[tokio::test]
async fn bash_answers_through_its_line_editor() {
    converse(
        "bash",
        &[
            ("echo hello", "hello\n"),
            ("true", ""),
            ("printf unfinished", "unfinished\n"),
            ("for i in 1 2\ndo\n\techo \"- $i\"\ndone\n", "- 1\n- 2\n"),
            ("seq 1 120", &numbers(1..121)),
            ("echo '\u{754c} h\u{e9}llo !'", "\u{754c} h\u{e9}llo !\n"),
            ("clear; echo anew", "anew\n"),
            ("printf '%0450d\\n' 0", &format!("{}\n", "0".repeat(450))),
            ("echo 'bash$ '; echo behind it", "bash$\nbehind it\n"),
            ("read -t 10 line < /dev/null; echo \"[$line]\"", "[]\n"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_paste_of_any_size_arrives_whole() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    // Longer than the terminal's buffers, and than the lines that it would cut.
    let prompt = format!("wc -c <<'END'\n{}\nEND", "x".repeat(100_000));
    let reply = terminal.answer(&prompt).await;
    // Of a prompt that is taller than the screen, bash draws a part again when it is submitted.
    assert!(reply.ends_with("100001\n"), "{reply}");
    // Taller than the screen.
    let prompt: String = (0..120).map(|line| format!("echo line {line}\n")).collect();
    let reply: String = (0..120).map(|line| format!("line {line}\n")).collect();
    assert_eq!(terminal.answer(&prompt).await, reply);
}

#[tokio::test]
async fn a_line_that_the_terminal_itself_edits_is_whole_or_refused() {
    let Some(mut profile) = profile("bash") else {
        return;
    };
    // Without its editor, bash reads the lines that the terminal gives it.
    profile.args.insert(0, "--noediting".to_owned());
    let mut terminal = Terminal::launch(&profile).await;
    assert_eq!(
        terminal.answer("stty -a | grep -o -w icanon").await,
        "icanon\n"
    );
    let command = "wc -c <<< ";
    let longest = format!("{command}{}", "x".repeat(4095 - command.len()));
    let bytes = 4095 - command.len() + 1;
    assert_eq!(terminal.answer(&longest).await, format!("{bytes}\n"));
    let refusal = terminal
        .submit(&format!("{longest}x"))
        .expect_err("too long");
    assert!(refusal.to_string().contains("4095"), "{refusal}");
    assert_eq!(terminal.answer("echo fine").await, "fine\n");
}

#[tokio::test]
async fn python_answers_at_its_own_prompt() {
    converse(
        "python",
        &[
            ("1 + 1", "2\n"),
            ("x = 5", ""),
            ("print('unfinished', end='')", "unfinished\n"),
            ("[x] * 3", "[5, 5, 5]\n"),
        ],
    )
    .await;
}

#[tokio::test]
async fn real_pty_ipython_answers_pastes_of_any_shape() {
    let lines: String = (0..120).map(|i| format!("x{i} = {i}\n")).collect();
    converse(
        "ipython",
        &[
            ("1 + 1", "Out[1]: 2\n"),
            (
                "def f(n):\n    if n:\n\n        return n\n    return 'none'\n\nf(7)",
                "Out[2]: 7\n",
            ),
            ("print('unfinished', end='')", "unfinished\n"),
            ("for i in range(120): print(i)", &numbers(0..120)),
            (&format!("{lines}x119"), "Out[5]: 119\n"),
            ("'''a\n\tb'''", "Out[6]: 'a\\n\\tb'\n"),
            ("'h\u{e9}llo \u{754c}'", "Out[7]: 'h\u{e9}llo \u{754c}'\n"),
            ("print('In [1]: ')", "In [1]:\n"),
            (
                &format!("len('{}')", "y".repeat(100_000)),
                "Out[9]: 100000\n",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn real_pty_ipython_is_interrupted_and_works_on() {
    let Some(profile) = profile("ipython") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    terminal
        .submit("for i in range(200): print(i)\nimport time\ntime.sleep(1000)")
        .expect("accepted");
    let (outcome, reply) = terminal.interrupt_at_first_chunk().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(reply.contains("KeyboardInterrupt"), "{reply}");
    assert_eq!(terminal.answer("'fine'").await, "Out[2]: 'fine'\n");
}

#[tokio::test]
async fn an_interrupt_reaches_what_runs_in_the_foreground() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    terminal.submit("yes").expect("accepted");
    let (outcome, reply) = terminal.interrupt_at_first_chunk().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(reply.ends_with("^C\n"), "{reply}");
    assert_eq!(terminal.answer("echo fine").await, "fine\n");
}

#[tokio::test]
async fn a_reply_without_end_is_cut_off() {
    let Some(mut profile) = profile("bash") else {
        return;
    };
    profile.max_reply_bytes = 10_000;
    let mut terminal = Terminal::launch(&profile).await;
    terminal.submit("yes").expect("accepted");
    loop {
        match terminal.next().await {
            Happening::Turn(_) => {}
            Happening::TooLong { limit } => return assert_eq!(limit, 10_000),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_documented_profiles_are_the_tested_ones() {
    let docs = include_str!("../../../docs/tools.md");
    for profile in [
        include_str!("profiles/bash.toml"),
        include_str!("profiles/ipython.toml"),
    ] {
        assert!(
            docs.contains(profile),
            "docs/tools.md differs from\n{profile}"
        );
    }
}
