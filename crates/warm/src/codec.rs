//! Compression of blocks.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use zstd::dict::EncoderDictionary;
use zstd::zstd_safe::{CCtx, DCtx, DDict};

/// How the blocks of a sorted file are compressed. A block that does not shrink by an eighth is stored as it is.
///
/// ```
/// assert_eq!(thermocline_warm::Compression::default(), thermocline_warm::Compression::Zstd(-1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: quick in both directions.
    Lz4,
    /// Zstandard at a level from -7 to 19; -1 is nearly as quick as LZ4 and smaller. With a dictionary for the file where that pays.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(-1)
    }
}

/// What a stored block says about its own compression. Numbers on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Lz4,
    Zstd,
    ZstdDictionary,
}

/// A block is compressed at most so many times, so that nobody can be made to allocate more than that from a small file.
pub(crate) const RATIO_MAX: usize = 250;

impl Codec {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::ZstdDictionary => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd, Self::ZstdDictionary].into_iter().find(|codec| codec.code() == code)
    }
}

/// A file's dictionary, ready for decoding.
#[derive(Clone)]
pub(crate) struct Dictionary(Arc<DDict<'static>>);

impl Dictionary {
    /// `None` if the bytes are no dictionary.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        DDict::try_create(bytes).map(|dictionary| Self(Arc::new(dictionary)))
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dictionary")
    }
}

thread_local! {
    /// Making a context costs more than decoding a block.
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decodes into `out`, which has the length that the block must have.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn decode(codec: Codec, stored: &[u8], dictionary: Option<&Dictionary>, out: &mut [u8]) -> Result<(), String> {
    let len = match codec {
        Codec::None => {
            if stored.len() != out.len() {
                return Err(format!("{} bytes", stored.len()));
            }
            out.copy_from_slice(stored);
            return Ok(());
        }
        Codec::Lz4 => {
            let size = i32::try_from(out.len()).map_err(|error| error.to_string())?;
            decompress_to_buffer(stored, Some(size), out).map_err(|error| error.to_string())?
        }
        Codec::Zstd => with_decoder(|decoder| decoder.decompress(out, stored))?,
        Codec::ZstdDictionary => {
            let dictionary = dictionary.ok_or("no dictionary in the file")?;
            with_decoder(|decoder| decoder.decompress_using_ddict(out, stored, &dictionary.0))?
        }
    };
    if len == out.len() { Ok(()) } else { Err(format!("{len} bytes")) }
}

fn with_decoder(decode: impl FnOnce(&mut DCtx<'static>) -> Result<usize, usize>) -> Result<usize, String> {
    let decoded = DECODER.with(|decoder| decode(&mut decoder.borrow_mut()));
    decoded.map_err(|code| zstd::zstd_safe::get_error_name(code).to_owned())
}

/// Compresses blocks, one after the other.
pub(crate) struct Encoder {
    compression: Compression,
    context: Option<CCtx<'static>>,
    dictionary: Option<EncoderDictionary<'static>>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> Self {
        let context = matches!(compression, Compression::Zstd(_)).then(CCtx::create);
        Self { compression, context, dictionary: None, buffer: Vec::new() }
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Uses a dictionary from now on.
    pub(crate) fn set_dictionary(&mut self, bytes: &[u8]) {
        if let Compression::Zstd(level) = self.compression {
            self.dictionary = Some(EncoderDictionary::copy(bytes, level));
        }
    }

    /// The block as it is to be stored.
    pub(crate) fn encode<'a>(&'a mut self, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        let Self { compression, context, dictionary, buffer } = self;
        let encoded = match (compression, context) {
            (Compression::Lz4, _) => {
                // The library sizes its output for the worst case; a block is far below its limit.
                let bound = compress_bound(raw.len()).unwrap_or(0);
                buffer.resize(bound, 0);
                compress_to_buffer(raw, Some(CompressionMode::DEFAULT), false, buffer).ok().map(|len| (Codec::Lz4, len))
            }
            (Compression::Zstd(level), Some(context)) => {
                buffer.resize(zstd::zstd_safe::compress_bound(raw.len()), 0);
                let (codec, result) = match dictionary {
                    Some(dictionary) => {
                        let result = context.compress_using_cdict(&mut buffer[..], raw, dictionary.as_cdict());
                        (Codec::ZstdDictionary, result)
                    }
                    None => (Codec::Zstd, context.compress(&mut buffer[..], raw, *level)),
                };
                result.ok().map(|len| (codec, len))
            }
            (Compression::None | Compression::Zstd(_), _) => None,
        };
        match encoded {
            Some((codec, len)) if len < raw.len() - raw.len() / 8 && raw.len() / RATIO_MAX < len => (codec, &self.buffer[..len]),
            _ => (Codec::None, raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|number| b"the quick brown fox "[number * number % 20]).collect()
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd(-1), Compression::Zstd(3)] {
            let mut encoder = Encoder::new(compression);
            for raw in [text(0), text(1), text(100), text(20_000), vec![7; 300_000]] {
                let (codec, stored) = encoder.encode(&raw);
                let mut out = vec![0; raw.len()];
                decode(codec, stored, None, &mut out).unwrap();
                assert!(out == raw, "{compression:?}, {} bytes", raw.len());
                assert!(raw.len() <= stored.len() * (RATIO_MAX + 1), "{compression:?}, {} bytes in {}", raw.len(), stored.len());
            }
        }
    }

    #[test]
    fn dictionary_is_needed_to_decode() {
        let mut encoder = Encoder::new(Compression::Zstd(-1));
        let dictionary = text(4096);
        encoder.set_dictionary(&dictionary);
        let raw = text(1000);
        let (codec, stored) = encoder.encode(&raw);
        assert_eq!(codec, Codec::ZstdDictionary);
        let mut out = vec![0; raw.len()];
        decode(codec, stored, Dictionary::new(&dictionary).as_ref(), &mut out).unwrap();
        assert_eq!(out, raw);
        assert!(decode(codec, stored, None, &mut out).is_err());
    }

    #[test]
    fn damaged_blocks_are_refused_or_decode_to_something_of_the_right_length() {
        for compression in [Compression::Lz4, Compression::Zstd(-1)] {
            let mut encoder = Encoder::new(compression);
            let raw = text(2000);
            let (codec, stored) = encoder.encode(&raw);
            let mut out = vec![0; raw.len()];
            for place in 0..stored.len() {
                let mut damaged = stored.to_vec();
                damaged[place] ^= 0x55;
                // Neither panics nor writes beyond; the block's checksum finds what this does not.
                drop(decode(codec, &damaged, None, &mut out));
                drop(decode(codec, &stored[..place], None, &mut out));
            }
            assert!(decode(codec, stored, None, &mut out[1..]).is_err());
        }
    }
}
