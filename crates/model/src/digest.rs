//! Content by its hash: equal digest, nothing to do.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// BLAKE3 of canonical JSON: object keys sorted, no white space, keys at their default value left out, so
/// that a key added in a later release changes no digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// That of the canonical JSON of a value.
    pub fn of<T: Serialize>(value: &T) -> Self {
        Self::of_bytes(&canonical_json(value))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..4])
    }
}

/// The form of a value from which its digest is made, and in which it is stored and sent.
pub fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    // By way of `Value`, whose objects are sorted maps.
    let value = serde_json::to_value(value).expect("our own types have text keys and finite numbers");
    serde_json::to_vec(&value).expect("a JSON value can be written")
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| format!("a digest is 64 hex digits, not `{text}`"))
    }
}
