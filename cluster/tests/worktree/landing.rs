//! What of a worktree comes home, as which commit, and what is kept on a branch instead.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use toolpool_cluster::worktree::{Landed, Leftover, Released, WorktreeError};

use crate::user::{User, blocked, lands, worktree, write};

#[tokio::test(flavor = "multi_thread")]
async fn twelve_items_over_three_worktrees_become_twelve_commits_in_one_line() {
    let user = Arc::new(User::new());
    let repository = user.repository().await;
    let mut tasks = Vec::new();
    for instance in 0..3 {
        let mut worktree = worktree(&repository, &format!("aider-{instance}")).await;
        let user = user.clone();
        tasks.push(tokio::spawn(async move {
            for item in 0..4 {
                let name = format!("item {instance}.{item}");
                worktree.begin_item().await.expect("a clean start");
                user.tool_commits(
                    &worktree,
                    &format!("{instance}-{item}.txt"),
                    &name,
                    &format!("feat: {name}\n\nBody"),
                );
                let landed = worktree.land(&name).await.expect("a landing");
                let Landed::Commit { files, .. } = landed else {
                    panic!("{name}: {landed:?}")
                };
                assert_eq!(files, [PathBuf::from(format!("{instance}-{item}.txt"))]);
            }
            assert_eq!(
                worktree.release().await.expect("a release"),
                Released::Removed
            );
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(user.git(&["rev-list", "--count", "HEAD"]), "13");
    assert_eq!(user.git(&["rev-list", "--count", "--merges", "HEAD"]), "0");
    let authors = user.git(&["log", "-12", "--format=%an <%ae> %cn"]);
    assert!(
        authors
            .lines()
            .all(|line| line == "Tool (aider) <who@example.org> Tool (aider)"),
        "{authors}"
    );
    let log = user.git(&["log", "-12", "--format=%s|%b", "--name-only"]);
    for (instance, item) in (0..3).flat_map(|instance| (0..4).map(move |item| (instance, item))) {
        assert!(
            log.contains(&format!(
                "feat: item {instance}.{item}|Body\n\n\n{instance}-{item}.txt"
            )),
            "{log}"
        );
        assert_eq!(
            user.read(&format!("{instance}-{item}.txt")),
            format!("item {instance}.{item}")
        );
    }
    assert_eq!(
        user.git(&["status", "--porcelain"]),
        "",
        "the user's checkout followed, and .toolpool is hidden"
    );
    assert_eq!(user.git(&["branch", "--list", "toolpool*"]), "");
    assert_eq!(repository.leftovers().await.expect("a list"), []);
}

#[tokio::test]
async fn several_commits_and_leftovers_land_as_one_commit_with_the_tools_last_message() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "one", "1", "first");
    user.tool_commits(&worktree, "two", "2", "second");
    write(&worktree.path().join("three"), "left uncommitted");
    let landed = worktree.land("the item").await.expect("a landing");
    let Landed::Commit { commit, files } = landed else {
        panic!("{landed:?}")
    };
    assert_eq!(files, ["one", "three", "two"].map(PathBuf::from));
    assert_eq!(
        user.git(&["log", "--format=%H %s", "main"]).lines().next(),
        Some(&*format!("{commit} second"))
    );
    assert_eq!(user.git(&["rev-list", "--count", "main"]), "2");
    assert_eq!(
        user.git_in(worktree.path(), &["rev-parse", "HEAD"]),
        commit,
        "the worktree is ready for the next item"
    );
}

#[tokio::test]
async fn work_that_the_tool_did_not_commit_lands_in_the_users_name_under_the_items_name() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    write(&worktree.path().join("README"), "changed\n");
    fs::remove_file(worktree.path().join("sub/deep/file.txt")).expect("it is there");
    write(&worktree.path().join("new file"), "new");
    let landed = worktree
        .land("translate\nall of it")
        .await
        .expect("a landing");
    assert!(
        matches!(landed, Landed::Commit { ref files, .. } if files.len() == 3),
        "{landed:?}"
    );
    assert_eq!(
        user.git(&["log", "-1", "--format=%an|%s|%b"]),
        "User|toolpool: translate|all of it"
    );
    assert_eq!(
        (user.read("README"), user.top.join("sub").exists()),
        ("changed\n".to_owned(), false)
    );
}

#[tokio::test]
async fn work_that_the_tool_put_on_a_branch_of_its_own_lands_as_well() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.git_in(worktree.path(), &["switch", "-q", "-c", "feature"]);
    user.tool_commits(&worktree, "z", "z", "on feature");
    lands(&mut worktree, "x").await;
    assert_eq!(user.git(&["log", "-1", "--format=%s"]), "on feature");
    assert_eq!(
        user.git_in(worktree.path(), &["branch", "--show-current"]),
        "toolpool/a"
    );

    user.tool_commits(&worktree, "lost", "1", "first on our branch");
    user.git_in(
        worktree.path(),
        &["switch", "-q", "-c", "elsewhere", "main"],
    );
    user.tool_commits(&worktree, "other", "2", "then elsewhere");
    let error = worktree
        .land("x")
        .await
        .expect_err("one of the two would be left behind");
    assert!(matches!(error, WorktreeError::Unlanded { .. }), "{error}");
    assert_eq!(user.git(&["show", "toolpool/a:lost"]), "1");
}

