//! One cluster of the real aider, codex and Claude Code against the local model server. Without `TOOLPOOL_AIDER`,
//! `TOOLPOOL_CODEX` and `TOOLPOOL_CLAUDE` the test says that it was skipped.

use tokio::task::JoinSet;
use toolpool::worktree::Landed;
use toolpool::{Group, Submission, launch_cluster};
use toolpool_conformance::lab::Lab;
use toolpool_testkit::model_server::answer_for;

/// The tool of a laboratory, as a part of a mixed cluster. Each has a model server of its own.
fn group(lab: &Lab) -> Group {
    let (args, env) = lab.settings();
    env.into_iter().fold(
        Group::new(lab.profile()).args(args),
        |group, (key, value)| group.env(key, value),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn real_mixed_tools_answer_one_prompt_side_by_side_and_each_in_its_role() {
    let tools = ["aider", "codex", "claude"];
    let labs: Vec<Lab> = tools.into_iter().filter_map(Lab::or_skip).collect();
    let [aider, codex, claude] = labs.as_slice() else {
        return;
    };
    aider.commit("a.py", "first line\nlast line\n");
    let cluster = launch_cluster([
        group(aider).role("style"),
        group(codex).role("security"),
        group(claude).role("tests"),
    ])
    .cwd(aider.repo())
    .await
    .expect("one of each");
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
    for lab in &labs {
        assert_eq!(lab.census(), Vec::<u32>::new());
    }
}
