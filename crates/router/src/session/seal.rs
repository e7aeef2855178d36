//! The id of a session as clients carry it: base64url of nonce, ciphertext and tag (AES-256-GCM, RFC 5116).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use mcp::ProtocolVersion;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use runtime::state_dir::{Maker, PrivateFileError, create_private_file, read_private, set_aside};

use super::SessionId;

/// What a session id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) id: SessionId,
    pub(crate) version: ProtocolVersion,
    /// Milliseconds since 1970, by the clock of the router that sealed it.
    pub(crate) issued: u64,
    pub(crate) principal: String,
    /// `clientInfo` as the client wrote it, unless it was too long to carry.
    pub(crate) client_info: String,
}

/// A longer `clientInfo` is not carried.
const CLIENT_INFO_MAX: usize = 512;
/// The maximum length of an id of ours; a longer text is not decoded.
const TEXT_MAX: usize = 2048;

/// The first key seals, and all keys open: a key is rotated by putting the new one first.
pub(crate) struct Keys {
    keys: Vec<LessSafeKey>,
    /// The beginning of this process's nonces; a number follows (RFC 5116, 3.2). So no nonce comes twice, and the ends
    /// of sessions that follow each other take little room ([`super::ends`]).
    own: [u8; OWN],
    next: AtomicU64,
}

/// How many bytes of a nonce are random: two of 10,000 processes that share a key have the same ones once in 5 million
/// times. The other bytes suffice for 800 years at 10,000 sessions a second.
const OWN: usize = 6;

/// Room for more keys than any operator rotates.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the session key file cannot be used")]
    File(#[from] PrivateFileError),
    #[error("cannot create the session key file {path}")]
    Create { path: PathBuf, source: std::io::Error },
    #[error("cannot set the session key file {path} aside")]
    SetAside { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}; {}", way_out(*.maker))]
    Content { path: PathBuf, source: NoKey, maker: Maker },
}

/// Why a text holds no keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error("line {line} of the session key file is no key: expected 64 hexadecimal digits")]
    Malformed { line: usize },
    #[error("the session key file holds no key: expected 64 hexadecimal digits a line")]
    Empty,
}

fn way_out(maker: Maker) -> &'static str {
    match maker {
        Maker::Us => "restore it from a copy, or remove it: a new key is made, and all sessions begin anew",
        Maker::Operator => "write a key into it with: openssl rand -hex 32",
    }
}

impl Keys {
    /// Reads one key a line. A missing file is made, readable by its owner alone.
    ///
    /// A file of ours that ends within its only line was cut by a crash while it was made. No session was sealed with
    /// it, so it is set aside for a new one.
    pub(crate) fn load_or_create(path: &Path, maker: Maker) -> Result<Self, KeyError> {
        let Some(bytes) = read_private(path, maker, FILE_BYTES_MAX)? else { return Self::create(path, maker) };
        let text = String::from_utf8_lossy(&bytes);
        let failed = match Self::parse(&text) {
            Ok(keys) => return Ok(keys),
            Err(failed) => failed,
        };
        if maker == Maker::Us && is_cut(&text) {
            let kept_as = set_aside(path).map_err(|source| KeyError::SetAside { path: path.to_owned(), source })?;
            tracing::warn!(kept_as = %kept_as.display(), "the session key file was cut by a crash; a new key is made");
            return Self::create(path, maker);
        }
        Err(KeyError::Content { path: path.to_owned(), source: failed, maker })
    }

    /// If several processes do this at once, one makes the file and all get the same key.
    fn create(path: &Path, maker: Maker) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Create { path: path.to_owned(), source };
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| failed(std::io::Error::other("no randomness")))?;
        let text = HEXLOWER.encode(&key) + "\n";
        create_private_file(path, text.as_bytes()).map_err(failed)?;
        let bytes = read_private(path, maker, FILE_BYTES_MAX)?.unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|source| KeyError::Content {
            path: path.to_owned(),
            source,
            maker,
        })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, NoKey> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(at, line)| key(line.trim()).ok_or(NoKey::Malformed { line: at + 1 }));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(NoKey::Empty);
        }
        Ok(Self { keys, own: random(), next: AtomicU64::new(0) })
    }

    /// A new session id and the text a client gets for it.
    pub(crate) fn seal(
        &self,
        version: ProtocolVersion,
        issued: u64,
        principal: &str,
        client_info: &str,
    ) -> (SessionId, String) {
        let mut nonce = [0; NONCE_LEN];
        nonce[..OWN].copy_from_slice(&self.own);
        nonce[OWN..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()[8 + OWN - NONCE_LEN..]);
        let mut bytes = nonce.to_vec();
        let mut content = version.as_str().as_bytes().to_vec();
        content.extend_from_slice(&issued.to_be_bytes());
        content.push(u8::try_from(principal.len()).unwrap_or(u8::MAX));
        content.extend_from_slice(&principal.as_bytes()[..principal.len().min(255)]);
        if client_info.len() <= CLIENT_INFO_MAX {
            content.extend_from_slice(client_info.as_bytes());
        }
        self.keys[0]
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut content)
            .expect("a session is far below the size limit of the cipher");
        bytes.extend_from_slice(&content);
        (SessionId(nonce), URL_SAFE_NO_PAD.encode(bytes))
    }

    /// None for a text that was not sealed with one of our keys.
    pub(crate) fn open(&self, text: &str) -> Option<Sealed> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let mut buffer = [0; TEXT_MAX];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
        let (nonce, sealed) = buffer[..length].split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut content = [0; TEXT_MAX];
            let content = &mut content[..sealed.len()];
            content.copy_from_slice(sealed);
            let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), content).ok()?;
            parse(SessionId(*nonce), plain)
        })
    }
}

fn parse(id: SessionId, plain: &[u8]) -> Option<Sealed> {
    let (version, rest) = plain.split_first_chunk::<10>()?;
    let (issued, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (principal, client_info) = rest.split_at_checked(usize::from(*length))?;
    Some(Sealed {
        id,
        version: ProtocolVersion::parse(std::str::from_utf8(version).ok()?)?,
        issued: u64::from_be_bytes(*issued),
        principal: std::str::from_utf8(principal).ok()?.to_owned(),
        client_info: std::str::from_utf8(client_info).ok()?.to_owned(),
    })
}

fn random() -> [u8; OWN] {
    let mut bytes = [0; OWN];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// Whether the text is empty, or only a part of one line.
fn is_cut(text: &str) -> bool {
    text.len() < 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn key(line: &str) -> Option<LessSafeKey> {
    let bytes = HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok()?;
    // Of the length that the algorithm wants, or it is no key.
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?))
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} session key(s)", self.keys.len())
    }
}
