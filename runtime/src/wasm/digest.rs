//! The name of a component's content.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a component file. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for people to tell versions apart in logs and metrics.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Exactly which version of a component runs in a place of a pipeline. Prints as `v3 1f2e3d4c5b6a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExactVersion {
    /// counts from 1 within its place and is never given twice: the same file under another configuration or other limits is
    /// another version; 0: nobody counts, as in tests of components
    pub number: u64,
    /// what it is
    pub digest: Digest,
}

impl fmt::Display for ExactVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} {}", self.number, self.digest.short())
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, ExactVersion};

    #[test]
    fn a_version_prints_its_number_and_the_start_of_its_digest() {
        let version = ExactVersion { number: 3, digest: Digest::of(b"abc") };
        assert_eq!(version.to_string(), "v3 ba7816bf8f01");
    }

    #[test]
    fn a_digest_prints_as_sha256sum_does() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.short(), "ba7816bf8f01");
    }
}
