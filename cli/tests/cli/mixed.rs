//! Several tools and roles in one cluster.

use super::support::Place;

/// A place with two tools that answer with their names.
fn two_tools() -> Place {
    let place = Place::new();
    for name in ["left", "right"] {
        place.standin(name, &[&format!("on prompt ~who reply {name}")]);
    }
    place
}

#[test]
fn all_instances_of_all_tools_answer_under_their_names() {
    let place = two_tools();
    let run = place
        .run(&["ask", "--tool", "left:2", "--tool", "right", "--all", "who"])
        .expect(0);
    let mut lines: Vec<_> = run.stdout.lines().collect();
    lines.retain(|line| line.starts_with("── "));
    lines.sort_unstable();
    let heads: Vec<_> = lines
        .iter()
        .map(|line| line.rsplit_once(" · ").expect("a time").0)
        .collect();
    assert_eq!(
        heads,
        [
            "── main/1 · left · completed",
            "── main/2 · left · completed",
            "── main/3 · right · completed"
        ]
    );
    assert!(
        run.stderr
            .contains("starting 3 instances (2 of left, 1 of right)"),
        "{}",
        run.stderr
    );
    place.assert_nothing_is_left();
}

#[test]
fn a_role_sends_the_prompt_to_the_tool_that_has_it() {
    let place = two_tools();
    let tools = ["ask", "-q", "--tool", "left", "--tool", "right"];
    for (roles, answer) in [
        (&["--role", "a=left", "--role", "a"], "left\n"),
        (&["--role", "a=right", "--role", "a"], "right\n"),
    ] {
        let run = place.run(&[&tools[..], &roles[..], &["who"]].concat());
        assert_eq!(run.expect(0).stdout, answer);
    }
    let run = place
        .run(&[
            "ask", "--tool", "left", "--tool", "right:2", "--role", "a=right", "--role", "a",
            "--all", "-o", "json", "who",
        ])
        .expect(0);
    let document = run.document();
    let items = document["items"].as_array().expect("items").iter();
    let who: Vec<_> = items
        .map(|item| {
            let word = |key: &str| item[key].as_str().expect("a word").trim_end().to_owned();
            (word("instance"), word("tool"), word("text"))
        })
        .collect();
    let right = |instance: &str| {
        let word = || "right".to_owned();
        (instance.to_owned(), word(), word())
    };
    assert_eq!(who, [right("main/2"), right("main/3")]);
    place.assert_nothing_is_left();
}

#[test]
fn an_instance_that_gave_no_answer_is_in_the_list_and_in_the_exit_code() {
    let place = two_tools();
    place.standin("broken", &["on prompt ~who exit 3"]);
    place.standin("small", &[]);
    let small = "base = \"standin\"\nname = \"small\"\nargs = []\nmax_prompt_bytes = 2\n";
    place.profile("small", small);
    let run = place
        .run(&[
            "ask", "-o", "json", "--tool", "broken", "--tool", "small", "--tool", "left", "--all",
            "who",
        ])
        .expect(7);
    let document = run.document();
    let words = |list: &str, key: &str| -> Vec<String> {
        let items = document[list].as_array().expect("a list").iter();
        items
            .map(|item| item[key].as_str().expect("a word").to_owned())
            .collect()
    };
    assert_eq!(words("items", "tool"), ["broken", "left"]);
    assert_eq!(words("items", "instance"), ["main/1", "main/3"]);
    assert_eq!(words("items", "outcome"), ["indeterminate", "completed"]);
    assert_eq!(words("refused", "instance"), ["main/2"]);
    assert_eq!(words("refused", "tool"), ["small"]);
    assert_eq!(words("refused", "code"), ["invalid"]);
    place.assert_nothing_is_left();
}

#[test]
fn a_batch_goes_to_every_tool_or_to_those_with_the_role() {
    let place = two_tools();
    std::fs::write(place.path("work/items"), "who 1\nwho 2\nwho 3\n").expect("a file");
    let batch = [
        "batch", "--items", "items", "-p", "{item}", "-o", "json", "--tool", "left", "--tool",
        "right",
    ];
    let document = place.run(&batch).expect(0).document();
    assert_eq!(document["tool"], "left+right");
    assert_eq!(document["instances"], 2);
    assert_eq!(document["ok"], 3);
    let role = ["--role", "a=right", "--role", "a"];
    let document = place
        .run(&[&batch[..], &role].concat())
        .expect(0)
        .document();
    let items = document["items"].as_array().expect("items");
    assert!(
        items.iter().all(|item| item["reply"]["tool"] == "right"),
        "{document}"
    );
    place.assert_nothing_is_left();
}

#[test]
fn an_argument_is_for_the_tool_that_it_names() {
    let place = two_tools();
    let run = place
        .run(&[
            "ask",
            "-q",
            "--tool",
            "left",
            "--tool",
            "right",
            "--arg=right:--do",
            "--arg",
            "right:on prompt ~what reply argued",
            "--role",
            "a=right",
            "--role",
            "a",
            "what",
        ])
        .expect(0);
    assert_eq!(run.stdout, "argued\n");
    place.assert_nothing_is_left();
}

#[test]
fn what_could_mean_more_than_one_tool_is_refused() {
    let place = two_tools();
    let mut told = String::new();
    for line in [
        "--tool left --tool right -n 2 x",
        "--tool left:2 -n 2 x",
        "--tool left:0 x",
        "--tool left --tool right --arg --fast x",
        "--tool left --tool right --arg up:--fast x",
        "--tool left --tool right x -- --fast",
        "--tool left --tool right --role a x",
        "--tool left --role a=right x",
        "--tool left --role a=left --role b=left --role a --role b x",
        "--tool left --role =x x",
    ] {
        let arguments: Vec<&str> = ["ask"].into_iter().chain(line.split(' ')).collect();
        let run = place.run(&arguments).expect(2);
        told.push_str(&format!(
            "$ toolpool ask {line}\n{}\n",
            place.masked(&run.stderr)
        ));
    }
    insta::assert_snapshot!("what_could_mean_more_than_one_tool", told);
}
