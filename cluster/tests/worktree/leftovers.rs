//! Worktrees that are in use, hold work, or were damaged: what is used again, what is kept, and what is told.

use std::fs;
use std::sync::Arc;

use tokio::sync::Barrier;
use toolpool_cluster::worktree::{Released, Repository, Worktree, WorktreeError};

use crate::user::{User, lands, worktree, write};

#[tokio::test(flavor = "multi_thread")]
async fn two_toolpools_that_add_worktrees_at_once_get_different_ones() {
    let user = Arc::new(User::new());
    let barrier = Arc::new(Barrier::new(8));
    let mut tasks = Vec::new();
    for number in 0..8 {
        let (user, barrier) = (user.clone(), barrier.clone());
        tasks.push(tokio::spawn(async move {
            let repository = user.repository().await;
            barrier.wait().await;
            repository
                .add_worktree(if number % 2 == 0 { "a" } else { "b" })
                .await
                .expect("a worktree")
        }));
    }
    let mut worktrees = Vec::new();
    for task in tasks {
        worktrees.push(task.await.expect("no panic"));
    }
    let mut branches: Vec<&str> = worktrees.iter().map(Worktree::branch).collect();
    branches.sort_unstable();
    let expected =
        ["a", "a-2", "a-3", "a-4", "b", "b-2", "b-3", "b-4"].map(|name| format!("toolpool/{name}"));
    assert_eq!(branches, expected);
    let last = worktrees
        .iter()
        .find(|worktree| worktree.branch() == "toolpool/a-4")
        .expect("it is there");
    assert_eq!(last.passed_over().len(), 3);
    assert!(
        last.passed_over()[0].reason.contains("in use"),
        "{:?}",
        last.passed_over()
    );
    assert_eq!(
        user.repository().await.leftovers().await.expect("a list"),
        [],
        "what is in use is not a leftover"
    );
}

#[tokio::test]
async fn a_worktree_of_an_earlier_run_is_used_again_only_if_it_holds_nothing() {
    let user = User::new();
    let repository = user.repository().await;
    drop(worktree(&repository, "clean").await);
    let dirty = worktree(&repository, "dirty").await;
    write(&dirty.path().join("x"), "x");
    let unlanded = worktree(&repository, "unlanded").await;
    user.tool_commits(&unlanded, "y", "y", "y");
    let deleted = worktree(&repository, "deleted").await;
    user.tool_commits(&deleted, "z", "z", "z");
    fs::remove_dir_all(deleted.path()).expect("a folder");
    let emptied = worktree(&repository, "emptied").await;
    fs::remove_dir_all(emptied.path()).expect("a folder");
    drop((dirty, unlanded, deleted, emptied));
    write(
        &user.top.join(".toolpool/worktrees/foreign/file"),
        "somebody's",
    );
    user.commit("later", "later");

    let next = user.repository().await;
    for name in ["clean", "emptied"] {
        let again = worktree(&next, name).await;
        assert_eq!(
            (again.branch(), again.passed_over()),
            (&*format!("toolpool/{name}"), &[][..])
        );
        assert!(
            again.path().join("later").exists(),
            "it stands on the branch as it is now"
        );
    }
    for (name, reason) in [
        ("dirty", "uncommitted"),
        ("unlanded", "not landed"),
        ("deleted", "not landed"),
        ("foreign", "not a worktree"),
    ] {
        let other = worktree_named(&next, name, &format!("{name}-2")).await;
        let [passed] = other.passed_over() else {
            panic!("{:?}", other.passed_over())
        };
        assert!(
            passed.branch == format!("toolpool/{name}") && passed.reason.contains(reason),
            "{passed:?}"
        );
        user.shell(&passed.show);
    }
    assert_eq!(
        fs::read_to_string(user.top.join(".toolpool/worktrees/dirty/x")).expect("kept"),
        "x"
    );
    assert_eq!(user.git(&["show", "toolpool/deleted:z"]), "z");
    let listed: Vec<String> = next
        .leftovers()
        .await
        .expect("a list")
        .into_iter()
        .map(|left| left.branch)
        .collect();
    assert_eq!(
        listed,
        ["toolpool/deleted", "toolpool/dirty", "toolpool/unlanded"]
    );
}

async fn worktree_named(repository: &Repository, name: &str, expected: &str) -> Worktree {
    let worktree = repository.add_worktree(name).await.expect("a worktree");
    assert_eq!(worktree.branch(), format!("toolpool/{expected}"));
    worktree
}

#[tokio::test]
async fn an_item_does_not_begin_and_a_release_does_not_delete_while_work_is_there() {
    let user = User::new();
    let repository = user.repository().await;
    let mut dirty = worktree(&repository, "dirty").await;
    write(&dirty.path().join("x"), "x");
    let mut unlanded = worktree(&repository, "unlanded").await;
    user.tool_commits(&unlanded, "y", "y", "y");
    let mut strayed = worktree(&repository, "strayed").await;
    user.git_in(strayed.path(), &["switch", "-q", "-c", "feature"]);
    user.tool_commits(&strayed, "z", "z", "z");
    for worktree in [&mut dirty, &mut unlanded, &mut strayed] {
        let error = worktree.begin_item().await.expect_err("it holds work");
        let WorktreeError::Unlanded { show, .. } = &error else {
            panic!("{error}")
        };
        user.shell(show);
    }
    for worktree in [dirty, unlanded, strayed] {
        let path = worktree.path().to_owned();
        let Released::Kept(leftover) = worktree.release().await.expect("a release") else {
            panic!("{path:?} is gone")
        };
        assert_eq!(leftover.worktree.as_deref(), Some(&*path));
        assert!(path.exists() && !user.git(&["branch", "--list", &leftover.branch]).is_empty());
        user.shell(&leftover.show);
    }
}

#[tokio::test]
async fn a_worktree_removed_under_our_feet_is_an_error_and_the_users_files_are_safe() {
    for how in ["folder", "link", "replaced"] {
        let user = User::new();
        let repository = user.repository().await;
        let mut worktree = worktree(&repository, "a").await;
        user.write("precious", "uncommitted");
        user.write("README", "changed by the user\n");
        let before = user.state();
        let path = worktree.path().to_owned();
        match how {
            "folder" => fs::remove_dir_all(&path).expect("a folder"),
            "link" => fs::remove_file(path.join(".git")).expect("a file"),
            _ => {
                fs::remove_file(path.join(".git")).expect("a file");
                user.git_in(&path, &["init", "-q"]);
            }
        }
        for error in [
            worktree.land("x").await.err(),
            worktree.begin_item().await.err(),
        ] {
            let error = error.expect("it is gone");
            assert!(
                matches!(error, WorktreeError::Gone { .. }),
                "{how}: {error}"
            );
        }
        let released = worktree.release().await.expect("a release");
        assert_eq!(
            released == Released::Removed,
            how == "folder",
            "{how}: {released:?}"
        );
        assert_eq!(user.state(), before, "{how}");
    }
}

#[tokio::test]
async fn a_stale_lock_stops_the_worktree_until_somebody_clears_it() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "x", "x", "x");
    let lock = user.top.join(".git/worktrees/a/index.lock");
    write(&lock, "");
    let error = worktree.land("x").await.expect_err("it is locked");
    assert!(
        matches!(&error, WorktreeError::Locked { lock: found } if found == &lock),
        "{error}"
    );
    assert_eq!(
        worktree.clear_stale_lock().await.expect("it is removed"),
        [lock]
    );
    let again = worktree.clear_stale_lock().await.expect("nothing is left");
    assert!(again.is_empty(), "{again:?}");
    lands(&mut worktree, "x").await;
}
