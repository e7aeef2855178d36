//! The id of a session as clients carry it: base64url of nonce, ciphertext and tag (AES-256-GCM, RFC 5116).

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp::ProtocolVersion;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::SessionId;

/// What a session id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) id: SessionId,
    pub(crate) version: ProtocolVersion,
    /// Seconds since 1970.
    pub(crate) issued: u64,
    pub(crate) principal: String,
    /// `clientInfo` as the client wrote it, unless it was too long to carry.
    pub(crate) client_info: String,
}

/// Content beyond this is not carried.
const CLIENT_INFO_MAX: usize = 512;
/// What an id of ours can be at most; anything longer is not looked at.
const TEXT_MAX: usize = 2048;

/// The first key seals, all of them open: a key is rotated by putting the new one first.
pub(crate) struct Keys {
    keys: Vec<LessSafeKey>,
    random: SystemRandom,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the session key file")]
    Read(#[source] std::io::Error),
    #[error("cannot create the session key file")]
    Create(#[source] std::io::Error),
    #[error("line {line} of the session key file is no key: expected 64 hexadecimal digits")]
    Malformed { line: usize },
    #[error("the session key file holds no key: expected 64 hexadecimal digits a line")]
    Empty,
}

impl Keys {
    /// One key a line; a missing file is made, readable by its owner alone.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(KeyError::Read(error)),
        }
    }

    fn create(path: &Path) -> Result<Self, KeyError> {
        use std::os::unix::fs::OpenOptionsExt;
        let random = SystemRandom::new();
        let mut key = [0; 32];
        random.fill(&mut key).map_err(|_| KeyError::Create(std::io::Error::other("no randomness")))?;
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| writeln!(file, "{text}").and_then(|()| file.sync_all()))
            .map_err(KeyError::Create)?;
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(at, line)| key(line.trim()).ok_or(KeyError::Malformed { line: at + 1 }));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self { keys, random: SystemRandom::new() }) }
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
        self.random.fill(&mut nonce).expect("the operating system has randomness");
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

    /// None for anything that was not sealed with one of our keys.
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

fn key(line: &str) -> Option<LessSafeKey> {
    let bytes: Vec<u8> = (0..32)
        .map(|i| line.get(2 * i..2 * i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
        .collect::<Option<_>>()?;
    let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
    (line.len() == 64).then(|| LessSafeKey::new(key))
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} session key(s)", self.keys.len())
    }
}
