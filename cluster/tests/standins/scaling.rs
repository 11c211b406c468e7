//! Instances with processes and worktrees of their own that come and go.

use toolpool_cluster::{InstanceState, Isolation};
use toolpool_testkit::git::git;

use crate::support::{in_time, launch, sha256, standin};

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_has_a_worktree_of_its_own_and_leaves_neither_it_nor_a_process() {
    let folder = tempfile::tempdir().expect("a folder");
    git(folder.path(), &["init", "-q", "-b", "main"]);
    git(
        folder.path(),
        &["commit", "-q", "--allow-empty", "-m", "start"],
    );
    let worktrees = || git(folder.path(), &["worktree", "list"]).lines().count() - 1;
    let mut profile = standin(&["--reply", "sha256"], &[]);
    profile.edits = true;
    let (cluster, census) = in_time(launch(profile, 1, |builder| {
        builder.isolation(Isolation::Worktree).cwd(folder.path())
    }))
    .await;
    for (count, there) in [(4, 4), (2, 2), (3, 3)] {
        in_time(cluster.scale(count)).await.expect("scaled");
        let status = cluster.status().await.expect("it lives");
        let ready = status
            .instances
            .iter()
            .filter(|instance| instance.state == InstanceState::Ready);
        assert_eq!((ready.count(), worktrees()), (there, there));
        let mut folders: Vec<_> = status.instances.iter().map(|it| &it.cwd).collect();
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), there, "each works in a folder of its own");
        let reply = in_time(cluster.ask("x")).await.expect("completed");
        assert_eq!(reply.text.trim(), sha256("x"));
    }
    in_time(cluster.restart_all()).await.expect("all are new");
    assert_eq!((cluster.instances().len(), worktrees()), (3, 3));
    in_time(cluster.shutdown()).await;
    assert_eq!(worktrees(), 0);
    assert_eq!(census.alive(), Vec::<u32>::new());
}
