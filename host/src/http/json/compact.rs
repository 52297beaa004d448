//! JSON without the whitespace between its tokens, every token as it was written.

use std::borrow::Cow;

/// How deep a value may be nested: as deep as most parsers, and so those of most plugins, read.
pub const DEPTH: usize = 128;

/// The text is nested deeper than [`DEPTH`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooDeep {
    /// Where, in bytes from its beginning.
    pub at: usize,
}

/// What JSON calls whitespace.
pub(super) fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Compacts a text that is JSON; without a copy when it is compact already.
///
/// # Errors
/// See [`TooDeep`].
pub fn compact(json: &str) -> Result<Cow<'_, str>, TooDeep> {
    let bytes = json.as_bytes();
    let mut compacted = String::new();
    let mut kept = 0; // where the run begins that is not in `compacted` yet
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'{' | b'[' if depth == DEPTH => return Err(TooDeep { at }),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte if is_whitespace(byte) => {
                compacted.push_str(&json[kept..at]);
                kept = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if kept == 0 {
        return Ok(Cow::Borrowed(json));
    }
    compacted.push_str(&json[kept..]);
    Ok(Cow::Owned(compacted))
}

/// The index after the string that begins with the quote at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn whitespace_goes_and_every_token_stays_as_it_was_written() {
        for (json, expected) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("{ \"b\" : 1.10 ,\r\n\t\"a\":[ 1e400 , -0 ] }", r#"{"b":1.10,"a":[1e400,-0]}"#),
            ("[12345678901234567890123, 1E+2]", "[12345678901234567890123,1E+2]"),
            (r#"{"a": 1, "a": 2}"#, r#"{"a":1,"a":2}"#),
            (r#"[ " a \" b ", "\\" , "\ud800" ]"#, r#"[" a \" b ","\\","\ud800"]"#),
            ("[ \"\u{e9} \u{1f600}\" , \"\u{a0}\" ]", "[\"\u{e9} \u{1f600}\",\"\u{a0}\"]"),
            ("true", "true"),
        ] {
            assert_eq!(compact(json).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_compact_already_is_not_copied() {
        assert!(matches!(compact(r#"{"a":[" "]}"#), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact(&nested(DEPTH)).is_ok());
        assert_eq!(compact(&nested(DEPTH + 1)), Err(TooDeep { at: DEPTH }));
        assert!(compact(&format!("[{}]", vec!["[]"; 1000].join(","))).is_ok());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..8)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_compact_text_is_what_serde_json_writes_compactly(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let expected = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(compact(&pretty).unwrap(), expected);
        }
    }
}
