//! What a repository has configured to be run, which nobody runs.

use std::fs;

use toolpool_cluster::worktree::{Released, WorktreeError};

use crate::user::{User, blocked, lands, worktree, write};

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
    lands(&mut a, "x").await;
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
