//! Bytes with a seal: what they are, of which version, how many, and a checksum, so that a torn or damaged file is seen.
//!
//! ```text
//!   0   magic, 4 bytes
//!   4   version, u32 little-endian
//!   8   length of the content, u64
//!   16  CRC-32 of the content, u32
//!   20  the content
//! ```

/// Bytes before the content.
const HEADER_BYTES: usize = 20;

/// A file is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("expected a header of {HEADER_BYTES} bytes, got a file of {bytes}")]
    Short { bytes: usize },
    #[error("expected a file that begins with {expected:?}, got {found:?}")]
    Magic { expected: String, found: String },
    #[error("written in version {found} of the format; this build reads version {expected}")]
    Version { expected: u32, found: u32 },
    #[error("expected {expected} bytes of content, got {found}: the file is torn")]
    Length { expected: u64, found: u64 },
    #[error("expected the checksum {expected:08x}, got {found:08x}: the file is damaged")]
    Checksum { expected: u32, found: u32 },
}

/// The content with its seal.
pub(crate) fn seal(magic: [u8; 4], version: u32, content: &[u8]) -> Vec<u8> {
    let mut sealed = start(magic, version, content.len());
    sealed.extend_from_slice(content);
    finish(sealed)
}

/// To be followed by the content, of about `bytes`, and [`finish`].
pub(super) fn start(magic: [u8; 4], version: u32, bytes: usize) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + bytes);
    sealed.extend_from_slice(&magic);
    sealed.extend_from_slice(&version.to_le_bytes());
    sealed.resize(HEADER_BYTES, 0);
    sealed
}

/// Seals what [`start`] began.
pub(super) fn finish(mut sealed: Vec<u8>) -> Vec<u8> {
    if let Some((head, content)) = sealed.split_at_mut_checked(HEADER_BYTES) {
        let (length, checksum) = (content.len() as u64, crc32fast::hash(content));
        let numbers = length.to_le_bytes().into_iter().chain(checksum.to_le_bytes());
        head.iter_mut().skip(HEADER_BYTES - 12).zip(numbers).for_each(|(place, byte)| *place = byte);
    }
    sealed
}

/// The content, if the seal is whole.
pub(crate) fn open(magic: [u8; 4], version: u32, sealed: &[u8]) -> Result<&[u8], SealError> {
    let short = || SealError::Short { bytes: sealed.len() };
    let (found, rest) = sealed.split_first_chunk::<4>().ok_or_else(short)?;
    let (found_version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (checksum, content) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    if *found != magic {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Err(SealError::Magic { expected: text(&magic), found: text(found) });
    }
    let found = u32::from_le_bytes(*found_version);
    if found != version {
        return Err(SealError::Version { expected: version, found });
    }
    let (expected, found) = (u64::from_le_bytes(*length), content.len() as u64);
    if expected != found {
        return Err(SealError::Length { expected, found });
    }
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(content));
    if expected != found {
        return Err(SealError::Checksum { expected, found });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let sealed = seal(*b"test", 3, b"some content");
        assert_eq!(open(*b"test", 3, &sealed).unwrap(), b"some content");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            assert!(open(*b"test", 3, &changed).is_err(), "byte {at}");
            assert!(open(*b"test", 3, &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
