//! Dead letters: they are listed with their cause, and redriven once each, to their source or through another handler.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    gateway::Gateway,
    plugins,
    shop::{Shop, numbered},
};

#[test]
fn dead_letters_are_listed_with_their_cause_and_redriven_once_on_the_embedded_broker() {
    dead_letters(&Shop::on_embedded("ordering = \"key\""));
}

#[test]
fn dead_letters_are_listed_with_their_cause_and_redriven_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("letters", "ordering = \"key\"") else { return };
    dead_letters(&shop);
}

fn dead_letters(shop: &Shop) {
    let gateway = shop.start();
    for number in 0..5 {
        shop.send(&gateway, "ada", &numbered("reject", number));
        shop.send(&gateway, "ada", &numbered("ok", 100));
    }
    shop.wait_until_listed(&gateway, &[0, 2, 4, 6, 8]);
    let output = shop.command(Some(&gateway), &["list", "--reason", "told"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.starts_with(&format!("{}.dead-letters: 5 dead letters\n", shop.topic)),
        "{table}"
    );
    assert!(table.contains(&format!("{}/0@8", shop.topic)) && table.contains("told to"), "{table}");
    let none = shop.redrive(Some(&gateway), &["--reason", "another cause"]);
    assert_eq!(none, "Given back: 0 records.\n");

    shop.mend(&gateway);
    let told = shop.redrive(Some(&gateway), &[]);
    assert_eq!(told, "Given back: 5 records.\n");
    shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3, 4]);
    assert_eq!(shop.redrive(Some(&gateway), &[]), "Given back: 0 records.\n");
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    if shop.is_kafka {
        without_a_gateway(shop, gateway);
    }
}

#[test]
fn dead_letters_are_handled_by_the_plugin_that_is_named_on_the_embedded_broker() {
    through_another_handler(&Shop::on_embedded("ordering = \"key\""));
}

#[test]
fn dead_letters_are_handled_by_the_plugin_that_is_named_on_kafka() {
    let Some(shop) = Shop::on_kafka("through", "ordering = \"key\"") else { return };
    through_another_handler(&shop);
}

fn through_another_handler(shop: &Shop) {
    let directory = shop.directory.path().join("plugins");
    plugins::install("uppercase", &directory, "mended");
    let gateway = shop.start();
    for number in 0..4 {
        shop.send(&gateway, "ada", &numbered("reject", number));
    }
    shop.wait_until_listed(&gateway, &[0, 1, 2, 3]);
    let fails = |arguments: &[&str], expected: &str| {
        let output = shop.command(Some(&gateway), &[&["redrive"], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    fails(&["--through", "nobody"], "nobody");
    fails(&["--through", "mended", "--parked"], "--parked");
    fails(&["--through", "flaky"], "told to");
    assert_eq!(shop.listed(Some(&gateway)), [0, 1, 2, 3], "what fails again stays");
    let told = shop.redrive(Some(&gateway), &["--through", "mended", "--dry-run"]);
    assert!(told.contains("@0 would go to mended"), "{told}");
    let told = shop.redrive(Some(&gateway), &["--through", "mended", "--json"]);
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{told}");
    assert_eq!((&lines[0]["event"], &lines[0]["handler"]), (&json!("handled"), &json!("mended")));
    let written = lines[0]["written"].as_array().unwrap();
    assert!(written[0].as_str().unwrap().starts_with(&format!("{}-out/", shop.topic)), "{told}");
    shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3]);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    assert_eq!(shop.in_source(&gateway).len(), 4, "nothing went back there");
    let again = shop.redrive(Some(&gateway), &["--through", "mended"]);
    assert_eq!(again, "Given back: 0 records.\n");
    if shop.is_kafka {
        shop.send(&gateway, "ada", &numbered("reject", 4));
        shop.wait_until_listed(&gateway, &[4]);
        gateway.terminate();
        assert_eq!(shop.redrive(None, &["--through", "mended"]), "Given back: 1 record.\n");
        let gateway = shop.start();
        shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_redrive_that_is_killed_and_repeated_writes_nothing_twice_on_the_embedded_broker() {
    killed_redrives(&Shop::on_embedded("ordering = \"none\""));
}

#[test]
fn a_redrive_that_is_killed_and_repeated_writes_nothing_twice_on_kafka() {
    let Some(shop) = Shop::on_kafka("killed", "ordering = \"none\"") else { return };
    killed_redrives(&shop);
}

fn killed_redrives(shop: &Shop) {
    const LETTERS: u64 = 480;
    let gateway = shop.start();
    for number in 0..LETTERS {
        let key = if number % 2 == 0 { "ada" } else { "bob" };
        shop.send(&gateway, key, &numbered("reject", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    let told = shop.redrive(Some(&gateway), &["--dry-run"]);
    assert!(told.ends_with(&format!("Would be given back: {LETTERS} records.\n")), "{told}");
    shop.mend(&gateway);
    shop.begin_to_redrive(Some(gateway), "ada");
    if shop.is_kafka {
        shop.begin_to_redrive(None, "bob");
    } else {
        shop.begin_to_redrive(Some(shop.start()), "bob");
    }
    let gateway = shop.start();
    shop.redrive(Some(&gateway), &[]);
    assert_eq!(shop.redrive(Some(&gateway), &[]), "Given back: 0 records.\n");
    // Once as it was sent, once as it was given back.
    let twice: BTreeMap<_, _> = (0..LETTERS).map(|number| (number, 2)).collect();
    assert_eq!(shop.in_source(&gateway), twice);
}

/// On Kafka nobody has to run for it.
fn without_a_gateway(shop: &Shop, gateway: Gateway) {
    shop.fail_again(&gateway);
    shop.wait_for_lag_of_zero(&gateway);
    let listed = shop.listed(Some(&gateway));
    gateway.terminate();
    assert_eq!(shop.listed(None), listed);
    let lines = shop.redrive(None, &["--json"]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"event": "end", "records": listed.len(), "refused": 0, "error": null}));
    assert_eq!(lines.lines().count(), listed.len() + 1);
    assert_eq!(shop.listed(None), Vec::<u64>::new());
}
