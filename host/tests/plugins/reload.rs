//! Exchanging a plugin while it is used, however the file gets there.

use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    config::{Limits, PluginUse},
    handler::{Handler, Outcome},
    plugin::Watch,
};

use sha2::Digest;

use crate::{
    examples,
    fixture::{Fixture, configured, delivery, emitted, handle, run, soon, until, using},
    hostile::{GOOD, variant},
};

/// A watched fixture that uses a plugin called `p`, which is there.
async fn serving(fixture: &Fixture) -> (Arc<dyn Handler>, Watch) {
    let handler = fixture.handler(&using("p")).await.unwrap();
    (handler, fixture.host.watch().unwrap())
}

async fn started() -> (Fixture, Arc<dyn Handler>, Watch) {
    let fixture = Fixture::new();
    fixture.put("p", &GOOD.component());
    let (handler, watch) = serving(&fixture).await;
    (fixture, handler, watch)
}

#[tokio::test]
async fn a_replaced_file_serves_and_the_status_remembers_both() {
    let fixture = Fixture::new().with(&["uppercase"]);
    let handler = fixture.handler(&using("uppercase")).await.unwrap();
    let _watch = fixture.host.watch().unwrap();
    let first = handler.generation();
    assert_eq!(emitted(&handle(&handler, "a").await), ["A"]);
    examples::install("print", &fixture.directory, "uppercase");
    fixture.generations("uppercase", 2).await;
    let report = run(&handler, &["a"]).await;
    assert_eq!(emitted(&report.outcomes[0]), [""; 0]);
    assert_ne!(report.generation, first);
    let status = fixture.status("uppercase");
    assert_eq!(status.generation, Some(report.generation.clone()));
    assert_eq!(status.last_error, None);
    let generations: Vec<_> =
        status.generations.into_iter().map(|status| status.generation).collect();
    assert_eq!(generations, [first, report.generation]);
}

