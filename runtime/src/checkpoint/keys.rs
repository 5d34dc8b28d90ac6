//! Encryption of what lies in a store: AES-256-GCM with a key that the operator gives, a file at a time.
//!
//! ```text
//!   0   magic `MSEN`
//!   4   version, u32 little-endian
//!   8   id of the key, 8 bytes: the first of SHA-256 over the key
//!   16  nonce, 12 bytes, random
//!   28  the content, encrypted, then the tag of 16 bytes
//! ```
//!
//! The header, the pipeline's name and the file's name in the store are associated data: a file that is put in another
//! one's place does not open. A key encrypts at most 2^32 files (random nonces), which at a thousand files a second is 49 days
//! and at ten 13 years: put a new key first before.

use std::fmt;
use std::path::Path;

use aes_gcm::aead::Generate;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use sha2::{Digest, Sha256};

const MAGIC: [u8; 4] = *b"MSEN";
const VERSION: u32 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 4 + 4 + ID_BYTES + NONCE_BYTES;

/// What encrypts and decrypts the files of a store. Neither `Debug` nor errors show a key.
#[derive(Clone)]
pub struct Keys {
    /// the first encrypts, all decrypt
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: [u8; ID_BYTES],
    cipher: Aes256Gcm,
}

/// Keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// the file cannot be read
    #[error("cannot read the key file `{path}`: {source}")]
    File {
        /// as written
        path: String,
        /// what the system said
        source: std::io::Error,
    },
    /// the variable is not set
    #[error("the environment variable `{name}`, which is to hold the key of the checkpoints, is not set")]
    Variable {
        /// its name
        name: String,
    },
    /// something that is no key
    #[error(
        "{place}: key {number} is no key: expected 64 hexadecimal digits, got {found} characters; `millstream checkpoint key` makes one"
    )]
    NoKey {
        /// where keys are read from
        place: String,
        /// which, from 1
        number: usize,
        /// its length
        found: usize,
    },
    /// no key at all
    #[error("{place} holds no key; `millstream checkpoint key` makes one")]
    Empty {
        /// where keys are read from
        place: String,
    },
    /// the system gives no random bytes
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// A file does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecryptError {
    /// it was encrypted with a key that was not given: nothing is damaged
    #[error("it is encrypted with the key {found}, which is not among those given ({known})")]
    UnknownKey { found: String, known: String },
    /// it is not encrypted, though keys were given
    #[error(
        "it is not encrypted, but the pipeline gives keys for its checkpoints; keep encrypted ones in a store of their own"
    )]
    Plain,
    #[error("expected an encrypted file with a header of {HEADER_BYTES} bytes, got {0} bytes")]
    Short(usize),
    #[error("encrypted in version {found} of the format; this build reads version {VERSION}")]
    Version { found: u32 },
    #[error("it does not open with the key {key}: it is torn, changed, or another file's content")]
    Changed { key: String },
}

