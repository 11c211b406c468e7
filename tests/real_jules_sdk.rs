//! The stand-in of Jules' API is honest: Google's own `@google/jules-sdk` works with it. Without `TOOLPOOL_JULES_SDK`, the
//! program that `cargo xtask tools jules-sdk` makes, the test says that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use toolpool_testkit::jules_server::{JulesServer, KEY, REPOSITORY, message_for, patch_for};

/// What works with the server by the SDK.
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jules_sdk/check.mjs");

#[tokio::test]
async fn real_jules_sdk_works_with_the_stand_in_as_with_the_service() {
    let Some(node) = std::env::var_os("TOOLPOOL_JULES_SDK").map(PathBuf::from) else {
        println!(
            "skipped: TOOLPOOL_JULES_SDK is not set; `cargo xtask test` installs the SDK and sets it"
        );
        return;
    };
    let folder = node.parent().and_then(Path::parent).expect("it is in bin");
    let module = folder.join("node_modules/@google/jules-sdk/dist/index.mjs");
    let server = JulesServer::start().expect("a port");
    let home = tempfile::tempdir().expect("a folder");
    let mut check = Command::new(&node);
    check
        .arg(CHECK)
        .arg(module)
        .args([&server.base_url(), KEY])
        // The SDK keeps what it has seen in a folder of its own.
        .env("JULES_HOME", home.path());
    let output = tokio::task::spawn_blocking(move || check.output())
        .await
        .expect("no panic")
        .expect("node runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let (owner, repo) = REPOSITORY.split_once('/').expect("owner and name");
    assert_eq!(seen["sources"][0]["githubRepo"]["owner"], owner);
    assert_eq!(seen["sources"][0]["githubRepo"]["repo"], repo);
    assert_eq!(seen["sources"][0]["githubRepo"]["defaultBranch"], "main");
    assert_eq!(
        seen["completed"],
        json!({
            "id": "1001",
            "state": "completed",
            "pull_request": format!("https://github.com/{REPOSITORY}/pull/1001"),
            "patch": patch_for("a.txt", "one line"),
            "files": ["a.txt"],
        })
    );
    let prompt = "make it [[jules: pr new=a.txt text=one line]]";
    assert_eq!(
        seen["info"],
        json!({
            "state": "completed",
            "url": "https://jules.google.com/session/1001",
            "prompt": prompt,
        })
    );
    let kinds: Vec<_> = seen["activities"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|activity| activity["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(
        kinds,
        [
            "planGenerated",
            "planApproved",
            "agentMessaged",
            "progressUpdated",
            "sessionCompleted"
        ]
    );
    assert_eq!(seen["activities"][2]["message"], message_for(prompt));
    assert_eq!(seen["failed"], "thrown");
    assert_eq!(seen["patient"], "completed");
    assert_eq!(seen["wrong_key"], "JulesAuthenticationError");
    assert_eq!(seen["wrong_source"], "SourceNotFoundError");
    assert_eq!(seen["wrong_branch"], "JulesApiError");
    assert_eq!(server.prompts().len(), 3);
}