#[tokio::test]
async fn an_item_without_changes_lands_nothing() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    assert_eq!(
        worktree.land("nothing").await.expect("a landing"),
        Landed::Nothing
    );
    user.tool_commits(&worktree, "x", "x", "add x");
    user.git_in(worktree.path(), &["revert", "--no-edit", "HEAD"]);
    assert_eq!(
        worktree.land("back and forth").await.expect("a landing"),
        Landed::Nothing
    );
    worktree.begin_item().await.expect("it is clean");
    assert_eq!(user.git(&["rev-list", "--count", "main"]), "1");
}

#[tokio::test]
async fn the_same_change_from_two_instances_lands_once() {
    let user = User::new();
    let repository = user.repository().await;
    let (mut a, mut b) = (
        worktree(&repository, "a").await,
        worktree(&repository, "b").await,
    );
    user.tool_commits(&a, "x", "same", "by a");
    user.tool_commits(&b, "x", "same", "by b");
    lands(&mut a, "x").await;
    assert_eq!(b.land("x").await.expect("a landing"), Landed::Nothing);
    assert_eq!(b.release().await.expect("a release"), Released::Removed);
}

#[tokio::test]
async fn contradicting_work_is_kept_listed_and_shown() {
    let user = User::new();
    let repository = user.repository().await;
    let (mut a, mut b) = (
        worktree(&repository, "a").await,
        worktree(&repository, "b").await,
    );
    user.tool_commits(&a, "README", "from a\n", "by a");
    user.tool_commits(&b, "README", "from b\n", "by b");
    user.tool_commits(&b, "b-only", "b\n", "by b too");
    lands(&mut a, "edit").await;
    let landed = b
        .land("../edit the README, ünïcode & 'quotes'")
        .await
        .expect("a landing");
    let Landed::Conflict {
        branch,
        files,
        show,
    } = landed
    else {
        panic!("{landed:?}")
    };
    assert_eq!(branch, "toolpool-kept/b/edit-the-README-ünïcode-quotes");
    assert_eq!(files, [PathBuf::from("README")]);
    let shown = user.shell(&show);
    assert!(
        shown.contains("+from b") && shown.contains("b-only"),
        "{show}: {shown}"
    );
    assert_eq!(user.git(&["show", &format!("{branch}:README")]), "from b");
    assert_eq!(
        (user.read("README"), user.git(&["status", "--porcelain"])),
        ("from a\n".to_owned(), String::new())
    );

    // The instance goes on with the next item, and a second conflict of the same name gets its own branch.
    b.begin_item().await.expect("it was reset");
    user.tool_commits(&b, "next", "next", "next");
    lands(&mut b, "next").await;
    assert_eq!(b.release().await.expect("a release"), Released::Removed);
    let leftovers = repository.leftovers().await.expect("a list");
    let [
        Leftover {
            branch: listed,
            worktree: None,
            show,
            ..
        },
    ] = &leftovers[..]
    else {
        panic!("{leftovers:?}")
    };
    assert_eq!(listed, &branch);
    assert!(user.shell(show).contains("+from b"));
}

