//! Real interpreters through their built-in profiles. A test whose program is missing says so and proves nothing.

use toolpool_pool_core::ProcessPool;
use toolpool_pool_core::profile::ToolProfile;

use crate::support::{answer, ask, launch};

async fn pool(tool: &str) -> Option<ProcessPool> {
    let profile = ToolProfile::builtin(tool).expect("built in");
    if which::which(&profile.program).is_err() {
        eprintln!(
            "SKIPPED: {} is not on PATH: {}",
            profile.program,
            profile.install.unwrap_or_default()
        );
        return None;
    }
    Some(launch(profile, 1).await)
}

/// Asks in turn and compares; what one prompt left behind may be used by the next.
async fn converse(tool: &str, turns: &[(&str, &str)]) {
    let Some(pool) = pool(tool).await else { return };
    for (prompt, reply) in turns {
        assert_eq!(answer(&pool, prompt).await, *reply, "{tool}: {prompt:?}");
    }
}

#[tokio::test]
async fn bash_runs_scripts_of_any_shape() {
    converse(
        "bash",
        &[
            ("echo hello", "hello\n"),
            ("true", ""),
            ("printf unfinished", "unfinished"),
            ("x=1\nf() {\n  echo \"x is $x\"\n}", ""),
            ("f\nf", "x is 1\nx is 1\n"),
            ("for i in 1 2 3\ndo\n  echo $i\ndone\n", "1\n2\n3\n"),
            ("echo to stderr >&2", "to stderr\n"),
            ("cat; read line; echo \"[$line]\"", "[]\n"),
            ("cat <<END\n$x\nEND", "1\n"),
            ("echo 'héllo \u{1f600}'", "héllo \u{1f600}\n"),
            ("echo backslash \\", "backslash\n"),
            (
                "printf '%s\\n' 00000000000000000000000000000000",
                "00000000000000000000000000000000\n",
            ),
            ("cd / && pwd", "/\n"),
            ("(exit 7); echo $?", "7\n"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_job_of_bash_prints_between_two_turns_is_in_neither_reply() {
    let folder = tempfile::tempdir().expect("temp folder");
    let (go, gone) = (folder.path().join("go"), folder.path().join("gone"));
    let Some(pool) = pool("bash").await else {
        return;
    };
    // The job waits at a named pipe, so that it speaks after the end of the turn that began it.
    let job = format!(
        "mkfifo {go:?} {gone:?}\n(read line < {go:?}; echo late; echo > {gone:?}) &\necho begun"
    );
    assert_eq!(answer(&pool, &job).await, "begun\n");
    std::fs::write(&go, "\n").expect("the job reads it");
    std::fs::read(&gone).expect("the job has spoken");
    assert_eq!(answer(&pool, "echo next").await, "next\n");
}

#[tokio::test]
async fn bash_lives_through_an_open_quote_and_tells_of_its_exit() {
    let Some(pool) = pool("bash").await else {
        return;
    };
    for open in [
        "echo 'open",
        "echo \"open",
        "if true",
        "cat <<X\nopen",
        "f() {",
        "echo $((1 +",
        "`",
    ] {
        ask(&pool, open).await;
        assert_eq!(answer(&pool, "echo fine").await, "fine\n", "after {open:?}");
    }
    let long = format!(": '{}'\necho long", "x".repeat(1 << 20));
    assert_eq!(answer(&pool, &long).await, "long\n");
    let response = ask(&pool, "exit 9").await;
    assert_eq!(response.outcome.word(), "indeterminate");
    assert_eq!(pool.get_status()[0].return_code, Some(9));
}

#[tokio::test]
async fn python_runs_programs_of_any_shape() {
    converse(
        "python",
        &[
            ("1 + 1", "2\n"),
            ("x = 5", ""),
            (
                "def f(n):\n    if n:\n\n        return n * x\n    return 'none'\n\nf(2)",
                "10\n",
            ),
            (
                "for i in range(2):\n    print(i)\nelse:\n    print('done')",
                "0\n1\ndone\n",
            ),
            ("print('unfinished', end='')", "unfinished"),
            ("'héllo \u{1f600}\u{2028}'", "'héllo \u{1f600}\\u2028'\n"),
            ("text = '''a\nb'''\nlen(text)", "3\n"),
            (
                "import sys; print('to stderr', file=sys.stderr)",
                "to stderr\n",
            ),
            ("print('0' * 32)", "00000000000000000000000000000000\n"),
            ("# nothing", ""),
            ("None", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn python_lives_through_errors_and_tells_of_its_exit() {
    let Some(pool) = pool("python").await else {
        return;
    };
    for (prompt, error) in [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("'open", "SyntaxError"),
        ("input()", "EOFError"),
    ] {
        let text = answer(&pool, prompt).await;
        assert!(text.contains(error), "{prompt}: {text}");
    }
    assert_eq!(answer(&pool, "'fine'").await, "'fine'\n");
    let long = format!("len('{}')", "x".repeat(1 << 20));
    assert_eq!(answer(&pool, &long).await, "1048576\n");
    let response = ask(&pool, "import sys; sys.exit(9)").await;
    assert_eq!(response.outcome.word(), "indeterminate");
    assert_eq!(pool.get_status()[0].return_code, Some(9));
}

#[tokio::test]
async fn node_runs_scripts_of_any_shape() {
    converse(
        "node",
        &[
            ("1 + 1", "2\n"),
            ("const x = 5", ""),
            (
                "function f(n) {\n  if (n) {\n\n    return n * x\n  }\n}\nf(2)",
                "10\n",
            ),
            ("for (let i = 0; i < 2; i++) {\n  console.log(i)\n}", "0\n1\n"),
            ("process.stdout.write('unfinished'); undefined", "unfinished"),
            ("'h\u{e9}llo \u{1f600}\u{2028}'", "'h\u{e9}llo \u{1f600}\u{2028}'\n"),
            (
                "new Promise(done => setTimeout(done, 10, 'awaited'))",
                "'awaited'\n",
            ),
            ("console.error('to stderr')", "to stderr\n"),
            (
                "process.stdin.on('data', console.log).on('end', () => console.log('end')); new Promise(done => setImmediate(done))",
                "end\n",
            ),
            ("// nothing", ""),
            ("undefined", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn node_lives_through_errors_and_tells_of_its_exit() {
    let Some(pool) = pool("node").await else {
        return;
    };
    for (prompt, error) in [
        ("null.x", "TypeError"),
        ("function (", "SyntaxError"),
        ("'open", "SyntaxError"),
        (".exit", "SyntaxError"),
        ("throw 5", "Uncaught 5"),
        ("Promise.reject(new Error('refused'))", "refused"),
        (
            "setImmediate(() => { throw new Error('late') }); new Promise(done => setTimeout(done, 10))",
            "late",
        ),
    ] {
        let text = answer(&pool, prompt).await;
        assert!(text.contains(error), "{prompt}: {text}");
    }
    assert_eq!(answer(&pool, "'fine'").await, "'fine'\n");
    let long = format!("'{}'.length", "x".repeat(1 << 20));
    assert_eq!(answer(&pool, &long).await, "1048576\n");
    let response = ask(&pool, "process.exit(9)").await;
    assert_eq!(response.outcome.word(), "indeterminate");
    assert_eq!(pool.get_status()[0].return_code, Some(9));
}

#[tokio::test]
async fn bc_calculates() {
    converse(
        "bc",
        &[
            ("2^100", "1267650600228229401496703205376\n"),
            ("scale = 5\n1 / 3", ".33333\n"),
            ("define f(n) {\n  return n * 2\n}\nf(21)", "42\n"),
            ("x = 4", ""),
            ("x", "4\n"),
            ("print \"unfinished\"", "unfinished"),
            ("2^400", "2582249878086908589655919172003011874329705792829223512830659356540647622016841194629645353280137831435903171972747493376\n"),
        ],
    )
    .await;
    let Some(pool) = pool("bc").await else { return };
    assert!(
        answer(&pool, "1 / 0")
            .await
            .to_lowercase()
            .contains("divide by zero")
    );
    assert_eq!(answer(&pool, "1").await, "1\n");
}

#[tokio::test]
async fn sqlite3_answers_queries() {
    converse(
        "sqlite3",
        &[
            (
                "create table t (a, b);\ninsert into t values (1, 'one'),\n  (2, 'it''s two');",
                "",
            ),
            ("select * from t;", "1|one\n2|it's two\n"),
            ("select count(*)\nfrom t", "2\n"),
            (".tables", "t\n"),
            ("select 'héllo \u{1f600}';", "héllo \u{1f600}\n"),
        ],
    )
    .await;
    let Some(pool) = pool("sqlite3").await else {
        return;
    };
    let text = answer(&pool, "select * from missing;").await;
    assert!(text.contains("no such table: missing"), "{text}");
    assert_eq!(answer(&pool, "select 1;").await, "1\n");
}