#[tokio::test]
async fn calls_in_flight_finish_on_the_old_generation() {
    let fixture = Fixture::new().with(&["flaky"]);
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let handler = fixture.handler(&PluginUse { limits, ..using("flaky") }).await.unwrap();
    let _watch = fixture.host.watch().unwrap();
    let old = handler.generation();
    let in_flight =
        tokio::spawn(handler.handle(vec![delivery(0, r#"{"do": "sleep", "ms": 6000}"#)]));
    tokio::task::yield_now().await;
    fixture.put("flaky", &GOOD.component());
    fixture.generations("flaky", 2).await;
    assert_ne!(run(&handler, &["{}"]).await.generation, old);
    assert!(!in_flight.is_finished(), "it is still in flight");
    let report = soon(in_flight).await.unwrap();
    assert_eq!((report.generation, report.outcomes), (old, vec![Outcome::Handled(vec![])]));
}

#[tokio::test]
async fn all_uses_of_a_name_go_over_together_each_with_its_own_configuration() {
    let fixture = Fixture::new().with(&["fixed-key"]);
    let a = fixture.selector(&configured("fixed-key", "key", "a")).await.unwrap();
    let b = fixture.selector(&configured("fixed-key", "pointer", "/b")).await;
    assert!(b.is_err(), "it has no key");
    let _watch = fixture.host.watch().unwrap();
    let old = a.generation();
    // json-key wants a pointer, which this use does not have: it is refused for it, and for all.
    examples::install("json-key", &fixture.directory, "fixed-key");
    let refusal = fixture.refusal("fixed-key").await;
    assert!(
        refusal.contains("for topic t: ") && refusal.contains("`pointer` is missing"),
        "{refusal}"
    );
    assert_eq!(a.generation(), old);
}

#[tokio::test]
async fn a_file_overwritten_in_place_serves() {
    let (fixture, handler, _watch) = started().await;
    let old = handler.generation();
    fs::write(fixture.file("p"), variant(&GOOD.component(), 1)).unwrap();
    fixture.generations("p", 2).await;
    assert_ne!(handler.generation(), old);
}

#[tokio::test]
async fn a_half_written_file_is_no_error_until_it_stays_bad() {
    let (fixture, _handler, _watch) = started().await;
    let new = variant(&GOOD.component(), 1);
    let mut file = File::create(fixture.file("p")).unwrap();
    for part in new.chunks(new.len() / 4) {
        file.write_all(part).unwrap();
        // Long enough to be looked at, not long enough to be taken for what it is to be.
        let written = Instant::now();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let error = fixture.status("p").last_error;
        assert!(error.is_none() || written.elapsed() >= Duration::from_secs(1), "{error:?}");
    }
    fixture.generations("p", 2).await;
    assert_eq!(fixture.status("p").last_error, None);
    fs::write(fixture.file("p"), &new[..new.len() / 2]).unwrap();
    let refusal = fixture.refusal("p").await;
    assert!(refusal.contains("not a valid component"), "{refusal}");
    fs::write(fixture.file("p"), &new).unwrap();
    until("the error is gone", || fixture.status("p").last_error.is_none().then_some(())).await;
    assert_eq!(fixture.status("p").generations.len(), 2, "it is the one that serves");
}

#[tokio::test]
async fn a_file_that_is_deleted_unloads_nothing_and_its_successor_serves() {
    let (fixture, handler, _watch) = started().await;
    fs::remove_file(fixture.file("p")).unwrap();
    fixture.put("q", &GOOD.component());
    let _q = fixture.handler(&using("q")).await.unwrap();
    fixture.put("q", &variant(&GOOD.component(), 1));
    fixture.generations("q", 2).await; // so the removal was seen too
    assert_eq!(handle(&handler, "").await, Outcome::Handled(vec![]));
    assert_eq!(fixture.status("p").last_error, None);
    fixture.put("p", &variant(&GOOD.component(), 1));
    fixture.generations("p", 2).await;
}

#[tokio::test]
async fn many_files_at_once_all_serve() {
    let fixture = Fixture::new();
    let names: Vec<_> = (0..10).map(|number| format!("p{number}")).collect();
    let mut handlers = Vec::new();
    for name in &names {
        fixture.put(name, &GOOD.component());
        handlers.push(fixture.handler(&using(name)).await.unwrap());
    }
    let _watch = fixture.host.watch().unwrap();
    for name in &names {
        fixture.put(name, &variant(&GOOD.component(), 1));
    }
    for name in &names {
        fixture.generations(name, 2).await;
    }
}

#[tokio::test]
async fn a_file_rewritten_100_times_in_a_second_settles_on_the_last() {
    let (fixture, handler, _watch) = started().await;
    let last = variant(&GOOD.component(), 100);
    for number in 1..=100 {
        let bytes = variant(&GOOD.component(), number);
        match number % 2 {
            0 => fixture.put("p", &bytes),
            _ => fs::write(fixture.file("p"), bytes).unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // so the storm takes its second
    }
    let digest = <[u8; 32]>::from(sha2::Sha256::digest(&last));
    until("the last serves", || (handler.generation().digest == digest).then_some(())).await;
    let status = fixture.status("p");
    assert_eq!((status.last_error, status.refused), (None, vec![]));
    assert!(status.generations.len() < 20, "it waited for a quiet moment");
    assert_eq!(handle(&handler, "").await, Outcome::Handled(vec![]));
}

#[cfg(unix)]
mod links {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    /// Makes `link` lead to `target`, replacing at once what was there.
    fn switch(target: &Path, link: &Path) {
        let temporary = link.with_file_name("switching");
        symlink(target, &temporary).unwrap();
        fs::rename(temporary, link).unwrap();
    }

    /// A directory with a plugin `p`, of which `number` is a variant.
    fn version(root: &Path, name: &str, number: u8) -> std::path::PathBuf {
        let directory = root.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("p.wasm"), variant(&GOOD.component(), number)).unwrap();
        directory
    }

    #[tokio::test]
    async fn a_link_that_is_switched_serves() {
        let fixture = Fixture::new();
        let [one, two] = [1, 2].map(|number| version(fixture.root(), &number.to_string(), number));
        symlink(one.join("p.wasm"), fixture.file("p")).unwrap();
        let (_handler, _watch) = serving(&fixture).await;
        switch(&two.join("p.wasm"), &fixture.file("p"));
        fixture.generations("p", 2).await;
        fs::write(two.join("p.wasm"), GOOD.component()).unwrap();
        fixture.generations("p", 3).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_a_link_and_is_switched_serves() {
        let root = tempfile::tempdir().unwrap();
        let [one, two] = [1, 2].map(|number| version(root.path(), &number.to_string(), number));
        let directory = root.path().join("plugins");
        symlink(one, &directory).unwrap();
        let fixture = Fixture::over(root, directory.clone());
        let (_handler, _watch) = serving(&fixture).await;
        switch(&two, &directory);
        fixture.generations("p", 2).await;
        fs::write(two.join("p.wasm"), GOOD.component()).unwrap();
        fixture.generations("p", 3).await;
    }

    #[tokio::test]
    async fn a_mounted_config_map_that_is_updated_serves() {
        let fixture = Fixture::new();
        let [one, two] =
            [1, 2].map(|number| version(&fixture.directory, &format!("..{number}"), number));
        let data = fixture.directory.join("..data");
        symlink(one.file_name().unwrap(), &data).unwrap();
        symlink("..data/p.wasm", fixture.file("p")).unwrap();
        let (_handler, _watch) = serving(&fixture).await;
        switch(Path::new(two.file_name().unwrap()), &data);
        fs::remove_dir_all(one).unwrap();
        fixture.generations("p", 2).await;
    }
}

#[tokio::test]
async fn a_directory_that_comes_later_is_watched() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("not/yet");
    let fixture = Fixture::over(root, directory);
    let _watch = fixture.host.watch().unwrap();
    assert!(fixture.handler(&using("p")).await.is_err());
    fs::create_dir_all(&fixture.directory).unwrap();
    fixture.put("p", &GOOD.component());
    let _handler = fixture.handler(&using("p")).await.unwrap();
    fixture.put("p", &variant(&GOOD.component(), 1));
    fixture.generations("p", 2).await;
}

#[tokio::test]
async fn a_directory_that_is_deleted_and_made_again_is_watched() {
    let (fixture, handler, _watch) = started().await;
    fs::remove_dir_all(&fixture.directory).unwrap();
    assert_eq!(handle(&handler, "").await, Outcome::Handled(vec![]));
    fs::create_dir(&fixture.directory).unwrap();
    fixture.put("p", &variant(&GOOD.component(), 1));
    fixture.generations("p", 2).await;
}
