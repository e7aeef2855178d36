//! Words of a server in what is kept, logged and shown of it.

use std::fmt;

use super::Echo;

/// Bytes of a server's words that are looked at, and characters that are kept.
const LOOKED_AT: usize = 16 << 10;
const KEPT: usize = 300;

/// What a server said: without the secrets that it was given, on one line, and short. Only [`Echo::said`] makes one, so
/// whatever holds a `Said` instead of a text is short and shows no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(Box<str>);

impl Echo {
    /// All or the beginning of `words`, with their length if it is not all.
    pub(crate) fn said(&self, words: impl AsRef<[u8]>) -> Said {
        let words = words.as_ref();
        let text = self.beginning(words, LOOKED_AT);
        let mut cut = words.len() > LOOKED_AT;
        // Again, for a secret that stood on several lines.
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = self.beginning(line.as_bytes(), line.len());
        if let Some((end, _)) = text.char_indices().nth(KEPT) {
            text.truncate(end);
            cut = true;
        }
        if cut {
            text += &format!("… (the beginning of {} bytes)", words.len());
        }
        Said(text.into())
    }
}

impl Said {
    /// With words of ours around it.
    pub(crate) fn set_in(&self, ours: impl FnOnce(&str) -> String) -> Self {
        Self(ours(&self.0).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Said> for Box<str> {
    fn from(said: Said) -> Self {
        said.0
    }
}
