//! The text to send: from the command line, from standard input, or both.
//!
//! Owns reading and joining. Must not know tools. Invariant: nothing that was piped in is left out without a word, and no
//! more than the limit is ever read.

use std::io::{self, IsTerminal as _, Read as _};
use std::time::Duration;

use crate::console::{Console, Tone};
use crate::error::CliError;

/// How long standard input may stay silent before the user is told what is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// The prompt: `given`, then a blank line, then what is piped in. `-` stands for standard input alone.
pub(crate) async fn read(
    given: Option<String>,
    limit: usize,
    console: Console,
) -> Result<String, CliError> {
    let piped = match given.as_deref() {
        Some("-") => Some(standard_input(limit, console).await?),
        _ if is_piped() => Some(standard_input(limit, console).await?),
        _ => None,
    };
    let text = join(given.filter(|given| given != "-"), piped);
    if text.trim().is_empty() {
        return Err(CliError::usage(
            "invalid",
            "the prompt is empty; give it some text, on the command line or through standard input",
        )
        .next("toolpool ask --help"));
    }
    if text.len() > limit {
        return Err(too_large(limit));
    }
    Ok(text)
}

fn join(given: Option<String>, piped: Option<String>) -> String {
    match (given, piped) {
        (Some(given), Some(piped)) if !piped.trim().is_empty() => format!("{given}\n\n{piped}"),
        (Some(given), _) => given,
        (None, piped) => piped.unwrap_or_default(),
    }
}

/// Whether something is piped in: a pipe or a file, but neither a terminal nor `/dev/null`.
fn is_piped() -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    if io::stdin().is_terminal() {
        return false;
    }
    std::fs::metadata("/dev/stdin").is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_file()
    })
}

async fn standard_input(limit: usize, console: Console) -> Result<String, CliError> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    });
    tokio::pin!(reading);
    let read = tokio::select! {
        read = &mut reading => read,
        () = tokio::time::sleep(SILENCE) => {
            console.tell(Tone::Plain, "reading standard input to its end (`< /dev/null` if there is nothing to read)");
            reading.await
        }
    };
    let bytes = read.map_err(io::Error::other).flatten().map_err(|error| {
        CliError::usage("invalid", format!("cannot read standard input: {error}"))
    })?;
    if bytes.len() > limit {
        return Err(too_large(limit));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::usage(
            "invalid",
            format!("standard input is not UTF-8 text (byte {at}); convert it first, for example with iconv"),
        )
    })
}

fn too_large(limit: usize) -> CliError {
    CliError::usage(
        "invalid",
        format!(
            "the prompt is longer than {limit} bytes, this tool's limit; split it, or raise `max_prompt_bytes` in the profile"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn what_is_piped_in_follows_the_prompt_after_a_blank_line() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(join(text("explain"), text("diff\n")), "explain\n\ndiff\n");
        assert_eq!(join(text("explain"), text(" \n")), "explain");
        assert_eq!(join(None, text("all of it")), "all of it");
        assert_eq!(join(text("explain"), None), "explain");
        assert_eq!(join(None, None), "");
    }
}
