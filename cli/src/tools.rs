//! `toolpool tools`: the tools that are known here.
//!
//! Owns the options and the two views. Must not know how a tool is looked at.

mod exam;

pub(crate) use exam::ToolTest;
use schemars::JsonSchema;
use serde::Serialize;
use toolpool::ToolProfile;

use crate::console::{Document, ListFormat, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::probe::{self, ToolReport};
use crate::settings;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct ToolsArgs {
    #[command(subcommand)]
    command: Option<ToolsCommand>,
    /// Form of the answer
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
    pub(crate) output: ListFormat,
}

#[derive(Debug, clap::Subcommand)]
enum ToolsCommand {
    /// Everything about one tool
    Show {
        /// A name, or the path of a profile ending in .toml
        #[arg(value_name = "NAME|FILE.toml")]
        name: String,
    },
    /// Try a tool as it is installed here; spends a few of your tokens
    Test(exam::ExamArgs),
}

/// All tools.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ToolList {
    items: Vec<ToolReport>,
}

impl Document for ToolList {
    const KIND: &'static str = "tool.list";
}

/// One tool with its profile.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ToolDetail {
    #[serde(flatten)]
    report: ToolReport,
    /// Arguments it is started with.
    args: Vec<String>,
    start_timeout_s: f64,
    max_prompt_bytes: usize,
    max_reply_bytes: usize,
    /// How to log in.
    login: Option<String>,
    /// Variables that it cannot do without.
    env_require: Vec<String>,
    /// Variables that it may inherit.
    env_pass: Vec<String>,
    /// Its own commands that may be sent with `ask --command`.
    commands: Vec<String>,
    /// Commands that may be sent only without arguments.
    bare_commands: Vec<String>,
    /// Files that keep it from being started in their folder without `--trust-folder`.
    refuse_files: Vec<String>,
}

impl Document for ToolDetail {
    const KIND: &'static str = "tool";
}

pub(crate) async fn run(args: ToolsArgs) -> Result<Exit, CliError> {
    match args.command {
        Some(ToolsCommand::Show { name }) => show(settings::named(&name)?, args.output).await?,
        Some(ToolsCommand::Test(exam)) => return exam::run(exam, args.output).await,
        None => list(args.output).await?,
    }
    Ok(Exit::Done)
}

async fn list(format: ListFormat) -> Result<(), CliError> {
    let catalog = settings::catalog()?;
    let items = probe::tools(&catalog, &catalog.names()).await;
    match format {
        ListFormat::Json => print_document(&ToolList { items }),
        ListFormat::Text => print(list_text(&items).as_bytes()),
    }
}

fn list_text(items: &[ToolReport]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "FOUND",
        "VERSION",
        "PROVEN ON",
        "PROTOCOL",
        "GRADE",
        "EDITS",
        "LOGIN",
        "TITLE",
    ]);
    for tool in items {
        let title = match &tool.problem {
            Some(problem) if tool.title.is_empty() => {
                problem.lines().next().unwrap_or_default().to_owned()
            }
            _ => tool.title.clone(),
        };
        table.row([
            tool.name.clone(),
            yes_or_no(tool.program.is_some()),
            version(tool),
            tool.proven.clone().unwrap_or_else(|| "-".to_owned()),
            tool.protocol.to_owned(),
            tool.grade.clone(),
            yes_or_no(tool.edits),
            tool.logged_in.map_or_else(|| "-".to_owned(), yes_or_no),
            title,
        ]);
    }
    table.text()
}

fn version(tool: &ToolReport) -> String {
    let version = tool.version.clone().unwrap_or_else(|| "-".to_owned());
    match tool.is_proven {
        Some(false) => format!("{version} (not proven)"),
        _ => version,
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

async fn show(profile: ToolProfile, format: ListFormat) -> Result<(), CliError> {
    let detail = ToolDetail {
        args: profile.args.clone(),
        start_timeout_s: profile.start_timeout.as_secs_f64(),
        max_prompt_bytes: profile.max_prompt_bytes,
        max_reply_bytes: profile.max_reply_bytes,
        login: profile.login.clone(),
        env_require: profile.env_require.clone(),
        env_pass: profile.env_pass.clone(),
        commands: profile.commands.clone(),
        bare_commands: profile.bare_commands.clone(),
        refuse_files: profile.refuse_files.clone(),
        report: probe::known(profile).await,
    };
    match format {
        ListFormat::Json => print_document(&detail),
        ListFormat::Text => print(detail_text(&detail).as_bytes()),
    }
}

fn detail_text(detail: &ToolDetail) -> String {
    let report = &detail.report;
    let list = |words: &[String]| match words {
        [] => "-".to_owned(),
        words => words.join(" "),
    };
    let rows = [
        ("name", report.name.clone()),
        ("title", report.title.clone()),
        (
            "program",
            report
                .program
                .clone()
                .or_else(|| report.problem.clone())
                .unwrap_or_default(),
        ),
        ("version", version(report)),
        (
            "proven on",
            report.proven.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "install",
            report.install.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "log in",
            detail.login.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "logged in",
            match (report.logged_in, &report.login_mark) {
                (_, Some(mark)) => format!("yes: {mark}"),
                (Some(_), None) => "no sign of it".to_owned(),
                (None, None) => "-".to_owned(),
            },
        ),
        ("protocol", report.protocol.to_owned()),
        ("grade", report.grade.clone()),
        ("edits files", yes_or_no(report.edits)),
        ("start", format!("{} s at most", detail.start_timeout_s)),
        (
            "prompt",
            format!("{} bytes at most", detail.max_prompt_bytes),
        ),
        ("reply", format!("{} bytes at most", detail.max_reply_bytes)),
        ("commands", list(&detail.commands)),
        ("without arguments", list(&detail.bare_commands)),
        ("refuses beside", list(&detail.refuse_files)),
        ("needs", list(&detail.env_require)),
        ("may inherit", list(&detail.env_pass)),
        ("arguments", list(&detail.args)),
    ];
    rows.iter()
        .map(|(key, value)| format!("{key:<18} {value}\n"))
        .collect()
}
