//! What names may look like.

use super::report::Fault;

/// The longest name of a topic, in characters.
const TOPIC_LENGTH: usize = 249;

/// What the dead-letter topic of a topic is called where no other name is given: this, after the topic's own.
pub const DEAD_LETTERS: &str = ".dead-letters";

/// What the topic of a group's parked records is called: this, after the group's id.
pub const PARKED: &str = ".parked";

/// Kafka's rule for topics.
pub(super) fn topic(name: &str) -> Result<(), Fault> {
    if is_legal(name) && name.len() <= TOPIC_LENGTH {
        return Ok(());
    }
    Err(Fault::new(
        "not a topic's name",
        format!(
            "give 1 to {TOPIC_LENGTH} of the characters a-z, A-Z, 0-9, \".\", \"_\" and \"-\", and not \".\" or \"..\" alone"
        ),
    ))
}

/// Whether a topic's name leaves room for [`DEAD_LETTERS`].
pub(super) fn has_room_for_dead_letters(topic: &str) -> bool {
    topic.len() + DEAD_LETTERS.len() <= TOPIC_LENGTH
}

/// Whether a topic can be named after a group, with [`PARKED`] behind its id.
pub(super) fn can_park(group: &str) -> bool {
    is_legal(group) && group.len() + PARKED.len() <= TOPIC_LENGTH
}

/// A file name without its `.wasm`.
pub(super) fn plugin(name: &str) -> Result<(), Fault> {
    if let Some(stem) = name.strip_suffix(".wasm") {
        return Err(Fault::new(
            "not a plugin's name",
            format!("leave the \".wasm\" out: {stem:?}"),
        ));
    }
    if is_legal(name) && name.len() <= 128 {
        return Ok(());
    }
    Err(Fault::new(
        "not a plugin's name",
        "give the name of a file of the plugin directory without its \".wasm\": a-z, A-Z, 0-9, \".\", \"_\" and \"-\"",
    ))
}

/// The id of a group.
pub(super) fn group(id: &str) -> Result<(), Fault> {
    let plain = !id.chars().any(char::is_control) && id.trim() == id;
    if !id.is_empty() && id.len() <= TOPIC_LENGTH && plain {
        return Ok(());
    }
    Err(Fault::new(
        "not a group's id",
        format!(
            "give 1 to {TOPIC_LENGTH} bytes of text without control characters or blanks at its ends"
        ),
    ))
}

/// The id of a static member; a number is put behind it.
pub(super) fn instance(id: &str) -> Result<(), Fault> {
    if is_legal(id) && id.len() <= 200 {
        return Ok(());
    }
    Err(Fault::new(
        "not an instance id",
        "give 1 to 200 of the characters a-z, A-Z, 0-9, \".\", \"_\" and \"-\"",
    ))
}

/// `HOST:PORT`, several with commas.
pub(super) fn bootstrap_servers(text: &str) -> Result<(), Fault> {
    let is_server = |server: &str| {
        server.trim().rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain =
                !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '[' | ']'));
            !host.is_empty()
                && (bracketed || plain)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if text.split(',').all(is_server) {
        return Ok(());
    }
    Err(Fault::new(
        "not a list of servers",
        "give HOST:PORT, several with commas, such as \"localhost:9092\"",
    ))
}

fn is_legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name != "." && name != ".." && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_by_kafkas_rule() {
        let longest = "x".repeat(249);
        for good in ["a", "my-topic", "My_Topic.1", "...", &longest] {
            assert_eq!(topic(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(250);
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &too_long] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plugin_is_a_file_of_the_directory_and_of_no_other() {
        assert_eq!(plugin("json-key"), Ok(()));
        for bad in ["", "..", "../evil", "a/b", "a\\b", "print.wasm"] {
            assert!(plugin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        for good in ["localhost:9092", "a:1,b:2", "a:1, b:2", "[::1]:9092", "10.0.0.1:9092"] {
            assert_eq!(bootstrap_servers(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "a:0",
            "a:1,",
            ":9092",
            "a:x",
            "a:70000",
            "PLAINTEXT://a:1",
            "::1:9092",
        ] {
            assert!(bootstrap_servers(bad).is_err(), "{bad}");
        }
    }
}
