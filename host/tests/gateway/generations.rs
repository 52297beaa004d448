//! Rolling a plugin back, as an operator does it: with the command line, while records flow, and over a restart.

use std::fs;

use serde_json::{Value, json};

use super::{
    Gateway, directory, done, group, plugins, said, send, start, topic, wait_for_lag_of_zero,
    wait_until,
};

fn shown(gateway: &Gateway) -> Value {
    gateway.get("/api/v1/plugins/handler").1
}

/// What each generation became, and the first offset that it was given.
fn history(plugin: &Value) -> Vec<(&str, Option<u64>)> {
    let generations = plugin["generations"].as_array().expect("a list");
    generations
        .iter()
        .map(|generation| {
            let state = generation["state"].as_str().expect("it is text");
            (state, generation["first_offsets"][0]["offset"].as_u64())
        })
        .collect()
}

#[test]
fn a_handler_that_was_rolled_back_stays_so_after_a_kill_until_a_new_file_comes() {
    let handler = "{ plugin = \"handler\", config = { prefix = \"got\" } }";
    let directory = directory(&[topic("a"), group("g", "a", handler, "")]);
    let plugins_directory = directory.path().join("plugins");
    plugins::install("print", &plugins_directory, "handler");
    let gateway = start(&directory);
    send(&gateway, "a", json!("zero"));
    wait_until("the first generation handles", || said(&gateway, "got a/0@0"));
    let first = shown(&gateway)["generation"].clone();

    plugins::install("flaky", &plugins_directory, "handler");
    wait_until("the second one serves", || {
        if shown(&gateway)["generation"] == first { Err(gateway.tail()) } else { Ok(()) }
    });
    let second = shown(&gateway)["generation"].clone();
    send(&gateway, "a", json!({"do": "ok"}));
    wait_for_lag_of_zero(&gateway, "g");

    let text = done(&gateway, &directory, &["plugin", "rollback", "handler"]);
    let [one, two] = [&first, &second].map(|it| it.as_str().expect("it is text"));
    assert_eq!(text, format!("handler@{one} serves, rolled back from {two}\n"));
    send(&gateway, "a", json!("two"));
    wait_until("the first one handles again", || said(&gateway, "got a/0@2"));
    let expected = [("replaced", Some(0)), ("rolled-back", Some(1)), ("serving", Some(2))];
    wait_until("it is written", || {
        let file = directory.path().join("keyway-data/plugins/handler/history.json");
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.matches("\"offset\": 2").count() == 1 { Ok(()) } else { Err(text) }
    });
    assert_eq!(history(&shown(&gateway)), expected);
    gateway.kill();

    let gateway = start(&directory);
    let plugin = shown(&gateway);
    assert_eq!((&plugin["generation"], history(&plugin)), (&first, expected.to_vec()), "{plugin}");
    assert_eq!(plugin["rolled_back_from"], json!([second]));
    assert_eq!(plugin["uses"][0]["owner"], "group g");
    assert_eq!(plugin["uses"][0]["config"], json!(["prefix"]), "never the values");
    let text = done(&gateway, &directory, &["plugin", "list", "handler"]);
    assert!(text.contains(&format!("handler: {two} was left, ")), "{text}");
    let (code, text) =
        gateway.command(directory.path(), &["plugin", "rollback", "handler", "--to", two]);
    assert_eq!(code, 0, "forward again: {text}");
    let (code, text) =
        gateway.command(directory.path(), &["plugin", "rollback", "handler", "--to", "zz"]);
    assert!(code == 1 && text.contains("begins with \"zz\""), "{text}");

    done(&gateway, &directory, &["plugin", "rollback", "handler"]);
    plugins::install("uppercase", &plugins_directory, "handler");
    wait_until("the new file serves", || {
        let plugin = shown(&gateway);
        let is_new = plugin["generation"] != first && plugin["rolled_back_from"] == json!([]);
        if is_new { Ok(()) } else { Err(plugin.to_string()) }
    });
}
