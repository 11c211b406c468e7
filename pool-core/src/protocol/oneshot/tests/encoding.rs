//! What a prompt becomes on its way to a command.

use super::*;

fn encoded(toml: &str, prompt: &Prompt) -> Result<String, Refusal> {
    config(toml).encode(prompt, 1 << 20)
}

#[test]
fn a_prompt_that_would_be_an_option_gets_a_blank_and_only_where_it_could_be_one() {
    for (toml, text, expected) in [
        ("prompt_args = ['{prompt}']", "-x", " -x"),
        ("prompt_args = ['{prompt}']", "--help", " --help"),
        ("prompt_args = ['-m', '{prompt}']", "-", " -"),
        ("prompt_args = ['--', '{prompt}']", "-x", "-x"),
        ("prompt_args = ['--message={prompt}']", "-x", "-x"),
        ("prompt_args = ['{prompt_file}']", "-x", "-x"),
        ("prompt_args = ['{prompt}']", "x -y", "x -y"),
        ("", "-x", "-x"),
    ] {
        assert_eq!(
            encoded(toml, &Prompt::text(text)).as_deref(),
            Ok(expected),
            "{toml} {text}"
        );
    }
}

#[test]
fn a_prompt_that_would_be_a_command_gets_a_line_before_it() {
    for text in ["/run x", " /run x", "\n!x", "\u{feff}/x"] {
        let expected = format!("Prompt:\n{text}");
        assert_eq!(
            encoded("command_marks = '/!'", &Prompt::text(text)),
            Ok(expected)
        );
        assert_eq!(encoded("", &Prompt::text(text)).as_deref(), Ok(text));
    }
    assert_eq!(
        encoded("command_marks = '/'", &Prompt::text("see /run")).as_deref(),
        Ok("see /run")
    );
}

#[test]
fn what_cannot_reach_the_command_is_refused() {
    let argument = "prompt_args = ['--', '{prompt}']";
    let large = "x".repeat(131_071);
    assert!(encoded(argument, &Prompt::text(&*large)).is_ok());
    let larger = Prompt::text(format!("{large}x"));
    let refusal = encoded(argument, &larger)
        .expect_err("too long")
        .to_string();
    assert!(
        refusal.contains("131072 bytes") && refusal.contains("{prompt_file}"),
        "{refusal}"
    );
    assert!(encoded("prompt_args = ['x{prompt}']", &Prompt::text(&*large)).is_err());
    assert!(encoded("prompt_args = ['{prompt_file}']", &larger).is_ok());
    assert!(encoded("", &larger).is_ok());

    assert!(encoded(argument, &Prompt::text("a\0b")).is_err());
    assert!(encoded("", &Prompt::text("a\0b")).is_ok());
    assert_eq!(encoded("", &Prompt::text(" \n")), Err(Refusal::Empty));
    let huge = Prompt::text("x".repeat((1 << 20) + 1));
    assert!(matches!(encoded("", &huge), Err(Refusal::TooLarge { .. })));
    assert!(matches!(
        encoded("", &Prompt::command("/x")),
        Err(Refusal::Unsupported(_))
    ));
}

#[test]
fn files_are_named_to_a_model_and_refused_elsewhere() {
    let with = |file: &str| Prompt {
        files: vec![file.into()],
        ..Prompt::text("/do it")
    };
    assert_eq!(
        encoded("output = 'codex'\ncommand_marks = '/'", &with("src/a.rs")).as_deref(),
        Ok("The following is about these files:\n- src/a.rs\n\n/do it")
    );
    assert!(
        encoded("", &with("a")).is_err(),
        "plain text has no model to tell"
    );
    for wrong in ["", "/etc/passwd", "../a", "a\nb", "."] {
        assert!(
            encoded("output = 'codex'", &with(wrong)).is_err(),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_prompt_stands_in_one_argument() {
    let file = toml::from_str("prompt_args = ['{prompt}', '{prompt_file}']").expect("toml");
    let error = OneshotConfig::from_file(file).expect_err("two");
    assert!(error.contains("prompt_args"), "{error}");
    assert!(toml::from_str::<OneshotFile>("output = 'html'").is_err());
    assert!(toml::from_str::<OneshotFile>("promt = 1").is_err());
}
