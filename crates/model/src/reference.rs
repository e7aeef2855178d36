//! References to secrets inside texts: `${env:NAME}` and `${file:/path}`. They are parsed here and resolved
//! only in routers.

use std::fmt;

/// A text with references in it, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Reference(Reference),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The environment of the router.
    Env(String),
    /// The content of a file of the router's machine, without a trailing line break.
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`${{` without a closing `}}`; write `$${{` for a literal `${{`")]
    Unclosed,
    /// The word before the `:`. The rest may be a secret, and is never quoted.
    #[error("`${{{0}:…}}` is no reference; expected `${{env:NAME}}` or `${{file:/absolute/path}}`")]
    Unknown(String),
    #[error(
        "what stands between `${{` and `}}` is no reference; expected `${{env:NAME}}` or `${{file:/absolute/path}}`, \
         or `$${{` for a literal `${{`"
    )]
    NoReference,
}

impl Template {
    /// `$${` stands for a literal `${`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or(TemplateError::Unclosed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Reference(Reference::parse(&inner[..end])?));
            rest = &inner[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Text(_) => None,
        })
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some((kind, _)) if is_word(kind) => Err(TemplateError::Unknown(kind.into())),
            Some(_) | None => Err(TemplateError::NoReference),
        }
    }
}

/// Whether a text can be quoted as a slip in a keyword: no secret is that short and plain.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
        }
    }
}
