//! One cluster of several tools: the stand-in under two names.

use toolpool_cluster::{
    ClusterError, EventKind, Group, Heard, Isolation, Submission, SubmitError, launch_cluster,
};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::shim;
use toolpool_testkit::census::{Census, MARKER};

use crate::support::{LONG, in_time, standin, standin_tool};

/// A stand-in under a name of its own, which answers with that name.
fn named(name: &str) -> ToolProfile {
    let rule = format!("on prompt ~who reply {name}");
    let mut profile = standin(&[], &[&rule]);
    profile.name = name.to_owned();
    profile
}

#[tokio::test]
async fn prompts_go_to_the_tool_or_the_role_that_they_ask_for() {
    shim::init_with(standin_tool());
    let census = Census::new();
    let cluster = launch_cluster([
        Group::new(named("left")).count(2),
        Group::new(named("right")).role("security"),
    ])
    .role("style", "left")
    .isolation(Isolation::Shared)
    .env(MARKER, census.marker())
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    // Each has a keeper.
    assert_eq!(census.alive().len(), 6);
    for (submission, tool, names) in [
        (
            Submission::text("who").to_tool("left"),
            "left",
            &["main/1", "main/2"][..],
        ),
        (
            Submission::text("who").to_tool("right"),
            "right",
            &["main/3"],
        ),
        (
            Submission::text("who").role("style"),
            "left",
            &["main/1", "main/2"],
        ),
        (
            Submission::text("who").role("security"),
            "right",
            &["main/3"],
        ),
    ] {
        for _ in 0..4 {
            let reply = in_time(cluster.ask(submission.clone()))
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reply.text.trim_end(), tool);
            assert_eq!(reply.tool.as_deref(), Some(tool));
            let instance = reply.instance.expect("it ran");
            assert!(names.contains(&&*instance), "{instance} is not of {tool}");
        }
    }
    let status = cluster.status().await.expect("it runs");
    assert_eq!(&*status.tool, "left+right");
    let tools: Vec<_> = status
        .instances
        .iter()
        .map(|instance| &*instance.tool)
        .collect();
    assert_eq!(tools, ["left", "left", "right"]);
    let nobody = cluster.ask(Submission::text("who").role("tests")).await;
    assert_eq!(
        nobody.expect_err("nobody has it").to_string(),
        "there is no instance in the role tests; this cluster has 2 of left (style), 1 of right (security)"
    );
    let books = in_time(cluster.shutdown()).await.books;
    assert_eq!(
        (books.accepted, books.completed, books.refused),
        (16, 16, 1)
    );
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_busy_tool_holds_up_nobody_who_can_use_another() {
    shim::init_with(standin_tool());
    let mut stuck = standin(&[], &["on prompt ~stuck hang"]);
    stuck.name = "stuck".to_owned();
    let cluster = launch_cluster(vec![stuck, named("free")])
        .isolation(Isolation::Shared)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let mut events = cluster.subscribe();
    for _ in 0..5 {
        let prompt = Submission::text("stuck").to_tool("stuck");
        cluster.send(prompt).await.expect("accepted");
    }
    for prompt in [Submission::text("who").to_tool("free"), "who".into()] {
        let reply = in_time(cluster.ask(prompt))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reply.text.trim_end(), "free");
    }
    let books = cluster.status().await.expect("it runs").books;
    assert_eq!((books.running, books.queued), (1, 4));
    let report = in_time(cluster.shutdown_within(std::time::Duration::ZERO)).await;
    assert_eq!((report.books.indeterminate, report.books.cancelled), (1, 4));
    let mut started = 0;
    while let Some(heard) = in_time(events.next()).await {
        if let Heard::Event(event) = heard
            && let EventKind::TurnStarted { .. } = event.kind
        {
            started += 1;
        }
    }
    assert_eq!(started, 3);
}

#[tokio::test]
async fn a_tool_that_cannot_start_is_named_before_anything_is_started() {
    shim::init_with(standin_tool());
    let census = Census::new();
    let mut missing = named("missing");
    missing.program = "/nowhere/at-all".to_owned();
    let error = launch_cluster([named("there"), missing])
        .env(MARKER, census.marker())
        .await
        .expect_err("one of them is missing");
    assert!(error.to_string().starts_with("missing: "), "{error}");
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_tool_whose_instances_all_fail_leaves_the_others_at_work() {
    shim::init_with(standin_tool());
    let mut broken = standin(&[], &["on start exit 3"]);
    broken.name = "broken".to_owned();
    let cluster = launch_cluster([named("good"), broken])
        .isolation(Isolation::Shared)
        .restart_delay(LONG, LONG)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let waits = Submission::text("who").to_tool("broken");
    let waiting = cluster.stream(waits).await.expect("it may come back");
    let reply = in_time(cluster.ask("who")).await.expect("an answer");
    assert_eq!(reply.tool.as_deref(), Some("good"));
    waiting.cancel().await;
    in_time(cluster.shutdown()).await;
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_with_the_way_out() {
    for (builder, expected) in [
        (
            launch_cluster(["bash:2", "python"]).count(3),
            "count = 3: bash says 2 for itself; leave one of them out",
        ),
        (
            launch_cluster(["bash", "python"]).count(3),
            "count = 3: it is for a single tool; write bash:3",
        ),
        (
            launch_cluster(["bash:600", "python:600"]),
            "count = 1200: choose 1 to 1000 instances",
        ),
        (
            launch_cluster(["bash", "python"]).role("style", "ruby"),
            "role = style=ruby: the tools of this cluster are bash, python",
        ),
        (
            launch_cluster("bash:many"),
            "the tool `bash:many`: write TOOL, or TOOL:N with 1 to 1000 instances, such as aider:2",
        ),
        (
            launch_cluster(Vec::<&str>::new()),
            "tools = 0: choose 1 to 64 tools",
        ),
        (
            launch_cluster(["bash", "python"]).capacity(2),
            "capacity = 2: a process of bash or python holds one conversation; leave the capacity out",
        ),
        (
            launch_cluster("bash").capacity(0),
            "capacity = 0: a process serves at least one instance",
        ),
        (
            launch_cluster("codex").capacity(2),
            "capacity = 2: a process of codex works in one folder, and its instances are to have a worktree each; \
             choose shared isolation (`Isolation::Shared`, `--isolation shared`)",
        ),
    ] {
        let error = builder.await.expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), "invalid");
    }
    let error = launch_cluster(["bash", "rubyy"])
        .await
        .expect_err("unknown");
    assert!(matches!(error, ClusterError::Profile(_)), "{error}");
}

#[tokio::test]
async fn a_prompt_that_is_too_long_for_one_tool_goes_to_another() {
    shim::init_with(standin_tool());
    let mut small = named("small");
    small.max_prompt_bytes = 10;
    let cluster = launch_cluster([small, named("large")])
        .isolation(Isolation::Shared)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..3 {
        let reply = in_time(cluster.ask("longer than ten bytes"))
            .await
            .expect("an answer");
        assert_eq!(reply.tool.as_deref(), Some("large"));
    }
    let refused = cluster
        .ask(Submission::text("longer than ten bytes").to_tool("small"))
        .await
        .expect_err("too long");
    assert_eq!(refused.code(), "invalid");
    let nowhere = cluster
        .ask(Submission::text("x").to_tool("large").on_instance(0))
        .await
        .expect_err("that one is small");
    let toolpool_cluster::AskError::Submit(SubmitError::NoFit { asked, .. }) = nowhere else {
        panic!("{nowhere}")
    };
    assert_eq!(asked, "at index 0 of the tool large");
    in_time(cluster.shutdown()).await;
}
