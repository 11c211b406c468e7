//! Lets an example be its own tool: with `standin` as its first argument it is the scripted stand-in, so that every
//! example runs without an account. `--tool NAME` runs it on a real one.

use toolpool::ToolProfile;

/// Call it first in `main`: it does not return when this process is a tool.
pub(crate) fn init() {
    toolpool::init();
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq("standin").is_some() {
        std::process::exit(i32::from(
            toolpool_testkit::standin::main(args) != std::process::ExitCode::SUCCESS,
        ));
    }
}

/// The tool named by `--tool`, or the stand-in.
pub(crate) fn tool() -> anyhow::Result<ToolProfile> {
    let mut args = std::env::args().skip(1);
    if let Some("--tool") = args.next().as_deref() {
        let name = args.next().unwrap_or_default();
        return Ok(ToolProfile::builtin(&name)?);
    }
    let mut profile = ToolProfile::builtin("standin")?;
    profile.program = std::env::current_exe()?.display().to_string();
    profile.args = vec!["standin".to_owned(), "--edits".to_owned()];
    Ok(profile)
}
