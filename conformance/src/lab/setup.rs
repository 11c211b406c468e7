//! How each real tool is pointed at the model server.
//!
//! Owns the arguments, variables and files. Must not start anything. Invariant: one entry for each tool.

use std::io;
use std::path::Path;
use std::time::Duration;

use toolpool::ToolProfile;
use toolpool_testkit::model_server::ModelServer;

use crate::Case;

/// Arguments, and variables.
type Settings = (Vec<String>, Vec<(String, String)>);

/// From a cancel to the end of a tool that can confirm it. It does so in its own time, which is long on a busy machine.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// The same for a tool that cannot.
pub(super) const NO_GRACE: Duration = Duration::from_secs(1);

/// From the start of a tool to its first prompt, on a busy machine.
pub(super) const START: Duration = Duration::from_secs(300);

/// One tool.
pub(super) struct Setup {
    pub(super) tool: &'static str,
    /// The tool that is installed for it.
    pub(super) installed: &'static str,
    /// What it needs to use the server; it may write files into the folder, which is no repository.
    pub(super) settings: fn(&ModelServer, &Path) -> io::Result<Settings>,
    /// What has to be different in its profile.
    pub(super) profile: fn(&mut ToolProfile),
    /// Whether its own tool for files takes whole paths only.
    pub(super) wants_whole_paths: bool,
    /// Whether it writes while its model does.
    pub(super) streams: bool,
    /// Whether it gives its model the files that a prompt names as `@path`.
    pub(super) includes_files: bool,
    /// Cases in which it has a limit of its own, or that come out now so and now otherwise without a failure of ours,
    /// and how.
    pub(super) limits: &'static [(Case, &'static str)],
}

impl Setup {
    /// A tool without peculiarities.
    const fn new(
        tool: &'static str,
        settings: fn(&ModelServer, &Path) -> io::Result<Settings>,
    ) -> Self {
        Self {
            tool,
            installed: tool,
            settings,
            profile: |_| {},
            wants_whole_paths: false,
            streams: true,
            includes_files: false,
            limits: &[],
        }
    }

    /// The same program, started anew for each prompt.
    const fn for_each_prompt(self, tool: &'static str) -> Self {
        Self { tool, ..self }
    }
}

/// The tools that keep a conversation.
pub(super) const SETUPS: &[Setup] = &[
    Setup::new("aider", aider),
    Setup::new("claude", claude),
    Setup::new("codex", codex),
    Setup::new("gemini", gemini),
    Setup {
        profile: |profile| {
            // An unknown model is taken for a small one.
            if let Some(settings) = profile.files.get_mut("settings.json") {
                *settings = settings.replace(
                    "\"maxRetries\": 0",
                    "\"maxRetries\": 0, \"contextWindowSize\": 4000000",
                );
            }
        },
        wants_whole_paths: true,
        ..Setup::new("qwen", qwen)
    },
    Setup {
        limits: &[(
            Case::Dropped,
            "tries again for a minute; then it is now a failed turn, now half an answer that is `completed`",
        )],
        ..Setup::new("opencode", opencode)
    },
];

/// The tools that are started anew for each prompt.
pub(super) const ONE_SHOTS: &[Setup] = &[
    Setup::new("aider", aider).for_each_prompt("aider-message"),
    Setup::new("claude", claude).for_each_prompt("claude-print"),
    Setup {
        // It writes whole messages.
        streams: false,
        ..Setup::new("codex", codex).for_each_prompt("codex-exec")
    },
    Setup {
        includes_files: true,
        limits: &[(
            Case::NeverACommand,
            "no text is a command, but a file of the working folder that it names as `@path` is put into the conversation",
        )],
        ..Setup::new("gemini", gemini).for_each_prompt("gemini-headless")
    },
];

fn owned<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// An unknown model needs its edit format and its limits; without them aider looks for tables on the network.
fn aider(server: &ModelServer, folder: &Path) -> io::Result<Settings> {
    let settings = folder.join("settings.yml");
    std::fs::write(
        &settings,
        "- name: openai/mock\n  edit_format: diff\n  weak_model_name: openai/mock\n  use_repo_map: false\n  streaming: true\n  extra_params: {max_retries: 0}\n",
    )?;
    let metadata = folder.join("metadata.json");
    std::fs::write(
        &metadata,
        r#"{"openai/mock":{"max_tokens":8192,"max_input_tokens":4000000,"max_output_tokens":8192,"input_cost_per_token":0,"output_cost_per_token":0,"litellm_provider":"openai","mode":"chat"}}"#,
    )?;
    let args = [
        "--model".to_owned(),
        "openai/mock".to_owned(),
        "--map-tokens".to_owned(),
        "0".to_owned(),
        "--openai-api-base".to_owned(),
        server.base_url(),
        "--model-settings-file".to_owned(),
        settings.display().to_string(),
        "--model-metadata-file".to_owned(),
        metadata.display().to_string(),
    ];
    Ok((args.into(), owned([("OPENAI_API_KEY", "none".to_owned())])))
}

/// A configuration of its own, so that nobody's login is used.
fn claude(server: &ModelServer, folder: &Path) -> io::Result<Settings> {
    let config = folder.join("config");
    std::fs::create_dir_all(&config)?;
    let env = owned([
        ("CLAUDE_CONFIG_DIR", config.display().to_string()),
        ("ANTHROPIC_BASE_URL", server.origin()),
        ("ANTHROPIC_API_KEY", "none".to_owned()),
        ("CLAUDE_CODE_MAX_RETRIES", "1".to_owned()),
    ]);
    Ok((Vec::new(), env))
}

fn codex(server: &ModelServer, _folder: &Path) -> io::Result<Settings> {
    let provider = format!(
        "model_providers.mock={{name=\"mock\",base_url=\"{}\",env_key=\"MOCK_KEY\",wire_api=\"responses\",\
         request_max_retries=0,stream_max_retries=0}}",
        server.base_url()
    );
    let args = ["model_provider=\"mock\"", "model=\"mock\"", &provider]
        .into_iter()
        .flat_map(|setting| ["-c".to_owned(), setting.to_owned()])
        .collect();
    Ok((args, owned([("MOCK_KEY", "none".to_owned())])))
}

fn gemini(server: &ModelServer, _folder: &Path) -> io::Result<Settings> {
    let args = ["-m", "gemini-2.5-pro"].map(str::to_owned).into();
    let env = owned([
        ("GEMINI_API_KEY", "none".to_owned()),
        ("GOOGLE_GEMINI_BASE_URL", server.origin()),
    ]);
    Ok((args, env))
}

fn qwen(server: &ModelServer, _folder: &Path) -> io::Result<Settings> {
    let env = owned([
        ("OPENAI_API_KEY", "none".to_owned()),
        ("OPENAI_BASE_URL", server.base_url()),
        ("OPENAI_MODEL", "mock".to_owned()),
    ]);
    Ok((Vec::new(), env))
}

fn opencode(server: &ModelServer, folder: &Path) -> io::Result<Settings> {
    let config = folder.join("opencode.json");
    let provider = format!(
        r#"{{"model": "mock/mock", "small_model": "mock/mock", "provider": {{"mock": {{
            "npm": "@ai-sdk/openai-compatible", "options": {{"baseURL": "{}", "apiKey": "none"}},
            "models": {{"mock": {{"limit": {{"context": 4000000, "output": 8000}}}}}}}}}}}}"#,
        server.base_url()
    );
    std::fs::write(&config, provider)?;
    Ok((
        Vec::new(),
        owned([("OPENCODE_CONFIG", config.display().to_string())]),
    ))
}
