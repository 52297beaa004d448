//! Where a configuration is looked for.

use std::{ffi::OsString, fs, path::Path};

use keyway::config::{BUILT_IN, Broker, Config, FILE};

const NOTHING: [(OsString, OsString); 0] = [];

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let error = Config::load(Some(Path::new("no/such.toml")), NOTHING).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: cannot be read, got "), "{error}");
}

#[test]
fn where_none_is_named_and_none_is_there_the_built_in_file_holds() {
    assert!(!Path::new(FILE).exists(), "tests run where there is none");
    let loaded = Config::load(None, NOTHING).unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.config, Config::parse(BUILT_IN, FILE, Path::new(""), NOTHING).unwrap());
}

#[test]
fn relative_paths_are_seen_from_the_directory_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    fs::write(&file, "[broker]\npath = \"data\"\n").unwrap();
    let variable = [("KEYWAY__PLUGINS__DIRECTORY".into(), "elsewhere".into())];
    let loaded = Config::load(Some(&file), variable).unwrap();
    assert_eq!(loaded.file.as_deref(), Some(&*file));
    let Broker::Embedded { path, .. } = loaded.config.broker else { panic!("not embedded") };
    assert_eq!(path, directory.path().join("data"));
    assert_eq!(loaded.config.plugins.directory, Path::new("elsewhere"));
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    fs::write(&file, b"[broker]\npath = \"\xff\"\n").unwrap();
    let error = Config::load(Some(&file), NOTHING).unwrap_err().to_string();
    assert!(
        error.ends_with("my.toml:2:9: not UTF-8, got the byte 0xff, save the file as UTF-8"),
        "{error}"
    );
}

#[test]
fn the_file_of_the_repository_is_what_is_built_in_and_it_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keyway.toml");
    assert_eq!(fs::read_to_string(&file).unwrap(), BUILT_IN);
    Config::parse(BUILT_IN, "keyway.toml", Path::new(""), NOTHING).unwrap();
}

#[test]
fn what_the_repositorys_file_has_switched_off_is_true_when_switched_on() {
    let lines = |on: &dyn Fn(&str) -> bool| -> String {
        let switch = |line: &str| match line.strip_prefix("# ").filter(|line| on(line)) {
            Some(line) => format!("{line}\n"),
            None => format!("{line}\n"),
        };
        BUILT_IN.lines().map(switch).collect()
    };
    let key = |line: &str| line.split(" = ").next().map(str::to_owned).unwrap_or_default();
    let of_kafka = ["kind", "bootstrap-servers", "properties"];
    let is_key = |line: &str| {
        let key = key(line);
        line.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    };
    let all = lines(&|line| is_key(line) && !of_kafka.contains(&&*key(line)));
    assert_eq!(all.matches("\nlisten = ").count(), 2, "{all}");
    let on = Config::parse(&all, "keyway.toml", Path::new(""), NOTHING).unwrap();
    let off = Config::parse(BUILT_IN, "keyway.toml", Path::new(""), NOTHING).unwrap();

    // All of it but these is a default, so that switching it on changes nothing else.
    let mut on = on;
    assert!(on.topics[0].key_selector.take().is_some());
    assert!(on.groups[0].instance_id.take().is_some());
    assert!(on.groups[0].dead_letter_topic.take().is_some());
    assert!(on.admin.listen.take().is_some());
    assert_eq!(on, off);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let variable = [("KAFKA_TOPIC".into(), OsString::from_vec(vec![b'a', 0xff]))];
    let error = Config::parse(BUILT_IN, "keyway.toml", Path::new(""), variable).unwrap_err();
    assert_eq!(error.to_string(), r#"KAFKA_TOPIC: not UTF-8, got "a\xFF", give text"#);
}
