//! Exchanging plugins under load: no record is lost, doubled, out of order or answered with an error, whatever else goes
//! on at the time.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Gateway, command, configuration, directory, group, kafka, plugins, said, send, start, topic,
    wait_for_lag_of_zero, wait_until,
};

/// Who sends, each with a key of its own, one record after the other.
const SENDERS: u64 = 4;

/// Puts a generation of a plugin there that does the same under another digest.
pub(super) fn vary(directory: &Path, plugin: &str, number: u8) {
    let mut bytes = fs::read(plugins::built().join(format!("{plugin}.wasm"))).expect("it is there");
    bytes.extend([0, 3, 1, b'v', number]); // a custom section
    let file = directory.join(format!("plugins/{plugin}.wasm"));
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, bytes).expect("it can be written");
    fs::rename(temporary, file).expect("it can be renamed");
}

/// The two generations of a plugin between which it goes back and forth.
fn generations(gateway: &Gateway, directory: &Path, plugin: &str) -> [String; 2] {
    let serving = || gateway.get(&format!("/api/v1/plugins/{plugin}")).1["generation"].clone();
    let first = serving();
    vary(directory, plugin, 1);
    let second = wait_until("the second generation serves", || match serving() {
        now if now == first => Err(gateway.tail()),
        now => Ok(now),
    });
    [first, second].map(|it| it.as_str().expect("it is text").to_owned())
}

fn swap(gateway: &Gateway, plugin: &str, to: &str) {
    let path = format!("/api/v1/plugins/{plugin}/rollback");
    let (status, answer) = gateway.post_json(&path, &json!({"generation": to}));
    assert_eq!((status, answer["generation"].as_str()), (200, Some(to)), "{answer}");
}

/// Sends records for as long as `work` takes, and says how many of each key there are.
fn under_load(gateway: &Gateway, topic: &str, work: impl FnOnce()) -> BTreeMap<u64, u64> {
    let stop = AtomicBool::new(false);
    let sender = |user: u64| {
        let mut count = 0;
        while !stop.load(Relaxed) {
            let record = json!({"topic": topic, "value": {"user": user.to_string(), "n": count}});
            let (status, answer) = gateway.send(&record);
            assert_eq!(status, 200, "{answer}");
            let by = answer["selected_by"].as_str().expect("it is text");
            assert!(by.starts_with("json-key@"), "{answer}");
            count += 1;
        }
        count
    };
    thread::scope(|scope| {
        let senders: Vec<_> =
            (0..SENDERS).map(|user| (user, scope.spawn(move || sender(user)))).collect();
        work();
        stop.store(true, Relaxed);
        senders.into_iter().map(|(user, sender)| (user, sender.join().expect("it sends"))).collect()
    })
}

/// What of each key is in a topic, in its order.
fn written(gateway: &Gateway, topic: &str) -> BTreeMap<u64, Vec<u64>> {
    let (mut found, mut offset) = (BTreeMap::<_, Vec<_>>::new(), 0);
    loop {
        let path = format!("/api/v1/topics/{topic}/records?limit=1000&offset={offset}");
        let page = gateway.get(&path).1["records"].as_array().cloned().unwrap_or_default();
        let Some(last) = page.last() else { return found };
        offset = last["offset"].as_u64().expect("a number") + 1;
        for record in page {
            let value = record["value"].as_str().expect("it is text");
            let value: Value = serde_json::from_str(value).expect("it is JSON");
            let user = value["USER"].as_str().and_then(|user| user.parse().ok());
            let number = value["N"].as_u64().expect("a number");
            found.entry(user.expect("a number")).or_default().push(number);
        }
    }
}

/// All that was sent is there once, in its order.
fn assert_all_written(gateway: &Gateway, topic: &str, sent: &BTreeMap<u64, u64>) {
    let total: u64 = sent.values().sum();
    let found = wait_until("everything is written", || {
        let found = written(gateway, topic);
        let count: usize = found.values().map(Vec::len).sum();
        if count as u64 >= total { Ok(found) } else { Err(format!("{count} of {total}")) }
    });
    for (user, count) in sent {
        assert!(found[user].iter().copied().eq(0..*count), "{topic}, {user}: {:?}", found[user]);
    }
}

/// A topic with a key selector, and two groups that read it by key, one in transactions.
fn parts(name: &str, consumers: usize) -> Vec<String> {
    let selector = "key-selector = { plugin = \"json-key\", config = { pointer = \"/user\" } }\n";
    let group = |delivery: &str| {
        let id = format!("{name}-{delivery}");
        let more = format!(
            "output-topic = \"{id}-out\"\ndelivery = \"{delivery}\"\nordering = \"key\"\nconsumers = {consumers}"
        );
        group(&id, name, "{ plugin = \"uppercase\" }", &more)
    };
    vec![topic(name) + selector, group("at-least-once"), group("exactly-once")]
}

fn assert_both_written(gateway: &Gateway, name: &str, sent: &BTreeMap<u64, u64>) {
    for delivery in ["at-least-once", "exactly-once"] {
        assert_all_written(gateway, &format!("{name}-{delivery}-out"), sent);
    }
}

