//! Worktrees and landing, with the real `git` in temporary folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Barrier;
use toolpool_cluster::worktree::{Landed, Leftover, Released, Repository, Worktree, WorktreeError};

/// A repository of a user, in a folder with a space in its name, with one commit on `main`.
struct User {
    _folder: TempDir,
    home: PathBuf,
    top: PathBuf,
}

impl User {
    fn new() -> Self {
        let user = Self::without_commit();
        user.write("README", "start\n");
        user.write("sub/deep/file.txt", "deep\n");
        user.git(&["add", "."]);
        user.git(&["commit", "-q", "-m", "start"]);
        user
    }

    fn without_commit() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("it exists");
        let user = Self {
            _folder: folder,
            home: root.join("home"),
            top: root.join("the project"),
        };
        for dir in [&user.home, &user.top] {
            fs::create_dir(dir).expect("a new folder");
        }
        user.git(&["init", "-q", "-b", "main"]);
        // In the repository, because a test cannot change the environment of its own process.
        user.git(&["config", "user.name", "User"]);
        user.git(&["config", "user.email", "user@example.org"]);
        user
    }

    fn try_git_in(&self, dir: &Path, args: &[&str]) -> Output {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(dir)
            .args(args)
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            let name = if dir == self.top {
                "User"
            } else {
                "Tool (aider)"
            };
            git.env(format!("GIT_{who}_NAME"), name)
                .env(format!("GIT_{who}_EMAIL"), "who@example.org");
        }
        git.output().expect("git runs")
    }

    fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let output = self.try_git_in(dir, args);
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.top, args)
    }

    fn write(&self, path: &str, text: &str) {
        write(&self.top.join(path), text);
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.top.join(path)).expect("the file is there")
    }

    fn commit(&self, path: &str, text: &str) {
        self.write(path, text);
        self.git(&["add", path]);
        self.git(&["commit", "-q", "-m", &format!("user: {path}")]);
    }

    /// What a tool does that commits by itself.
    fn tool_commits(&self, worktree: &Worktree, path: &str, text: &str, message: &str) {
        write(&worktree.path().join(path), text);
        self.git_in(worktree.path(), &["add", "--all"]);
        self.git_in(worktree.path(), &["commit", "-q", "-m", message]);
    }

    async fn repository(&self) -> Repository {
        Repository::discover(&self.top)
            .await
            .expect("no error")
            .expect("a repository")
    }

    fn shell(&self, command: &str) -> String {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir("/")
            .env("HOME", &self.home)
            .output();
        let output = output.expect("a shell");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Everything about the user's checkout that is theirs: branch, staged and unstaged changes, all files' bytes.
    fn state(&self) -> (String, String, String, BTreeMap<PathBuf, Vec<u8>>) {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.ends_with(".git") || path.ends_with(".toolpool") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path)
                } else {
                    drop(files.insert(path.clone(), fs::read(path).expect("a file")))
                }
            }
        }
        let head = self.git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
        (
            head,
            self.git(&["status", "--porcelain"]),
            self.git(&["diff", "--cached"]),
            files,
        )
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a file");
}

async fn worktree(repository: &Repository, name: &str) -> Worktree {
    let worktree = repository.add_worktree(name).await.expect("a worktree");
    assert_eq!(
        worktree.path(),
        repository.top().join(".toolpool/worktrees").join(name)
    );
    worktree
}