impl Keys {
    /// The keys in a file: one a line, 64 hexadecimal digits; `#` begins a remark.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &format!("the key file `{shown}`")),
            Err(source) => Err(KeyError::File { path: shown, source }),
        }
    }

    /// The keys in an environment variable, with commas or spaces between them.
    pub fn from_variable(name: &str) -> Result<Self, KeyError> {
        let text = std::env::var(name).map_err(|_| KeyError::Variable { name: name.to_owned() })?;
        Self::parse(&text, &format!("the environment variable `{name}`"))
    }

    /// The keys in a text; the first encrypts. `place` is for messages.
    pub fn parse(text: &str, place: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before));
        let words = lines.flat_map(|line| line.split([',', ' ', '\t'])).filter(|word| !word.is_empty());
        let mut keys = Vec::new();
        for (number, word) in (1..).zip(words) {
            let wrong = || KeyError::NoKey { place: place.to_owned(), number, found: word.chars().count() };
            keys.push(Key::new(&unhex(word).ok_or_else(wrong)?));
        }
        if keys.is_empty() { Err(KeyError::Empty { place: place.to_owned() }) } else { Ok(Self { keys }) }
    }

    /// A new random key, as [`Keys::parse`] reads it.
    pub fn generate() -> Result<String, KeyError> {
        let key = aes_gcm::Key::<Aes256Gcm>::try_generate().map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(hex(&key))
    }

    /// `content` encrypted with the first key.
    pub(super) fn encrypt(&self, bound_to: &str, content: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.keys.first().ok_or("there is no key")?;
        let nonce = <Nonce<_> as Generate>::try_generate().map_err(|error| format!("no random bytes: {error}"))?;
        let mut file = Vec::with_capacity(HEADER_BYTES + content.len() + 16);
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&key.id);
        file.extend_from_slice(&nonce);
        let associated = associated(&file, bound_to);
        let sealed = key.cipher.encrypt(&nonce, Payload { msg: content, aad: &associated });
        file.extend_from_slice(&sealed.map_err(|_| "the content is too large to be encrypted")?);
        Ok(file)
    }

    /// The content of a file, whichever of the keys encrypted it.
    pub(super) fn decrypt(&self, bound_to: &str, file: &[u8]) -> Result<Vec<u8>, DecryptError> {
        if !is_encrypted(file) {
            return Err(DecryptError::Plain);
        }
        let short = || DecryptError::Short(file.len());
        let (header, sealed) = file.split_at_checked(HEADER_BYTES).ok_or_else(short)?;
        let (_, rest) = header.split_first_chunk::<4>().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (id, nonce) = rest.split_first_chunk::<ID_BYTES>().ok_or_else(short)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| short())?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(DecryptError::Version { found });
        }
        let key = self.keys.iter().find(|key| key.id == *id);
        let key = key.ok_or_else(|| DecryptError::UnknownKey { found: hex(id), known: self.ids() })?;
        let associated = associated(header, bound_to);
        let opened = key.cipher.decrypt(&nonce.into(), Payload { msg: sealed, aad: &associated });
        opened.map_err(|_| DecryptError::Changed { key: hex(&key.id) })
    }

    fn ids(&self) -> String {
        self.keys.iter().map(|key| hex(&key.id)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.ids())
    }
}

impl Key {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut id = [0; ID_BYTES];
        id.iter_mut().zip(Sha256::digest(bytes)).for_each(|(id, byte)| *id = byte);
        Self { id, cipher: Aes256Gcm::new(bytes.into()) }
    }
}

/// Whether a file begins as encrypted ones do.
pub(super) fn is_encrypted(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

fn associated(header: &[u8], bound_to: &str) -> Vec<u8> {
    [header, bound_to.as_bytes()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::parse(text, "the test").unwrap()
    }

    #[test]
    fn what_is_encrypted_opens_only_under_its_name_and_unchanged() {
        let keys = keys(&Keys::generate().unwrap());
        let file = keys.encrypt("orders/1/manifest", b"secret rows").unwrap();
        assert!(!file.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(keys.decrypt("orders/1/manifest", &file).unwrap(), b"secret rows");
        assert!(matches!(keys.decrypt("orders/2/manifest", &file), Err(DecryptError::Changed { .. })));
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(keys.decrypt("orders/1/manifest", &changed).is_err(), "byte {at}");
            assert!(keys.decrypt("orders/1/manifest", &file[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(keys.decrypt("orders/1/manifest", b"MSCK plain"), Err(DecryptError::Plain));
    }

    #[test]
    fn two_files_of_one_content_differ() {
        let keys = keys(&Keys::generate().unwrap());
        assert_ne!(keys.encrypt("a", b"same").unwrap(), keys.encrypt("a", b"same").unwrap());
    }

    #[test]
    fn after_a_rotation_the_first_key_encrypts_and_all_decrypt() {
        let (old, new) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        let before = keys(&old).encrypt("a", b"x").unwrap();
        let rotated = keys(&format!("{new} # since May\n\n{old}\n"));
        assert_eq!(rotated.decrypt("a", &before).unwrap(), b"x");
        let after = rotated.encrypt("a", b"y").unwrap();
        assert_eq!(keys(&new).decrypt("a", &after).unwrap(), b"y");
        let error = keys(&old).decrypt("a", &after).unwrap_err();
        assert!(matches!(error, DecryptError::UnknownKey { .. }), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_message_shows_it() {
        let key = Keys::generate().unwrap();
        let almost = key.get(1..).unwrap();
        let error = Keys::parse(almost, "`KEY`").unwrap_err().to_string();
        assert!(error.contains("key 1") && error.contains("got 63 characters") && !error.contains(almost), "{error}");
        assert!(Keys::parse(&format!("{key},+{almost}"), "x").is_err());
        assert!(matches!(Keys::parse(" # nothing\n", "x"), Err(KeyError::Empty { .. })));
        let shown = format!("{:?}", keys(&key));
        assert!(shown.len() == "Keys()".len() + 16 && !shown.contains(&key[..16]), "{shown}");
    }
}