#[tokio::test]
async fn items_of_one_name_are_kept_on_branches_of_their_own() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.write("x", "the user's");
    for expected in [
        "toolpool-kept/a/do-it",
        "toolpool-kept/a/do-it-2",
        "toolpool-kept/a/do-it-3",
    ] {
        user.tool_commits(&worktree, "x", expected, "x");
        assert_eq!(
            blocked(worktree.land("do it").await.expect("a landing")).0,
            expected
        );
        assert_eq!(user.git(&["show", &format!("{expected}:x")]), expected);
    }
}

#[tokio::test]
async fn half_done_merges_and_inner_repositories_do_not_land() {
    let user = User::new();
    let mut a = worktree(&user.repository().await, "a").await;
    user.tool_commits(&a, "README", "tool\n", "by the tool");
    user.commit("README", "user\n");
    assert!(
        !user
            .try_git_in(a.path(), &["merge", "main"])
            .status
            .success(),
        "it conflicts"
    );
    let error = a.land("x").await.expect_err("a merge is open");
    assert!(matches!(error, WorktreeError::Unfinished { .. }), "{error}");
    user.git_in(a.path(), &["merge", "--abort"]);
    fs::create_dir(a.path().join("inner")).expect("a folder");
    user.git_in(&a.path().join("inner"), &["init", "-q"]);
    write(&a.path().join("inner/file"), "precious");
    let error = a.land("x").await.expect_err("an inner repository");
    assert!(
        matches!(&error, WorktreeError::Embedded { path } if path == &a.path().join("inner/")),
        "{error}"
    );
    fs::remove_dir_all(a.path().join("inner/.git")).expect("a folder");
    let landed = a.land("x").await.expect("a landing");
    assert!(matches!(landed, Landed::Conflict { .. }), "{landed:?}");
}

#[tokio::test]
async fn a_landing_whose_caller_went_away_goes_on_to_its_end() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.tool_commits(&worktree, "x", "x", "x");
    tokio::select! {
        biased;
        landed = worktree.land("x") => panic!("it cannot be ready at the first poll: {landed:?}"),
        () = std::future::ready(()) => {}
    }
    worktree
        .begin_item()
        .await
        .expect("it waits for the landing and finds nothing unlanded");
    assert_eq!(user.git(&["log", "-1", "--format=%s", "main"]), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn worktrees_and_landings_wait_while_another_process_is_at_it() {
    let user = User::new();
    let repository = user.repository().await;
    let mut first = worktree(&repository, "first").await;
    user.tool_commits(&first, "tool", "t", "by the tool");
    let lock = fs::File::open(user.top.join(".git/toolpool/lock")).expect("it was made");
    lock.lock().expect("nobody holds it");
    let adding = tokio::spawn({
        let repository = repository.clone();
        async move { repository.add_worktree("second").await }
    });
    let landing = tokio::spawn(async move { first.land("x").await });
    // Plenty of time for both to go wrong, in terms of what they would have to do.
    for number in 0..20 {
        user.commit("user", &number.to_string());
    }
    assert!(!user.top.join(".toolpool/worktrees/second").exists());
    assert_eq!(user.git(&["rev-list", "--count", "main"]), "21");
    assert!(!user.git(&["log", "--format=%s"]).contains("by the tool"));
    lock.unlock().expect("we hold it");
    adding.await.expect("no panic").expect("a worktree");
    let landed = landing.await.expect("no panic").expect("a landing");
    assert!(matches!(landed, Landed::Commit { .. }), "{landed:?}");
    assert_eq!(user.git(&["log", "-1", "--format=%s"]), "by the tool");
}
