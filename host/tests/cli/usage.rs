//! Help, wrong usage, and what each exits with.

use std::{env, process::Stdio};

use super::{keyway, run, stderr, stdout};

#[test]
fn help_lists_every_command_and_the_exit_codes() {
    let help = run(&env::temp_dir(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = stdout(&help);
    for part in
        ["dev", "run", "check", "send", "topics", "groups", "plugin", "dead-letters", "KAFKA_TOPIC"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("Exit codes: 0 done, 1 failed at run time, 64 wrong usage"), "{text}");
}

#[test]
fn every_command_has_help() {
    for command in [
        &["dev"][..],
        &["run"],
        &["check"],
        &["send"],
        &["topics"],
        &["groups"],
        &["groups", "pause"],
        &["groups", "resume"],
        &["groups", "seek"],
        &["plugin"],
        &["plugin", "new"],
        &["plugin", "build"],
        &["plugin", "test"],
        &["plugin", "inspect"],
        &["plugin", "list"],
        &["dead-letters"],
        &["dead-letters", "list"],
        &["dead-letters", "redrive"],
    ] {
        let help = run(&env::temp_dir(), &[command, &["--help"]].concat());
        assert_eq!(help.status.code(), Some(0), "{command:?}");
        assert!(stdout(&help).contains("Usage: keyway"), "{command:?}");
    }
}

#[test]
fn wrong_usage_exits_with_64_and_says_what_would_do() {
    for (arguments, hint) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&[], "Usage: keyway"),
        (&["run", "--only", "coffee"], "[possible values: http, groups]"),
        (&["send", "-p", "two", "v"], "invalid value 'two'"),
        (&["send", "-H", "nonsense", "v"], "a header is NAME=VALUE"),
        (&["send", "v", "--tombstone"], "cannot be used with"),
        (&["plugin", "new", "--language", "go", "My_Plugin"], "not a name for a project"),
        (&["plugin", "new", "--language", "basic", "p"], "typescript, python, go, c]"),
        (&["groups", "seek", "g"], "--to <WHERE>"),
        (&["groups", "seek", "g", "--to", "tomorrow"], "or how long ago, such as \"2h ago\""),
        (&["groups", "pause", "g", "-p", "x"], "invalid value 'x'"),
        (&["dead-letters", "list", "--since", "yesterday"], "an age such as 2h"),
        (&["dead-letters", "list", "--from", "t"], "not TOPIC/PARTITION@OFFSET"),
    ] {
        let output = run(&env::temp_dir(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_log_filter_that_does_not_parse_is_wrong_usage_and_named() {
    let output = keyway(&env::temp_dir(), &["topics"]).env("KEYWAY_LOG", "a=b=c").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("KEYWAY_LOG is \"a=b=c\""), "{}", stderr(&output));
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let mut child = keyway(&env::temp_dir(), &["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
