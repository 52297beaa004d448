//! What goes away with a generation.

use std::fs;

use hostile::{GOOD, variant};

use super::{super::Host, *};
use crate::{
    config::{Allow, Limits, Source},
    handler::{Delivery, Outcome},
    record::Record,
};

#[path = "../../../tests/plugins/hostile.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
mod hostile;

#[tokio::test]
async fn code_and_instances_go_with_the_last_call_of_their_generation() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new(HostSettings {
        directory: directory.path().into(),
        cache_directory: directory.path().join("cache"),
        history_directory: None,
        threads: 1,
    })
    .unwrap();
    let file = directory.path().join("p.wasm");
    fs::write(&file, GOOD.component()).unwrap();
    let plugin = PluginUse {
        plugin: "p".into(),
        config: [].into(),
        limits: Limits::default(),
        allow: Allow::default(),
    };
    let registry = host.registry();
    let role = ("group g".into(), Role::Handler);
    let usage = registry.usage(role, &plugin, None, Isolation::None, 4).await.unwrap();
    let old = Arc::downgrade(&usage.plugin.serving().unwrap());
    let turn = usage.turn().await;
    turn.give_back(turn.instance().await.unwrap());
    fs::write(&file, variant(&GOOD.component(), 1)).unwrap();
    registry.refresh(&usage.plugin).await.unwrap();
    assert!(old.upgrade().is_some(), "a call is in flight");
    let instance = turn.instance().await.unwrap();
    drop(turn);
    drop(instance);
    assert!(old.upgrade().is_none());
}

#[tokio::test]
async fn after_many_swaps_and_a_shadow_under_load_only_what_serves_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HostSettings {
        directory: directory.path().into(),
        cache_directory: directory.path().join("cache"),
        history_directory: None,
        threads: 2,
    };
    let host = Host::new(settings).unwrap();
    let put = |number| {
        let bytes = variant(&GOOD.component(), number);
        fs::write(directory.path().join("p.wasm"), bytes).unwrap();
    };
    put(0);
    let used = PluginUse {
        plugin: "p".into(),
        config: [].into(),
        limits: Limits::default(),
        allow: Allow::default(),
    };
    let handler = host.handler("group g", &used, None, Isolation::None, 4).await.unwrap();
    let plugin = host.registry().plugin("p").unwrap();
    let stop = Arc::<std::sync::atomic::AtomicBool>::default();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (handler, stop) = (handler.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let report = handler.handle(vec![delivery()]).await;
                    assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
                }
            })
        })
        .collect();
    let mut old = Vec::new();
    for number in 0..200 {
        old.push(Arc::downgrade(&plugin.serving().unwrap()));
        if number == 100 {
            let file = directory.path().join("shadow.wasm");
            fs::write(&file, variant(&GOOD.component(), 255)).unwrap();
            host.begin_shadow("p", None, &Source::File(file)).await.unwrap();
            old.push(Arc::downgrade(&plugin.tried(None).unwrap().component));
        }
        put(number + 1);
        host.registry().refresh(&plugin).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for call in calls {
        call.await.unwrap();
    }
    host.abort("p", None, "enough").await.unwrap();
    let began = std::time::Instant::now();
    while old.iter().any(|old| old.upgrade().is_some()) {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "old code is held");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let instances = plugin.status().uses[0].instances;
    assert!(instances <= 4, "{instances} instances");
}

fn delivery() -> Delivery {
    let record = Record {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    Delivery { record, attempt: 1 }
}
