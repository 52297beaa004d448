//! A map as the text of a commit's metadata, and back.
//!
//! The text is that of Confluent's Parallel Consumer 0.5 (`io.confluent.parallelconsumer.offsets`): base64 of a byte that
//! names the format (`OffsetEncoding`), and a body. A body is a bit set or run lengths, each in two widths, plain or
//! compressed by zstd. Every format is read; the smallest is written.
//!
//! Anything may stand in a commit's metadata. What is not a map is told apart by an [`Unread`], and no text makes
//! [`OffsetMap::decode`] take more memory than [`MOST_RUNS`] and [`MOST_BYTES`] allow.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    bits,
    map::OffsetMap,
    runs::{self, Version},
};

/// Characters of metadata that Kafka takes by default (`offset.metadata.max.bytes`).
pub(super) const MOST_CHARACTERS: usize = 4096;
/// Runs of a map that is read: several times what may be unfinished at once.
pub(super) const MOST_RUNS: usize = 1 << 17;
/// Bytes of a body that comes compressed.
const MOST_BYTES: usize = 1 << 20;
/// A body of this many bytes is not worth compressing. Parallel Consumer draws the line here, too.
const SHORT: usize = 200;
/// A body of more bytes is not tried: it would hardly come below 3 KiB, and trying takes time.
const LONG: usize = 128 << 10;

/// Why metadata is not read as a map: it is someone else's, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Every format is base64.
    #[error("it is not base64")]
    NotBase64,
    /// It begins as Kafka Streams' own metadata does.
    #[error("it is Kafka Streams'")]
    KafkaStreams,
    /// Its first byte is this one.
    #[error("it begins with {0:#04x}, which names no format")]
    UnknownFormat(u8),
    /// It names a format and does not keep to it, in these words.
    #[error("it {0}")]
    Damaged(&'static str),
}

/// How a body is laid out. Parallel Consumer has a third layout, a byte for each offset, which it never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Bits(Version),
    Runs(Version),
}

impl OffsetMap {
    /// Reads the metadata of a commit at offset `base`. No metadata is a map with nothing in it.
    ///
    /// # Errors
    /// When it is none of Parallel Consumer's formats, is damaged, or is far longer than a map that a commit takes.
    pub fn decode(base: u64, metadata: &str) -> Result<Self, Unread> {
        if metadata.is_empty() {
            return Ok(Self::new(base, base, []));
        }
        let bytes = STANDARD.decode(metadata).map_err(|_| Unread::NotBase64)?;
        let (magic, body) = bytes.split_first().ok_or(Unread::NotBase64)?;
        let runs = match magic {
            b'L' => bits::read_bytes(body),
            0xee => bits::read_bytes(&decompress(body)?), // 'î'
            b'l' => bits::read(body, Version::V1),
            b'a' => bits::read(&decompress(body)?, Version::V1),
            b'n' => runs::read(body, Version::V1),
            b'J' => runs::read(&decompress(body)?, Version::V1),
            b'o' => bits::read(body, Version::V2),
            b's' => bits::read(&decompress(body)?, Version::V2),
            b'e' => runs::read(body, Version::V2),
            b'p' => runs::read(&decompress(body)?, Version::V2),
            1 | 2 => Err(Unread::KafkaStreams),
            other => Err(Unread::UnknownFormat(*other)),
        }?;
        Self::of_runs(base, runs).ok_or(Unread::Damaged("goes past the last offset there can be"))
    }

    /// The map as metadata of at most 4,096 characters, and whether it is whole: of one that does not fit, as much of
    /// its beginning as does. That is safe, since what a map leaves out counts as unfinished.
    pub fn encode(&self) -> (String, bool) {
        if let Some(text) = encode_runs(self.runs()) {
            return (text, true);
        }
        let (mut fits, mut text) = (0, String::new());
        let mut too_many = self.runs().len() / 2;
        while fits + 1 < too_many {
            let pairs = fits.midpoint(too_many);
            match encode_runs(&self.runs()[..2 * pairs]) {
                Some(longer) => (fits, text) = (pairs, longer),
                None => too_many = pairs,
            }
        }
        (text, false)
    }
}

/// Characters that a map takes at the most.
///
/// `offsets` is how many offsets it is about, `runs` how many runs there are of them.
pub(super) fn bound(offsets: u64, runs: usize) -> usize {
    let bits = usize::try_from(offsets.div_ceil(8)).unwrap_or(usize::MAX).saturating_add(4);
    let runs = runs.saturating_mul(runs::width(offsets));
    (1 + bits.min(runs)).div_ceil(3) * 4
}

/// `None`: they do not fit.
fn encode_runs(runs: &[u64]) -> Option<String> {
    if runs.iter().skip(1).step_by(2).all(|finished| *finished == 0) {
        return Some(String::new());
    }
    let text = STANDARD.encode(smallest(runs)?);
    (text.len() <= MOST_CHARACTERS).then_some(text)
}

/// The smallest that these runs can be; `None`: no layout can hold them, or all are far too long.
fn smallest(runs: &[u64]) -> Option<Vec<u8>> {
    let layouts = [bits::version(runs).map(Layout::Bits), runs::version(runs).map(Layout::Runs)];
    let sized = layouts.into_iter().flatten().map(|layout| (layout.size(runs), layout));
    let mut sized: Vec<_> = sized.filter(|(size, _)| *size <= LONG).collect();
    sized.sort_by_key(|(size, _)| *size);
    if let Some((size, layout)) = sized.first()
        && *size <= SHORT
    {
        return Some(tagged(layout.plain(), &layout.write(runs)));
    }
    let both = |layout: Layout| {
        let body = layout.write(runs);
        let compressed = zstd::bulk::compress(&body, zstd::DEFAULT_COMPRESSION_LEVEL);
        // What cannot be compressed, for want of memory, is left as it is.
        let compressed = compressed.ok().map(|body| tagged(layout.compressed(), &body));
        compressed.into_iter().chain([tagged(layout.plain(), &body)])
    };
    sized.into_iter().flat_map(|(_, layout)| both(layout)).min_by_key(Vec::len)
}

fn tagged(magic: u8, body: &[u8]) -> Vec<u8> {
    [&[magic], body].concat()
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, Unread> {
    zstd::bulk::decompress(body, MOST_BYTES)
        .map_err(|_| Unread::Damaged("cannot be decompressed, or is very long"))
}

impl Layout {
    /// The byte that names it.
    fn plain(self) -> u8 {
        match self {
            Self::Bits(Version::V1) => b'l',
            Self::Bits(Version::V2) => b'o',
            Self::Runs(Version::V1) => b'n',
            Self::Runs(Version::V2) => b'e',
        }
    }

    /// The byte that names it compressed.
    fn compressed(self) -> u8 {
        match self {
            Self::Bits(Version::V1) => b'a',
            Self::Bits(Version::V2) => b's',
            Self::Runs(Version::V1) => b'J',
            Self::Runs(Version::V2) => b'p',
        }
    }

    fn size(self, runs: &[u64]) -> usize {
        match self {
            Self::Bits(version) => bits::size(runs, version),
            Self::Runs(version) => runs::size(runs, version),
        }
    }

    fn write(self, runs: &[u64]) -> Vec<u8> {
        match self {
            Self::Bits(version) => bits::write(runs, version),
            Self::Runs(version) => runs::write(runs, version),
        }
    }
}
