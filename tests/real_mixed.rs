//! One cluster of the real aider, codex and Claude Code against the local model server. Without `TOOLPOOL_AIDER`,
//! `TOOLPOOL_CODEX` and `TOOLPOOL_CLAUDE` the test says that it was skipped.

mod aider_lab;
mod claude_lab;

use std::path::PathBuf;

use aider_lab::census;
use tokio::task::JoinSet;
use toolpool::worktree::Landed;
use toolpool::{Group, Submission, ToolProfile, launch_cluster};
use toolpool_testkit::model_server::{ModelServer, answer_for};

const MARKER: &str = "mixed";

/// A codex that uses this server.
fn codex(server: &ModelServer) -> Option<Group> {
    let Some(program) = std::env::var_os("TOOLPOOL_CODEX") else {
        println!("skipped: TOOLPOOL_CODEX is not set");
        return None;
    };
    let mut profile = ToolProfile::builtin("codex").expect("built in");
    profile.program = PathBuf::from(program).display().to_string();
    let provider = format!(
        "model_providers.mock={{name=\"mock\",base_url=\"{}\",env_key=\"MOCK_KEY\",wire_api=\"responses\",\
         request_max_retries=0,stream_max_retries=0}}",
        server.base_url()
    );
    let settings = ["model_provider=\"mock\"", "model=\"mock\"", &provider];
    let args = settings.into_iter().flat_map(|setting| ["-c", setting]);
    Some(Group::new(profile).args(args).env("MOCK_KEY", "none"))
}

#[tokio::test(flavor = "multi_thread")]
async fn real_mixed_tools_answer_one_prompt_side_by_side_and_each_in_its_role() {
    let (Some(aider), Some(claude)) = (
        aider_lab::Lab::new(ModelServer::builder(), &["a.py"]),
        claude_lab::Lab::new(),
    ) else {
        return;
    };
    let Some(codex) = codex(&aider.server) else {
        return;
    };
    let cluster = launch_cluster([
        Group::new(aider.profile())
            .args(aider.args())
            .env("OPENAI_API_KEY", "none")
            .role("style"),
        codex.role("security"),
        claude.group().role("tests"),
    ])
    .cwd(aider.repo())
    .env("TOOLPOOL_TEST_MARKER", MARKER)
    .await
    .expect("one of each");
    let tools = ["aider", "codex", "claude"];
    let status = cluster.status().await.expect("it runs");
    assert_eq!(&*status.tool, "aider+codex+claude");
    for (instance, tool) in status.instances.iter().zip(tools) {
        assert_eq!(&*instance.tool, tool);
        assert!(
            instance.branch.is_some(),
            "{tool} edits, so it has a worktree"
        );
    }

    let mut asks = JoinSet::new();
    let prompt = "one prompt for everybody";
    for index in 0..tools.len() {
        let cluster = cluster.clone();
        asks.spawn(async move {
            cluster
                .ask(Submission::text(prompt).on_instance(index))
                .await
        });
    }
    for (role, tool) in ["style", "security", "tests"].into_iter().zip(tools) {
        for number in 0..3 {
            let cluster = cluster.clone();
            asks.spawn(async move {
                let prompt = format!("question {number} about {role}");
                let reply = cluster
                    .ask(Submission::text(&prompt).fresh().role(role))
                    .await?;
                assert_eq!(reply.text, answer_for(&prompt), "{tool}");
                assert_eq!(reply.tool.as_deref(), Some(tool), "{prompt}");
                Ok(reply)
            });
        }
    }
    let mut side_by_side = Vec::new();
    while let Some(done) = asks.join_next().await {
        let reply = done.expect("no panic").expect("an answer");
        if reply.text == answer_for(prompt) {
            side_by_side.push(reply.tool.expect("it ran").to_string());
        }
    }
    side_by_side.sort_unstable();
    assert_eq!(side_by_side, ["aider", "claude", "codex"]);

    // What an instance changes lands from its own worktree, as in a cluster of one tool.
    let edit = Submission::text("Please [[model: edit=a.py text=a new last line ]]")
        .to_tool("aider")
        .file("a.py")
        .land("a.py");
    let landed = cluster.ask(edit).await.expect("an answer").landed;
    assert!(
        matches!(landed, Some(Ok(Landed::Commit { .. }))),
        "{landed:?}"
    );
    let report = cluster.shutdown().await;
    assert_eq!((report.books.accepted, report.books.completed), (13, 13));
    assert!(report.books.balance());
    assert_eq!(census(MARKER), Vec::<u32>::new());
}
