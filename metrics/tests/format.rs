//! The page, the guide and the alerts against Prometheus' rules and against each other.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{Story, everything};

fn docs(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(file)
}

fn read(file: &str) -> String {
    let path = docs(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page with every family there is.
fn page() -> String {
    let mut story = Story::of(2);
    story.tell_all(everything());
    story.metrics.render()
}

/// Each family with its type.
fn types(page: &str) -> BTreeMap<&str, &str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .collect()
}

/// Runs promtool, or says loudly that it is not there.
fn promtool(args: &[&str], input: &str) {
    let spawned = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            // Written past the test harness, which hides what a passing test prints.
            let text = format!(
                "SKIPPED promtool {args:?}: {error}; Debian's package `prometheus` has it\n"
            );
            std::io::stderr().write_all(text.as_bytes()).ok();
            return;
        }
    };
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "promtool {args:?}: {said}\n{input}"
    );
    if args[1] == "metrics" {
        assert_eq!(said, "", "promtool {args:?}");
    }
}

#[test]
fn every_sample_belongs_to_a_family_with_a_type_and_a_description() {
    let page = page();
    let types = types(&page);
    let described: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    assert_eq!(described, types.keys().copied().collect());
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let sample = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .find(|family| types.get(family) == Some(&"histogram"))
            .unwrap_or(sample);
        let kind = types
            .get(family)
            .unwrap_or_else(|| panic!("{line} has no type"));
        assert_eq!(
            *kind == "counter",
            family.ends_with("_total"),
            "{family} is a {kind}"
        );
        assert_ne!(*kind, "summary", "{family} has no buckets");
    }
}

#[test]
fn no_label_names_a_prompt_a_session_or_a_process() {
    let allowed: BTreeSet<&str> = [
        "cluster",
        "kind",
        "le",
        "outcome",
        "reason",
        "result",
        "state",
        "strategy",
        "to",
        "tool",
        "tool_instance",
        "version",
    ]
    .into();
    for line in page().lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else {
            continue;
        };
        for label in labels
            .split("\",")
            .map(|label| label.split('=').next().unwrap())
        {
            assert!(allowed.contains(label), "{label} in {line}");
        }
    }
}

#[test]
fn the_guide_lists_every_family_and_no_other() {
    let page = page();
    let guide = read("metrics.md");
    let listed: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("toolpool_") || name.starts_with("process_"))
        .collect();
    assert_eq!(listed, types(&page).keys().copied().collect());
}

#[test]
fn queries_and_alerts_name_only_what_is_on_the_page() {
    let page = page();
    let types = types(&page);
    for file in ["metrics.md", "alerts.yml"] {
        let text = read(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("toolpool_")) {
            let known = types.contains_key(word)
                || word
                    .strip_suffix("_bucket")
                    .is_some_and(|family| types.contains_key(family));
            assert!(known, "{file} names {word}, which is not on the page");
        }
    }
}

#[test]
fn promtool_finds_nothing_to_say_about_the_page() {
    promtool(&["check", "metrics"], &page());
}

#[test]
fn promtool_accepts_the_alerts() {
    promtool(
        &["check", "rules", docs("alerts.yml").to_str().unwrap()],
        "",
    );
}

#[test]
fn promtool_fires_the_alerts_as_meant() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/alerts_test.yml");
    promtool(&["test", "rules", tests], "");
}
