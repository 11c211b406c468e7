//! Who may know whom, read from the manifests.
//!
//! The layers are written down once, in [`may_use`]. A new member has to be added there before these tests pass.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// The crate that test code of every layer may use, in `[dev-dependencies]`.
const TESTKIT: &str = "toolpool-testkit";

/// The cases that every tool is examined by.
const CONFORMANCE: &str = "toolpool-conformance";

/// The crates of the workspace that a member may depend on, by its folder; the root package is `.`.
fn may_use(folder: &str) -> &'static [&'static str] {
    match folder {
        "routing" | "pool-core" | "testkit" | "xtask" => &[],
        "cluster" => &["toolpool-routing", "toolpool-pool-core"],
        "journal" | "metrics" => &["toolpool-cluster"],
        "." => &[
            "toolpool-routing",
            "toolpool-pool-core",
            "toolpool-cluster",
            "toolpool-journal",
            "toolpool-metrics",
        ],
        // The program carries the stand-in tool in itself, to be tried without any other.
        "cli" => &["toolpool", CONFORMANCE, TESTKIT],
        // The laboratory has the model server in it.
        "conformance" => &["toolpool", TESTKIT],
        // The stand-in and the checker of its accounts; nothing depends on it in turn.
        "battery" => &["toolpool", TESTKIT],
        other => panic!(
            "the member `{other}` has no layer yet; say in `may_use` which crates it may know"
        ),
    }
}

/// One member of the workspace.
struct Member {
    folder: String,
    manifest: Table,
}

impl Member {
    fn read(folder: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join("Cargo.toml");
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let manifest = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            folder: folder.to_owned(),
            manifest,
        }
    }

    /// The root package and every listed member.
    fn all() -> Vec<Self> {
        let root = Self::read(".");
        let folders = root.manifest["workspace"]["members"]
            .as_array()
            .expect("members is a list");
        let mut members: Vec<_> = folders
            .iter()
            .map(|folder| Self::read(folder.as_str().expect("a member is a folder")))
            .collect();
        members.push(root);
        members
    }

    fn package(&self) -> &str {
        self.manifest["package"]["name"]
            .as_str()
            .expect("a package has a name")
    }

    /// The crates of the workspace among the dependencies of these kinds, for all platforms.
    fn ours(&self, kinds: &[&str]) -> BTreeSet<&str> {
        let platforms = self.manifest.get("target").and_then(Value::as_table);
        let tables = platforms
            .into_iter()
            .flat_map(|platforms| platforms.values().filter_map(Value::as_table))
            .chain([&self.manifest]);
        tables
            .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
            .flat_map(|dependencies| dependencies.iter())
            .map(|(name, value)| renamed(value).unwrap_or(name))
            .filter(|name| is_ours(name))
            .collect()
    }
}

/// The real name of a dependency that is used under another one.
fn renamed(dependency: &Value) -> Option<&str> {
    dependency.get("package")?.as_str()
}

fn is_ours(name: &str) -> bool {
    name == "toolpool" || name.starts_with("toolpool-")
}

#[test]
fn every_member_depends_only_on_the_layers_below_it() {
    for member in Member::all() {
        let allowed: BTreeSet<_> = may_use(&member.folder).iter().copied().collect();
        let used = member.ours(&["dependencies", "build-dependencies"]);
        let too_many: Vec<_> = used.difference(&allowed).collect();
        assert!(
            too_many.is_empty(),
            "{} must not depend on {too_many:?}",
            member.folder
        );
    }
}

#[test]
fn tests_may_use_the_testkit_besides_and_those_of_the_facade_the_laboratory() {
    for member in Member::all() {
        let mut allowed: BTreeSet<_> = may_use(&member.folder).iter().copied().collect();
        allowed.insert(TESTKIT);
        if member.folder == "." {
            allowed.insert(CONFORMANCE);
        }
        let used = member.ours(&["dev-dependencies"]);
        let too_many: Vec<_> = used.difference(&allowed).collect();
        assert!(
            too_many.is_empty(),
            "tests of {} must not depend on {too_many:?}",
            member.folder
        );
    }
}

#[test]
fn nothing_depends_on_the_cli() {
    for member in Member::all() {
        let used = member.ours(&["dependencies", "build-dependencies", "dev-dependencies"]);
        assert!(
            !used.contains("toolpool-cli"),
            "{} depends on the cli",
            member.folder
        );
    }
}

#[test]
fn a_package_is_named_after_its_folder_and_never_renamed() {
    let members = Member::all();
    for member in &members {
        let expected = match member.folder.as_str() {
            "." => "toolpool".to_owned(),
            folder => format!("toolpool-{folder}"),
        };
        assert_eq!(member.package(), expected);
    }

    let root = Member::read(".");
    let shared = root.manifest["workspace"]["dependencies"]
        .as_table()
        .expect("a table");
    for (name, value) in shared {
        assert!(
            renamed(value).is_none_or(|real| !is_ours(real)),
            "{name} renames a crate of ours"
        );
        if is_ours(name) {
            assert!(
                members.iter().any(|member| member.package() == name),
                "{name} is not a member"
            );
        }
    }
    for member in &members {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let dependencies = member.manifest.get(kind).and_then(Value::as_table);
            for (name, value) in dependencies.into_iter().flatten() {
                let real = renamed(value).unwrap_or(name);
                assert!(
                    real == name || !is_ours(real),
                    "{} calls {real} {name}",
                    member.folder
                );
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_and_every_member_inherits_the_lints() {
    let root = Member::read(".");
    let unsafe_code = &root.manifest["workspace"]["lints"]["rust"]["unsafe_code"];
    assert_eq!(unsafe_code.as_str(), Some("forbid"));
    for member in Member::all() {
        let inherits = member
            .manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherits,
            Some(&Value::Boolean(true)),
            "{} has lints of its own",
            member.folder
        );
    }
}

#[test]
fn every_folder_with_a_manifest_is_a_member() {
    let mut members: BTreeSet<_> = Member::all()
        .into_iter()
        .map(|member| member.folder)
        .collect();
    // A workspace of its own: its programs are built with libFuzzer.
    members.insert("fuzz".to_owned());
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the workspace can be listed") {
        let entry = entry.expect("an entry can be read");
        if entry.path().join("Cargo.toml").is_file() {
            let folder = entry.file_name().to_string_lossy().into_owned();
            assert!(
                members.contains(&folder),
                "{folder} has a manifest and is not a member"
            );
        }
    }
}
