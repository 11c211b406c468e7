//! Everything that is printed as JSON is as its schema says.

use serde_json::Value;

use super::schema::check;
use super::support::Place;

#[test]
fn every_document_is_as_its_schema_says() {
    let place = Place::new();
    place.repository(&["a.py", "b.py"]);
    place.standin("shaky", &["on prompt ~bad byte 2 exit 3"]);
    let schemas = place.run(&["schema"]).expect(0);
    let schemas: Value = serde_json::from_str(&schemas.stdout).expect("JSON");
    let mut seen = std::collections::BTreeSet::new();
    for (arguments, code) in [
        (
            &["ask", "--tool", "standin", "-o", "jsonl", "edit a.py: x"][..],
            0,
        ),
        (&["ask", "--tool", "shaky", "-o", "json", "bad"], 1),
        (
            &[
                "ask", "--tool", "standin", "-n", "2", "--all", "-o", "json", "hi",
            ],
            0,
        ),
        (
            &[
                "batch",
                "--tool",
                "standin",
                "-n",
                "2",
                "*.py",
                "-p",
                "edit {file}: y",
                "-o",
                "json",
            ],
            0,
        ),
        (
            &[
                "batch",
                "--tool",
                "shaky",
                "*.py",
                "-p",
                "bad {file}",
                "-o",
                "jsonl",
            ],
            7,
        ),
        (
            &[
                "batch",
                "--tool",
                "standin",
                "*.py",
                "-p",
                "{file}",
                "--dry-run",
                "-o",
                "json",
            ],
            0,
        ),
        (&["history", "-o", "json"], 0),
        (&["history", "-o", "jsonl"], 0),
        (&["history", "show", "t3", "-o", "json"], 0),
        (&["history", "export"], 0),
        (&["history", "batches", "-o", "json"], 0),
        (&["history", "batches", "-o", "jsonl"], 0),
        (
            &["history", "--sql", "select * from history", "-o", "json"],
            0,
        ),
        (
            &["history", "--sql", "select * from history", "-o", "jsonl"],
            0,
        ),
        (&["history", "show", "t99", "-o", "json"], 2),
        (&["logs", "-o", "json"], 0),
        (&["logs", "-o", "jsonl"], 0),
        (&["events", "-o", "jsonl"], 0),
        (&["resolve", "t3", "--as", "failed", "-o", "json"], 0),
        (&["history", "show", "t3", "-o", "json"], 0),
        (&["history", "prune", "--older-than", "0s", "-o", "json"], 0),
        (&["tools", "-o", "json"], 0),
        (&["tools", "show", "aider", "-o", "json"], 0),
        (&["tools", "test", "bash", "-o", "json"], 0),
        (&["doctor", "standin", "-o", "json"], 0),
        (&["rehearse", "-n", "1", "-o", "json"], 0),
        (
            &[
                "bench",
                "--turns",
                "100",
                "--pairs",
                "1",
                "-n",
                "2",
                "--callers",
                "2",
                "-o",
                "json",
            ],
            0,
        ),
        (&["ask", "-o", "json", "hi"], 2),
    ] {
        let run = place.run(arguments).expect(code);
        for document in run.documents() {
            let kind = document["kind"].as_str().expect("a kind").to_owned();
            let schema = &schemas[&kind];
            assert!(schema.is_object(), "{kind} has no schema");
            check(&document, schema)
                .unwrap_or_else(|wrong| panic!("{arguments:?}: {wrong}\n{document:#}"));
            seen.insert(kind);
        }
        if code != 0 && code != 7 {
            let line = run.stderr.lines().last().expect("an error");
            let error: Value = serde_json::from_str(line).expect("JSON");
            check(&error, &schemas["error"])
                .unwrap_or_else(|wrong| panic!("{arguments:?}: {wrong}\n{error:#}"));
            seen.insert("error".to_owned());
        }
    }
    let all: Vec<_> = schemas
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        all,
        "every kind was printed"
    );
}

#[test]
fn the_tools_are_listed_with_what_is_known_of_them() {
    let place = Place::new();
    place.profile("broken", "nonsense");
    let list = place.run(&["tools", "-o", "json"]).expect(0).document();
    let tool = |name: &str| {
        let items = list["items"].as_array().expect("items");
        items
            .iter()
            .find(|item| item["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not listed"))
            .clone()
    };
    assert_eq!(tool("bash")["protocol"], "lines");
    assert!(
        tool("bash")["version"]
            .as_str()
            .is_some_and(|version| version.contains('.'))
    );
    assert_eq!(tool("aider")["proven"], ">=0.86.0, <0.87.0");
    assert_eq!(tool("standin")["edits"], true);
    assert!(
        tool("broken")["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("broken.toml"))
    );
}

#[test]
fn the_doctor_ends_with_8_when_the_tool_cannot_be_used() {
    let place = Place::new();
    place.profile("absent", "base = \"bc\"\nname = \"absent\"\nprogram = \"toolpool-test-absent\"\ninstall = \"get absent\"\n");
    let report = place
        .run(&["doctor", "absent", "-o", "json"])
        .expect(8)
        .document();
    let checks = report["checks"].as_array().expect("checks");
    let check = checks
        .iter()
        .find(|check| check["name"] == "absent")
        .expect("it was looked at");
    assert_eq!(check["verdict"], "problem");
    assert_eq!(check["fix"], "get absent");
    assert_eq!(report["usable"].as_array().map(Vec::len), Some(0));
    for check in checks {
        assert!(
            check["verdict"] == "ok" || check["fix"].is_string(),
            "{check} has no fix"
        );
    }
    let report = place
        .run(&["doctor", "bash", "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(report["usable"][0], "bash");
}

#[test]
fn a_version_outside_of_the_proven_ones_is_told() {
    let place = Place::new();
    place.profile(
        "odd",
        "base = \"bash\"\nname = \"odd\"\nversion_args = [\"-c\", \"echo odd 1.2.3\"]\nversions = \">=2.0\"\n",
    );
    let detail = place
        .run(&["tools", "show", "odd", "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(detail["version"], "1.2.3");
    assert_eq!(detail["is_proven"], false);
}