/// Exchanges handler and selector so many times each.
fn swap_both(gateway: &Gateway, directory: &Path, times: usize) -> impl FnOnce() {
    let both = ["uppercase", "json-key"].map(|name| (name, generations(gateway, directory, name)));
    move || {
        for time in 0..times {
            both.iter().for_each(|(name, two)| swap(gateway, name, &two[time % 2]));
        }
    }
}

fn instances(gateway: &Gateway) -> u64 {
    let uses = gateway.get("/api/v1/plugins/uppercase").1["uses"].clone();
    let uses = uses.as_array().into_iter().flatten();
    uses.filter_map(|usage| usage["instances"].as_u64()).sum()
}

#[test]
fn hundreds_of_swaps_under_load_lose_double_reorder_and_refuse_nothing() {
    let directory = directory(&parts("a", 1));
    let gateway = start(&directory);
    let swaps = swap_both(&gateway, directory.path(), 100);
    let sent = under_load(&gateway, "a", swaps);
    assert_both_written(&gateway, "a", &sent);
    assert!(sent.values().all(|count| *count > 50), "{sent:?}");
    let kept = instances(&gateway);
    assert!(kept <= 16, "instances of the generation that serves alone: {kept}");
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn on_kafka_swaps_under_load_lose_double_reorder_and_refuse_nothing() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    let name = format!("swaps-{}", fastrand::u32(..));
    let directory = directory(&parts(&name, 1));
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", servers)];
    let gateway = Gateway::start(directory.path(), &["run"], &environment);
    wait_until("it takes records", || {
        let record = json!({"topic": name, "value": {"user": "9", "n": 0}});
        if gateway.send(&record).0 == 200 { Ok(()) } else { Err(gateway.tail()) }
    });
    let swaps = swap_both(&gateway, directory.path(), 50);
    let mut sent = under_load(&gateway, &name, swaps);
    sent.insert(9, 1);
    assert_both_written(&gateway, &name, &sent);
}

#[test]
fn swaps_while_groups_drain_and_share_anew_lose_and_double_nothing() {
    let directory = directory(&parts("a", 1));
    let gateway = start(&directory);
    let swaps = swap_both(&gateway, directory.path(), 60);
    let done = AtomicBool::new(false);
    let share_anew = || {
        for consumers in (1..=3).cycle().skip(1) {
            if done.load(Relaxed) {
                return;
            }
            let text = configuration(&parts("a", consumers));
            fs::write(directory.path().join("keyway.toml"), text).expect("it can be written");
            wait_until("there are so many members", || {
                let (_, shown) = gateway.get("/api/v1/groups/a-exactly-once");
                let members = shown["members"].as_array().map_or(0, Vec::len);
                if members == consumers { Ok(()) } else { Err(format!("{shown}")) }
            });
        }
    };
    let sent = thread::scope(|scope| {
        scope.spawn(share_anew);
        let sent = under_load(&gateway, "a", swaps);
        done.store(true, Relaxed);
        sent
    });
    assert_both_written(&gateway, "a", &sent);
}

#[test]
fn a_gateway_that_is_told_to_end_in_the_middle_of_swaps_ends_well() {
    let directory = directory(&parts("a", 2));
    let gateway = start(&directory);
    let both = generations(&gateway, directory.path(), "uppercase");
    let sent = under_load(&gateway, "a", || swap(&gateway, "uppercase", &both[0]));
    let admin = format!("http://{}", gateway.admin());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let rolls = scope.spawn(|| {
            let mut swaps = 0;
            for to in both.iter().cycle() {
                let roll = ["plugin", "rollback", "uppercase", "--to", to, "--admin", &admin];
                swaps += u32::from(command(directory.path(), &roll, &[]).0 == 0);
                if ended.load(Relaxed) {
                    return swaps;
                }
            }
            swaps
        });
        assert_eq!(gateway.terminate().code(), Some(0));
        ended.store(true, Relaxed);
        rolls.join().expect("it swaps");
    });
    let gateway = start(&directory);
    assert_both_written(&gateway, "a", &sent);
}

#[test]
fn a_record_between_two_attempts_is_tried_by_the_generation_that_came_meanwhile() {
    let retry = "retry = { attempts = 100, backoff = \"20ms\", max-backoff = \"20ms\" }";
    let directory: TempDir =
        directory(&[topic("a"), group("g", "a", "{ plugin = \"flaky\" }", retry)]);
    let gateway = start(&directory);
    let number = |field: &str| {
        gateway.get("/api/v1/groups/g").1["this_process"][field].as_u64().unwrap_or_default()
    };
    send(&gateway, "a", json!({"do": "trap"}));
    send(&gateway, "a", json!("behind it"));
    wait_until("it is tried again", || match number("retried") {
        0 => Err(gateway.tail()),
        _ => Ok(()),
    });
    plugins::install("print", &directory.path().join("plugins"), "flaky");
    wait_for_lag_of_zero(&gateway, "g");
    for line in ["a/0@0", "a/0@1"] {
        wait_until(line, || said(&gateway, line));
    }
    assert_eq!(number("handled"), 2, "{}", gateway.tail());
}
