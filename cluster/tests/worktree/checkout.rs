//! The user's own checkout: what happens to it, and what it stops.

use std::fs;

use toolpool_cluster::worktree::{Landed, Released, WorktreeError};

use crate::user::{User, blocked, lands, worktree, write};

#[tokio::test]
async fn the_users_uncommitted_changes_are_the_same_bytes_before_and_after() {
    let user = User::new();
    user.commit("staged", "0\n");
    user.commit("unstaged", "0\n");
    user.commit(".gitignore", "ignored\n");
    user.write("staged", "1\n");
    user.write("staged-new", "1\n");
    user.git(&["add", "staged", "staged-new"]);
    user.write("staged", "2\n");
    user.write("unstaged", "1\r\n\0");
    user.write("untracked", "1");
    user.write("ignored", "1");
    fs::remove_file(user.top.join("sub/deep/file.txt")).expect("it is there");
    let mut before = user.state();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "README", "new\n", "edit");
    assert_eq!(user.state(), before, "a worktree disturbs nothing");
    lands(&mut worktree, "x").await;
    before.3.insert(user.top.join("README"), b"new\n".to_vec());
    assert_eq!(user.state(), before, "only the landed file has changed");
    assert_eq!(
        worktree.release().await.expect("a release"),
        Released::Removed
    );
    assert_eq!(user.state(), before);
}

#[tokio::test]
async fn a_users_change_in_the_way_blocks_the_landing_and_nothing_is_lost() {
    for what in ["unstaged", "staged", "untracked", "ignored"] {
        let user = User::new();
        user.commit("file", "0\n");
        user.commit(".gitignore", "/ignored\n");
        let path = match what {
            "unstaged" | "staged" => "file",
            other => other,
        };
        user.write(path, "the user's\n");
        if what == "staged" {
            user.git(&["add", "file"]);
        }
        let before = user.state();
        let repository = user.repository().await;
        let mut worktree = worktree(&repository, "a").await;
        write(&worktree.path().join(path), "the tool's\n");
        user.git_in(worktree.path(), &["add", "--force", path]);
        user.git_in(worktree.path(), &["commit", "-q", "-m", "edit"]);
        let (branch, reason, show) = blocked(worktree.land("edit").await.expect("a landing"));
        assert_eq!(user.state(), before, "{what}");
        assert!(reason.contains(path), "{what}: {reason}");
        assert!(user.shell(&show).contains("+the tool's"), "{what}");
        assert_eq!(
            user.git(&["show", &format!("{branch}:{path}")]),
            "the tool's"
        );
        assert_eq!(user.git_in(worktree.path(), &["status", "--porcelain"]), "");
        worktree.begin_item().await.expect("the worktree was reset");
    }
}

#[tokio::test]
async fn commits_that_the_user_makes_meanwhile_stay_below_the_landed_one() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    user.commit("user", "u");
    lands(&mut worktree, "x").await;
    assert_eq!(
        user.git(&["log", "--format=%s"]),
        "by the tool\nuser: user\nstart"
    );
    user.git(&["commit", "-q", "--amend", "-m", "reworded by the user"]);
    worktree
        .begin_item()
        .await
        .expect("what landed is the user's to rewrite");
    assert_eq!(
        user.git_in(worktree.path(), &["log", "-1", "--format=%s"]),
        "reworded by the user"
    );
}

#[tokio::test]
async fn landing_goes_to_the_starting_branch_when_the_user_has_switched_away() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    user.git(&["switch", "-q", "-c", "other"]);
    let before = user.state();
    lands(&mut worktree, "x").await;
    assert_eq!(user.state(), before);
    assert_eq!(
        user.git(&["log", "--format=%s", "main"]),
        "by the tool\nstart"
    );
    assert_eq!(user.git(&["log", "--format=%s", "other"]), "start");
}

#[tokio::test]
async fn a_second_checkout_of_the_users_that_has_the_branch_follows_too() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.git(&["switch", "-q", "-c", "other"]);
    let second = user.home.join("second");
    user.git(&["worktree", "add", "-q", &second.to_string_lossy(), "main"]);
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    lands(&mut worktree, "x").await;
    assert_eq!(
        fs::read_to_string(second.join("tool")).expect("it followed"),
        "t"
    );
    assert_eq!(user.git_in(&second, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_branch_that_the_user_is_rebasing_or_has_deleted_is_left_alone() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.commit("README", "main\n");
    user.git(&["branch", "upstream", "HEAD~1"]);
    user.git(&["switch", "-q", "upstream"]);
    user.commit("README", "upstream\n");
    user.git(&["switch", "-q", "main"]);
    assert!(
        !user
            .try_git_in(&user.top, &["rebase", "-q", "upstream"])
            .status
            .success(),
        "it stops at a conflict"
    );
    let (before, main) = (user.state(), user.git(&["rev-parse", "main"]));
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    let (_, reason, show) = blocked(worktree.land("x").await.expect("a landing"));
    assert!(reason.contains("a rebase of `main`"), "{reason}");
    assert!(user.shell(&show).contains("+t"));
    assert_eq!(
        (user.state(), user.git(&["rev-parse", "main"])),
        (before, main)
    );

    user.git(&["rebase", "--abort"]);
    user.git(&["switch", "-q", "upstream"]);
    worktree.begin_item().await.expect("a clean start");
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    user.git(&["branch", "-q", "-D", "main"]);
    let (branch, reason, _) = blocked(worktree.land("x").await.expect("a landing"));
    assert!(reason.contains("does not exist"), "{reason}");
    assert_eq!(user.git(&["show", &format!("{branch}:tool")]), "t");
    assert!(matches!(
        worktree.begin_item().await,
        Err(WorktreeError::BranchGone { .. })
    ));
}

#[tokio::test]
async fn a_git_command_of_the_user_that_does_not_end_blocks_the_landing() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    user.write(".git/index.lock", "");
    let (_, reason, show) = blocked(worktree.land("x").await.expect("a landing"));
    assert!(reason.contains("index.lock"), "{reason}");
    assert!(user.shell(&show).contains("+t"));
    assert!(
        user.top.join(".git/index.lock").exists(),
        "it is the user's"
    );
}

#[tokio::test]
async fn bookkeeping_of_tools_is_hidden_and_the_users_own_rules_stay() {
    let user = User::new();
    user.write(".git/info/exclude", "mine");
    let repository = user.repository().await;
    for _ in 0..2 {
        repository
            .exclude(&[".aider*"])
            .await
            .expect("it is writable");
    }
    let mut worktree = worktree(&repository, "a").await;
    write(&worktree.path().join(".aider.chat.history.md"), "# chat");
    assert_eq!(
        worktree.land("x").await.expect("a landing"),
        Landed::Nothing
    );
    assert_eq!(
        user.read(".git/info/exclude"),
        "mine\n.aider*\n.toolpool/\n"
    );
    assert!(!user.top.join(".gitignore").exists());
}
