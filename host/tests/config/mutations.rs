//! Whatever the text, there is an answer and no panic, and every error has a place that exists.

use std::{ffi::OsString, path::Path};

use keyway::config::{BUILT_IN, Config, Place};
use proptest::prelude::*;

fn has_an_answer(text: &str, environment: Vec<(OsString, OsString)>) {
    let Err(errors) = Config::parse(text, "keyway.toml", Path::new(""), environment) else {
        return;
    };
    assert!(errors.iter().next().is_some());
    for error in errors.iter() {
        assert!(!error.to_string().contains('\n'), "{error}");
        if let Place::File { line, column, .. } = &error.place {
            let line = text.split('\n').nth(line - 1).unwrap();
            assert!(*column <= line.chars().count() + 1, "{error}");
        }
    }
}

/// The repository's file and every good case.
fn good_files() -> Vec<String> {
    let cases = super::cases("good").into_iter().map(|case| std::fs::read_to_string(case).unwrap());
    cases.chain([BUILT_IN.to_owned()]).collect()
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\[\\]{}=\"'#.,\\n0-9a-z -]{0,8}",
        prop::sample::select(vec![
            "[[topics]]\n",
            "[groups]\n",
            "\"\"\"",
            "-1",
            "0x",
            "99999999999999999999999999999999999999999",
            "inf",
            "{}",
            "[]",
            "[[]]",
            "true",
            "1979-05-27",
            "a.b.c = 1\n",
            "\u{feff}",
            "\0",
            "\r",
            "ä",
            "name",
            "id",
            "kind = \"kafka\"\n",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in any::<String>()) {
        has_an_answer(&text, Vec::new());
    }

    #[test]
    fn a_good_file_with_a_piece_replaced_has_an_answer(
        file in prop::sample::select(good_files()),
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        fragment in fragment(),
    ) {
        let characters: Vec<char> = file.chars().collect();
        let at = at.index(characters.len() + 1);
        let end = (at + length).min(characters.len());
        let text: String = characters[..at].iter().copied()
            .chain(fragment.chars())
            .chain(characters[end..].iter().copied())
            .collect();
        has_an_answer(&text, Vec::new());
    }

    #[test]
    fn any_environment_has_an_answer(
        file in prop::sample::select(good_files()),
        names in prop::collection::vec("KEYWAY__(BROKER|HTTP|TOPICS|GROUPS|[A-Z_]{0,6})(__([0-9]{1,20}|NAME|ID|TOPICS|[A-Z_]{0,6})){0,4}", 0..4),
        tutorial in prop::collection::vec(prop::sample::select(vec![
            "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "KAFKA_TOPIC_PARTITIONS", "KAFKA_REPLICATION_FACTOR",
            "KAFKA_CONSUMER_GROUP_ID",
        ]), 0..3),
        value in prop_oneof![any::<String>(), "[a-z0-9,:.-]{0,12}"],
    ) {
        let names = names.into_iter().chain(tutorial.into_iter().map(str::to_owned));
        let environment = names.map(|name| (name.into(), value.clone().into())).collect();
        has_an_answer(&file, environment);
        // and on files whose tables are not what the variables take them for
        has_an_answer("topics = 1\ngroups = [1, { id = 2 }]\nhttp = []\nbroker = \"\"", vec![
            ("KAFKA_TOPIC".into(), value.clone().into()),
            ("KAFKA_BOOTSTRAP_SERVERS".into(), value.clone().into()),
            ("KAFKA_TOPIC_PARTITIONS".into(), value.clone().into()),
            ("KAFKA_CONSUMER_GROUP_ID".into(), value.into()),
        ]);
    }
}
