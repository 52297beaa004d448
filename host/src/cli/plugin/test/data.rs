//! Keys and values in files of tests, as the gateway takes and shows them.
//!
//! A string is its UTF-8 bytes, `{"base64": ".."}` what it says, any other JSON its compact text, `null` nothing. What is
//! written reads well: an object or an array as itself, other text as a string.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny},
    ser::Error as _,
};
use serde_json::value::RawValue;

use crate::http::{JSON_DEPTH, compact_json};

/// Bytes that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data(pub(super) Bytes);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let json = raw.get();
        if json.starts_with('"') {
            let text: String = serde_json::from_str(json)
                .map_err(|error| D::Error::custom(format!("a string that is no text: {error}")))?;
            return Ok(Self(text.into()));
        }
        if let Some(Base64 { base64 }) = as_base64(json) {
            let bytes = BASE64_STANDARD.decode(base64);
            let bytes = bytes.map_err(|error| D::Error::custom(format!("base64: {error}")))?;
            return Ok(Self(bytes.into()));
        }
        let compact = compact_json(json).map_err(|_too_deep| {
            D::Error::custom(format!("JSON that is nested deeper than {JSON_DEPTH}"))
        })?;
        Ok(Self(compact.into_owned().into()))
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if reads_as_itself(text) => RawValue::from_string(text.to_owned())
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Base64 { base64: BASE64_STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

fn as_base64(json: &str) -> Option<Base64> {
    json.starts_with('{').then(|| serde_json::from_str(json).ok()).flatten()
}

/// Whether the text is an object or an array that is read as just this text.
fn reads_as_itself(text: &str) -> bool {
    text.starts_with(['{', '['])
        && compact_json(text).is_ok_and(|compact| compact == text)
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && as_base64(text).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Option<Data> {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn a_value_is_what_the_gateway_takes_it_for() {
        let bytes = |json: &str| read(json).map(|data| data.0.to_vec());
        for (json, expected) in [
            (r#""hé\"llo""#, &b"h\xc3\xa9\"llo"[..]),
            (r#""""#, b""),
            (r#"{ "b": 1.10, "a": [ 1 ] }"#, br#"{"b":1.10,"a":[1]}"#),
            ("5", b"5"),
            ("true", b"true"),
            (r#"{"base64": "/wA="}"#, &[0xff, 0]),
            (r#"{"base64": 5}"#, br#"{"base64":5}"#),
            (r#"{"base64": "/wA=", "more": 1}"#, br#"{"base64":"/wA=","more":1}"#),
        ] {
            assert_eq!(bytes(json).as_deref(), Some(expected), "{json}");
        }
        assert_eq!(read("null"), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |json: &str| serde_json::from_str::<Data>(json).unwrap_err().to_string();
        assert!(error(r#"{"base64": "?"}"#).contains("base64: Invalid symbol"));
        let nested = format!("{}{}", "[".repeat(129), "]".repeat(129));
        // The parser's own bound is about as deep, whichever comes first.
        assert!(serde_json::from_str::<Data>(&nested).is_err());
    }

    #[test]
    fn what_is_written_reads_well() {
        for (bytes, expected) in [
            (&b"hello"[..], r#""hello""#),
            (br#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (br#"{"a": 1}"#, r#""{\"a\": 1}""#),
            (b"{", r#""{""#),
            (b"5", r#""5""#),
            (&[0xff, 0], r#"{"base64":"/wA="}"#),
            (br#"{"base64":"/wA="}"#, r#""{\"base64\":\"/wA=\"}""#),
        ] {
            let data = Data(Bytes::copy_from_slice(bytes));
            assert_eq!(serde_json::to_string(&data).ok().as_deref(), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_it_was(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                r#"[\[\]{}":, a1\\u]{0,20}"#.prop_map(String::into_bytes),
            ],
        ) {
            let data = Some(Data(bytes.into()));
            let json = serde_json::to_string(&data).unwrap();
            prop_assert!(!json.contains('\n'), "a line is one line");
            prop_assert_eq!(read(&json), data);
        }
    }
}
