//! Run lengths, as Parallel Consumer writes them (`RunLengthEncoder`): how many offsets are unfinished, then how many
//! are finished, and so on by turns, each as a big-endian signed number. The lengths may be 0; none is negative.

use super::text::{MOST_RUNS, Unread};

/// How wide lengths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 16 bits.
    V1,
    /// 32 bits.
    V2,
}

impl Version {
    /// The narrowest that holds this length.
    pub(super) fn for_length(length: u64) -> Option<Self> {
        match () {
            () if length <= i16::MAX as u64 => Some(Self::V1),
            () if length <= i32::MAX as u64 => Some(Self::V2),
            () => None,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::V1 => size_of::<i16>(),
            Self::V2 => size_of::<i32>(),
        }
    }

    /// Appends a length, which [`Version::for_length`] has found to fit.
    pub(super) fn put(self, body: &mut Vec<u8>, length: u64) {
        match self {
            Self::V1 => body.extend((length as i16).to_be_bytes()),
            Self::V2 => body.extend((length as i32).to_be_bytes()),
        }
    }

    /// The length at the front of a body, and what follows it.
    pub(super) fn get(self, body: &[u8]) -> Result<(u64, &[u8]), Unread> {
        let (length, rest) = match self {
            Self::V1 => body
                .split_first_chunk()
                .map(|(bytes, rest)| (i64::from(i16::from_be_bytes(*bytes)), rest)),
            Self::V2 => body
                .split_first_chunk()
                .map(|(bytes, rest)| (i64::from(i32::from_be_bytes(*bytes)), rest)),
        }
        .ok_or(Unread::Damaged("ends within a length"))?;
        let length = u64::try_from(length).map_err(|_| Unread::Damaged("has a negative length"))?;
        Ok((length, rest))
    }
}

/// The narrowest version that holds these runs.
pub(super) fn version(runs: &[u64]) -> Option<Version> {
    Version::for_length(runs.iter().copied().max().unwrap_or(0))
}

/// Bytes for each run of so many offsets, at the most.
pub(super) fn width(offsets: u64) -> usize {
    Version::for_length(offsets).map_or(usize::MAX, Version::bytes)
}

pub(super) fn size(runs: &[u64], version: Version) -> usize {
    runs.len() * version.bytes()
}

pub(super) fn write(runs: &[u64], version: Version) -> Vec<u8> {
    let mut body = Vec::with_capacity(size(runs, version));
    runs.iter().for_each(|length| version.put(&mut body, *length));
    body
}

pub(super) fn read(mut body: &[u8], version: Version) -> Result<Vec<u64>, Unread> {
    if body.len() / version.bytes() > MOST_RUNS {
        return Err(Unread::Damaged("has too many runs"));
    }
    let mut runs = Vec::with_capacity(body.len() / version.bytes());
    while !body.is_empty() {
        let (length, rest) = version.get(body)?;
        runs.push(length);
        body = rest;
    }
    Ok(runs)
}
