//! A bit set, as Parallel Consumer writes it (`BitSetEncoder`): how many offsets it is about, as a big-endian signed
//! number, then a bit for each, the lowest bit of the first byte first; a set bit is a finished offset.
//!
//! Parallel Consumer appends a zero byte that means nothing. It is read, and not written.

use super::{
    runs::Version,
    text::{MOST_RUNS, Unread},
};

/// The narrowest version whose length holds these runs.
pub(super) fn version(runs: &[u64]) -> Option<Version> {
    Version::for_length(runs.iter().sum())
}

pub(super) fn size(runs: &[u64], version: Version) -> usize {
    version.bytes() + (runs.iter().sum::<u64>() as usize).div_ceil(8)
}

pub(super) fn write(runs: &[u64], version: Version) -> Vec<u8> {
    let length = runs.iter().sum::<u64>();
    let mut body = Vec::with_capacity(size(runs, version));
    version.put(&mut body, length);
    let from = body.len();
    body.resize(size(runs, version), 0);
    let (bits, mut at) = (&mut body[from..], 0);
    for (index, run) in runs.iter().enumerate() {
        let run = *run as usize;
        if index % 2 == 1 {
            set(bits, at, at + run);
        }
        at += run;
    }
    body
}

/// Sets the bits of `start..end`.
fn set(bits: &mut [u8], start: usize, end: usize) {
    if start == end {
        return;
    }
    let (first, last) = (start / 8, (end - 1) / 8);
    let from = 0xff << (start % 8);
    let to = 0xff >> (7 - (end - 1) % 8);
    if first == last {
        bits[first] |= from & to;
    } else {
        bits[first] |= from;
        bits[first + 1..last].fill(0xff);
        bits[last] |= to;
    }
}

pub(super) fn read(body: &[u8], version: Version) -> Result<Vec<u64>, Unread> {
    let (length, bits) = version.get(body)?;
    let length = length as usize; // at most 31 bits
    let bytes = length.div_ceil(8);
    if bits.len() < bytes || bits.len() > bytes + 1 {
        return Err(Unread::Damaged("is not as long as it says"));
    }
    let mut runs = Collector::default();
    for (index, byte) in bits[..bytes].iter().enumerate() {
        let count = (length - index * 8).min(8);
        match byte {
            0x00 => runs.push(false, count as u64)?,
            0xff if count == 8 => runs.push(true, 8)?,
            _ => (0..count).try_for_each(|bit| runs.push(byte >> bit & 1 == 1, 1))?,
        }
    }
    Ok(runs.0)
}

/// Reads the layout that has a byte for each offset (`ByteBufferEncoder`): 1 is finished.
pub(super) fn read_bytes(body: &[u8]) -> Result<Vec<u64>, Unread> {
    let mut runs = Collector::default();
    body.iter().try_for_each(|byte| runs.push(*byte == 1, 1))?;
    Ok(runs.0)
}

/// Collects offsets into runs.
struct Collector(Vec<u64>);

impl Default for Collector {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Collector {
    fn push(&mut self, is_finished: bool, count: u64) -> Result<(), Unread> {
        let (runs, last_is_finished) = (self.0.len(), self.0.len().is_multiple_of(2));
        match self.0.last_mut() {
            Some(run) if last_is_finished == is_finished => *run += count,
            _ if runs == MOST_RUNS => return Err(Unread::Damaged("has too many runs")),
            _ => self.0.push(count),
        }
        Ok(())
    }
}