fn blocked(landed: Landed) -> (String, String, String) {
    match landed {
        Landed::Blocked {
            branch,
            reason,
            show,
        } => (branch, reason, show),
        other => panic!("expected Blocked, got {other:?}"),
    }
}

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
    assert!(matches!(
        a.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        a.land("edit").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        b.land("next").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
async fn what_a_repository_configures_to_run_never_runs() {
    let user = User::new();
    let canary = user.home.join("canary");
    let script = user.home.join("evil");
    write(
        &script,
        &format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", canary.display()),
    );
    user.shell(&format!("chmod +x '{}'", script.display()));
    let evil = script.to_string_lossy().into_owned();
    let hooks = user.home.join("hooks");
    fs::create_dir(&hooks).expect("a folder");
    for hook in [
        "post-checkout",
        "post-merge",
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-index-change",
        "reference-transaction",
        "pre-auto-gc",
        "pre-merge-commit",
        "fsmonitor-watchman",
    ] {
        fs::copy(&script, hooks.join(hook)).expect("a copy");
        fs::copy(&script, user.top.join(".git/hooks").join(hook)).expect("a copy");
    }
    user.write(".gitattributes", "*.evil diff=evil\n");
    user.commit(".gitattributes", "*.evil diff=evil\n");
    let _ = fs::remove_file(&canary);
    let shell_evil = format!("!{evil}");
    for (key, value) in [
        ("core.hooksPath", &*hooks.to_string_lossy()),
        ("core.fsmonitor", &evil),
        ("core.pager", &evil),
        ("core.editor", &evil),
        ("core.sshCommand", &evil),
        ("core.askPass", &evil),
        ("diff.external", &evil),
        ("diff.evil.textconv", &evil),
        ("diff.evil.command", &evil),
        ("pager.log", &evil),
        ("pager.status", &evil),
        ("pager.diff-tree", &evil),
        ("gpg.program", &evil),
        ("commit.gpgSign", "true"),
        ("merge.verifySignatures", "true"),
        ("log.showSignature", "true"),
        ("credential.helper", &shell_evil),
        ("alias.status", &shell_evil),
        ("alias.merge-tree", &shell_evil),
        ("alias.worktree", &shell_evil),
        ("merge.tool", &evil),
        (
            "branch.main.mergeOptions",
            "--no-ff --edit --verify-signatures",
        ),
        ("gc.auto", "1"),
        ("merge.autoStash", "true"),
    ] {
        user.git(&["config", key, value]);
    }
    let repository = user.repository().await;
    let mut a = worktree(&repository, "a").await;
    a.begin_item().await.expect("a clean start");
    write(&a.path().join("x.evil"), "x\n");
    assert!(matches!(
        a.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
    write(&a.path().join("x.evil"), "y\n");
    write(&user.top.join("x.evil"), "z\n");
    blocked(a.land("x").await.expect("a landing"));
    repository.leftovers().await.expect("a list");
    assert_eq!(a.release().await.expect("a release"), Released::Removed);
    assert!(
        !canary.exists(),
        "these ran: {}",
        fs::read_to_string(&canary).unwrap_or_default()
    );
    user.try_git_in(&user.top, &["status"]);
    assert!(canary.exists(), "the trap itself works");
}

#[tokio::test]
async fn filters_and_merge_drivers_of_the_repository_are_refused_by_name() {
    for key in [
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "merge.evil.driver",
    ] {
        let user = User::new();
        user.commit(".gitattributes", "* filter=evil merge=evil\n");
        let canary = user.home.join("canary");
        let repository = user.repository().await;
        let mut worktree = worktree(&repository, "a").await;
        write(&worktree.path().join("x"), "x\n");
        // A tool may change the configuration while we run, and it may hide in an included file.
        user.write(".git/more", "");
        user.git(&[
            "config",
            "--file",
            ".git/more",
            key,
            &format!("touch '{}'; cat", canary.display()),
        ]);
        user.git(&["config", "include.path", "more"]);
        let error = worktree
            .land("x")
            .await
            .expect_err("it would run a program");
        assert!(
            matches!(&error, WorktreeError::RunsPrograms { keys, .. } if keys == &[key]),
            "{error}"
        );
        assert!(matches!(
            worktree.begin_item().await,
            Err(WorktreeError::RunsPrograms { .. })
        ));
        assert!(matches!(
            repository.add_worktree("b").await,
            Err(WorktreeError::RunsPrograms { .. })
        ));
        assert!(matches!(
            repository.leftovers().await,
            Err(WorktreeError::RunsPrograms { .. })
        ));
        let path = worktree.path().to_owned();
        assert!(matches!(
            worktree.release().await,
            Err(WorktreeError::RunsPrograms { .. })
        ));
        assert!(path.join("x").exists() && !canary.exists(), "{key}");
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
async fn work_that_the_tool_put_on_a_branch_of_its_own_lands_as_well() {
    let user = User::new();
    let mut worktree = worktree(&user.repository().await, "a").await;
    user.git_in(worktree.path(), &["switch", "-q", "-c", "feature"]);
    user.tool_commits(&worktree, "z", "z", "on feature");
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
    assert!(matches!(
        worktree.land("x").await.expect("a landing"),
        Landed::Commit { .. }
    ));
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
