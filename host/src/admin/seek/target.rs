//! Where to: an end, an offset, or a time in words.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a group is moved to. As text: `beginning`, `end`, an offset, a time (RFC 3339), or how long ago (`2h ago`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The oldest record that is there.
    Beginning,
    /// Behind the last record.
    End,
    /// This offset.
    Offset(u64),
    /// The first record from this time on, in milliseconds since the Unix epoch.
    Time(u64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.trim(), SystemTime::now())
    }
}

impl Target {
    fn parse(text: &str, now: SystemTime) -> Result<Self, String> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        if let Some(ago) = text.strip_suffix("ago") {
            let ago = humantime::parse_duration(ago.trim()).map_err(|_| not_a_target(text))?;
            return now
                .checked_sub(ago)
                .and_then(milliseconds)
                .map(Self::Time)
                .ok_or_else(|| format!("{text:?} is before 1970"));
        }
        time(text).and_then(milliseconds).map(Self::Time).ok_or_else(|| not_a_target(text))
    }
}

fn not_a_target(text: &str) -> String {
    format!(
        "{text:?} is no place to go to: give \"beginning\", \"end\", an offset, a time such as \
         2026-01-31T08:00:00Z, or how long ago, such as \"2h ago\""
    )
}

/// RFC 3339, with `Z` or with an offset from it.
fn time(text: &str) -> Option<SystemTime> {
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match zone.as_bytes() {
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => *sign,
        _ => return humantime::parse_rfc3339(text).ok(),
    };
    let number = |digits: &str, below: u64| digits.parse::<u64>().ok().filter(|it| *it < below);
    let offset = number(&zone[1..3], 24)? * 3600 + number(&zone[4..], 60)? * 60;
    let offset = Duration::from_secs(offset);
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    if sign == b'+' { time.checked_sub(offset) } else { time.checked_add(offset) }
}

fn milliseconds(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => offset.fmt(f),
            Self::Time(time) => {
                // Past what a `SystemTime` shows, its number has to do.
                let shown = UNIX_EPOCH.checked_add(Duration::from_millis(*time));
                match shown.filter(|_| *time < 253_402_300_800_000) {
                    Some(time) => humantime::format_rfc3339_millis(time).fmt(f),
                    None => write!(f, "{time} ms"),
                }
            }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Offset(offset) => serializer.serialize_u64(*offset),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Offset(u64),
            Text(String),
        }
        match Given::deserialize(deserializer) {
            Ok(Given::Offset(offset)) => Ok(Self::Offset(offset)),
            Ok(Given::Text(text)) => text.parse().map_err(de::Error::custom),
            Err(_) => Err(de::Error::custom("`to` is an offset, or a place or time as text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_offsets_and_times_are_understood() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        for (text, target) in [
            ("beginning", Target::Beginning),
            ("end", Target::End),
            ("17", Target::Offset(17)),
            ("2h ago", Target::Time(2_800_000)),
            ("1m 30s ago", Target::Time(9_910_000)),
            ("1970-01-01T00:00:02.5Z", Target::Time(2_500)),
            ("1970-01-01T02:00:01+02:00", Target::Time(1_000)),
            ("1970-01-01T00:00:01-00:30", Target::Time(1_801_000)),
        ] {
            assert_eq!(Target::parse(text, now), Ok(target), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_would_do() {
        for text in [
            "",
            "-1",
            "2h",
            "ago",
            "tomorrow",
            "1970-01-01",
            "9999999h ago",
            "1969-12-31T23:59:59Z",
        ] {
            let refused =
                Target::parse(text, UNIX_EPOCH + Duration::from_secs(10_000)).unwrap_err();
            assert!(refused.contains("2h ago") || refused.contains("before 1970"), "{refused}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for target in
            [Target::Beginning, Target::End, Target::Offset(3), Target::Time(1_700_000_000_123)]
        {
            let text = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<Target>(&text).unwrap(), target, "{text}");
        }
        assert!(serde_json::from_str::<Target>("true").is_err());
    }
}
