//! Parked lanes: they outlive a kill, are given back in order, and follow a group that is moved.

use crate::{
    gateway::wait_until,
    plugins,
    shop::{Shop, numbered},
};

const PARK: &str = "on-reject = \"park\"\nordering = \"key\"";
const PARK_EXACTLY_ONCE: &str =
    "on-reject = \"park\"\nordering = \"key\"\ndelivery = \"exactly-once\"";

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_in_order_on_the_embedded_broker() {
    parked_lanes(&Shop::on_embedded(PARK));
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_in_order_on_kafka() {
    let Some(shop) = Shop::on_kafka("parked", PARK) else { return };
    parked_lanes(&shop);
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_exactly_once_on_the_embedded_broker() {
    parked_lanes(&Shop::on_embedded(PARK_EXACTLY_ONCE));
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_exactly_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("parked", PARK_EXACTLY_ONCE) else { return };
    parked_lanes(&shop);
}

fn parked_lanes(shop: &Shop) {
    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("reject", 0));
    for number in 1..20 {
        shop.send(&gateway, "ada", &numbered("ok", number));
        shop.send(&gateway, "bob", &numbered("ok", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    // Ada's records, at every other offset, and none of Bob's.
    let parked: Vec<u64> = [0].into_iter().chain((1..20).map(|number| 2 * number - 1)).collect();
    shop.wait_until_listed(&gateway, &parked);
    gateway.signal("KILL");
    drop(gateway);

    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("ok", 20));
    shop.send(&gateway, "bob", &numbered("ok", 20));
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[parked.clone(), vec![39]].concat());
    shop.mend(&gateway);
    shop.send(&gateway, "bob", &numbered("ok", 21));
    shop.wait_until_emitted(&gateway, "bob", &[21]);
    assert_eq!(shop.emitted(&gateway, "ada"), Vec::<u64>::new(), "its lane waits");

    let told = shop.redrive(Some(&gateway), &["--parked", "--dry-run"]);
    assert!(told.contains("Would be given back: 21 records"), "{told}");
    let told = shop.redrive(Some(&gateway), &["--parked", "--key", "ada"]);
    assert!(told.contains("Given back: 21 records"), "{told}");
    for number in 21..30 {
        shop.send(&gateway, "ada", &numbered("ok", number));
    }
    shop.wait_until_emitted(&gateway, "ada", &(0..30).collect::<Vec<_>>());
    shop.wait_until_listed(&gateway, &[]);
    let told = shop.redrive(Some(&gateway), &["--parked"]);
    assert!(told.contains("Given back: 0 records"), "{told}");
    shop.send(&gateway, "ada", &numbered("ok", 30));
    shop.wait_until_emitted(&gateway, "ada", &(0..31).collect::<Vec<_>>());
}

#[test]
fn a_gateway_killed_while_it_gives_a_lane_back_writes_its_output_once_on_the_embedded_broker() {
    killed_while_giving_back(&Shop::on_embedded(PARK_EXACTLY_ONCE));
}

#[test]
fn a_gateway_killed_while_it_gives_a_lane_back_writes_its_output_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("giving", PARK_EXACTLY_ONCE) else { return };
    killed_while_giving_back(&shop);
}

fn killed_while_giving_back(shop: &Shop) {
    const RECORDS: u64 = 99; // one page of the list
    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("reject", 0));
    for number in 1..RECORDS {
        shop.send(&gateway, "ada", &numbered("ok", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    shop.mend(&gateway);
    shop.redrive(Some(&gateway), &["--parked"]);
    wait_until("it has begun", || match shop.emitted(&gateway, "ada").len() {
        0 => Err(gateway.tail()),
        _ => Ok(()),
    });
    gateway.signal("KILL");
    drop(gateway);
    let gateway = shop.start();
    shop.wait_until_emitted(&gateway, "ada", &(0..RECORDS).collect::<Vec<_>>());
    shop.wait_until_listed(&gateway, &[]);
    assert_eq!(shop.emitted(&gateway, "ada"), (0..RECORDS).collect::<Vec<_>>());
}

#[test]
fn a_group_that_is_moved_back_handles_again_what_was_parked_on_the_embedded_broker() {
    moved_back(&Shop::on_embedded(PARK));
}

#[test]
fn a_group_that_is_moved_back_handles_again_what_was_parked_on_kafka() {
    let Some(shop) = Shop::on_kafka("moved", PARK) else { return };
    moved_back(&shop);
}

#[test]
fn a_group_that_is_moved_back_under_exactly_once_handles_again_what_was_parked_on_kafka() {
    let Some(shop) = Shop::on_kafka("moved", PARK_EXACTLY_ONCE) else { return };
    moved_back(&shop);
}

fn moved_back(shop: &Shop) {
    let gateway = shop.start();
    for number in 0..6 {
        let what = if number == 2 { "reject" } else { "ok" };
        shop.send(&gateway, "ada", &numbered(what, number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[2, 3, 4, 5]);
    shop.mend(&gateway);
    // What was parked before the new offset keeps its lane parked: 4 and 5 are parked anew behind 2 and 3.
    shop.seek(Some(&gateway), 4);
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[2, 3, 4, 5]);
    shop.seek(Some(&gateway), 1);
    shop.wait_until_emitted(&gateway, "ada", &[1, 2, 3, 4, 5]);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    assert!(shop.redrive(Some(&gateway), &["--parked"]).contains("Given back: 0 records"));

    // The same where nobody reads it.
    shop.fail_again(&gateway);
    shop.wait_for_lag_of_zero(&gateway);
    gateway.terminate();
    plugins::install("uppercase", &shop.directory.path().join("plugins"), "flaky");
    shop.seek(None, 3);
    let gateway = shop.start();
    shop.wait_until_emitted(&gateway, "ada", &[1, 2, 3, 4, 5, 3, 4, 5]);
    shop.wait_for_lag_of_zero(&gateway);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
}
