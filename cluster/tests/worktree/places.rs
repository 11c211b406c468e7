//! Where a worktree can be, and what it is called.

use std::fs;

use toolpool_cluster::worktree::{Released, Repository, WorktreeError};

use crate::user::{User, worktree};

#[tokio::test]
async fn a_detached_head_gives_worktrees_but_no_landing() {
    let user = User::new();
    user.git(&["switch", "-q", "--detach"]);
    let repository = user.repository().await;
    assert!(matches!(
        repository.landing_branch(),
        Err(WorktreeError::Detached { .. })
    ));
    let mut worktree = worktree(&repository, "a").await;
    worktree.begin_item().await.expect("a clean start");
    user.tool_commits(&worktree, "tool", "t", "by the tool");
    let error = worktree.land("x").await.expect_err("there is no branch");
    assert!(error.to_string().contains("git switch"), "{error}");
    let Released::Kept(leftover) = worktree.release().await.expect("a release") else {
        panic!("the work was dropped")
    };
    assert!(user.shell(&leftover.show).contains("+t"), "{leftover:?}");
}

#[tokio::test]
async fn folders_without_a_usable_repository_are_told_apart() {
    let user = User::without_commit();
    let error = Repository::discover(&user.top)
        .await
        .expect_err("there is no commit");
    assert!(
        matches!(error, WorktreeError::NoCommit { .. })
            && error.to_string().contains("--allow-empty"),
        "{error}"
    );
    assert!(
        Repository::discover(&user.home)
            .await
            .expect("no error")
            .is_none()
    );
    let error = Repository::discover(&user.top.join(".git"))
        .await
        .expect_err("there are no files");
    assert!(matches!(error, WorktreeError::NoCheckout { .. }), "{error}");
    assert!(matches!(
        Repository::discover(&user.top.join("absent")).await,
        Err(WorktreeError::Io { .. })
    ));
    user.git(&["config", "core.worktree", &user.home.to_string_lossy()]);
    assert!(matches!(
        Repository::discover(&user.top).await,
        Err(WorktreeError::NoCheckout { .. })
    ));
}

#[tokio::test]
async fn a_subfolder_of_the_user_has_its_counterpart_in_the_worktree() {
    let user = User::new();
    fs::create_dir(user.top.join("empty")).expect("a folder");
    let repository = Repository::discover(&user.top.join("sub/deep"))
        .await
        .expect("no error")
        .expect("a repository");
    assert_eq!(repository.top(), user.top);
    let worktree = worktree(&repository, "a").await;
    for below in ["sub/deep", "sub", "empty"] {
        assert_eq!(
            worktree.cwd_for(&user.top.join(below)).expect("a folder"),
            worktree.path().join(below)
        );
        assert!(worktree.path().join(below).is_dir());
    }
    assert_eq!(
        worktree.cwd_for(&user.top).expect("the top"),
        worktree.path()
    );
    assert!(matches!(
        worktree.cwd_for(&user.home),
        Err(WorktreeError::Outside { .. })
    ));
}

#[tokio::test]
async fn any_text_names_a_worktree_inside_its_folder() {
    let user = User::new();
    let repository = user.repository().await;
    for (name, slug) in [
        ("../../escape", "escape"),
        ("main/2", "main-2"),
        ("--force", "force"),
        ("日本 語", "日本-語"),
        ("", "item"),
    ] {
        let worktree = repository.add_worktree(name).await.expect("a worktree");
        assert_eq!(
            worktree.path(),
            user.top.join(".toolpool/worktrees").join(slug)
        );
        assert_eq!(worktree.branch(), format!("toolpool/{slug}"));
        assert_eq!(
            worktree.release().await.expect("a release"),
            Released::Removed
        );
    }
}

#[tokio::test]
async fn a_link_in_place_of_our_folder_is_not_followed() {
    let user = User::new();
    std::os::unix::fs::symlink(&user.home, user.top.join(".toolpool")).expect("a link");
    let error = user
        .repository()
        .await
        .add_worktree("a")
        .await
        .expect_err("it leads elsewhere");
    assert!(matches!(error, WorktreeError::NotAFolder { .. }), "{error}");
    assert_eq!(fs::read_dir(&user.home).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_branch_that_takes_our_prefix_is_named() {
    let user = User::new();
    let repository = user.repository().await;
    user.git(&["branch", "toolpool"]);
    let error = repository
        .add_worktree("a")
        .await
        .expect_err("git cannot have both");
    assert!(
        error.to_string().contains("git branch -m toolpool"),
        "{error}"
    );
}
