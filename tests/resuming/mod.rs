//! A session goes on in a new process of a real tool with all that was said.

use toolpool::{InstanceState, Isolation};
use toolpool_conformance::lab::Lab;

/// Kills the process of a session between two turns, twice, and asks for what was said in the first.
pub(crate) async fn goes_on_after_a_kill(tool: &str) {
    let Some(lab) = Lab::or_skip(tool) else {
        return;
    };
    let cluster = lab
        .cluster(1)
        .isolation(Isolation::Shared)
        .await
        .expect("an instance");
    let session = cluster.session("chat");
    session
        .ask("Remember the word marmalade.")
        .await
        .expect("answer");
    for generation in 2..=3 {
        let status = cluster.status().await.expect("it lives");
        let pid = status.instances[0].pid.expect("it runs");
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.expect("every system has it").success());
        let reply = loop {
            // The kill may be noticed only when the prompt is there; of a prompt that was written nobody knows then.
            let status = cluster.status().await.expect("it lives");
            let now = &status.instances[0];
            if now.state == InstanceState::Ready && now.generation == generation {
                break session.ask("[[model: recall=marmalade]]").await;
            }
            tokio::task::yield_now().await;
        };
        let reply = reply.expect("the session goes on");
        assert!(reply.text.ends_with("recalled: yes"), "{}", reply.text);
        assert_eq!(reply.generation, generation);
    }
    let report = cluster.shutdown().await;
    assert_eq!(report.books.completed, 3);
    assert_eq!(lab.census(), Vec::<u32>::new());
}
