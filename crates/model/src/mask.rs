//! Configurations as they are shown: literals in places where a secret may stand can be told apart, but not read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Backend, EndpointSpec, Piece, Snapshot, Template, Transport, Variant};

/// Words before a credential in a header. They tell its kind and nothing else of it.
const SCHEMES: [&str; 5] = ["Basic ", "Bearer ", "Digest ", "Key ", "Token "];

/// Replaces a literal by a mark: the same mark for the same literal. A reader cannot test guesses of a literal against
/// its mark, since the mark is made with a key that is never shown.
#[derive(Clone)]
pub struct Mask {
    key: [u8; 32],
}

impl Mask {
    /// `random` is what the key is made of.
    pub fn new(random: &[u8]) -> Self {
        Self { key: blake3::derive_key("only1mcp 2025 marks in the place of literals", random) }
    }

    /// `snapshot` with a mark for every literal under `env` and `headers` and in the query of a URL. References stay,
    /// since they tell no secret. Two snapshots differ in a place once they are masked where they did before.
    pub fn snapshot(&self, snapshot: &Snapshot) -> Snapshot {
        let backends = snapshot.backends.iter().map(|backend| Arc::new(self.backend(backend).into()));
        Snapshot { policy: snapshot.policy.clone(), backends: backends.collect() }
    }

    fn backend(&self, backend: &Backend) -> Backend {
        let endpoint =
            |spec: &EndpointSpec| EndpointSpec { transport: self.transport(&spec.transport), ..spec.clone() };
        let variant = |variant: &Variant| Variant {
            endpoints: variant.endpoints.iter().map(endpoint).collect(),
            ..variant.clone()
        };
        Backend { variants: backend.variants.iter().map(variant).collect(), ..backend.clone() }
    }

    fn transport(&self, transport: &Transport) -> Transport {
        let values = |values: &BTreeMap<String, String>| {
            values.iter().map(|(name, value)| (name.clone(), self.value(value))).collect()
        };
        match transport {
            Transport::Stdio { command, args, env, cwd } => {
                Transport::Stdio { command: command.clone(), args: args.clone(), env: values(env), cwd: cwd.clone() }
            }
            Transport::Http { url, headers } => Transport::Http { url: self.url(url), headers: values(headers) },
        }
    }

    fn value(&self, text: &str) -> String {
        let Ok(Template(pieces)) = Template::parse(text) else { return self.mark(text) };
        let mut shown = String::new();
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Reference(reference) => shown.push_str(&reference.to_string()),
                Piece::Text(text) => {
                    let scheme =
                        SCHEMES.iter().find_map(|scheme| Some((at == 0).then(|| scheme_of(text, scheme))??.len()));
                    let (scheme, literal) = text.split_at(scheme.unwrap_or_default());
                    shown.push_str(scheme);
                    shown.push_str(&self.mark(literal));
                }
            }
        }
        shown
    }

    fn url(&self, text: &str) -> String {
        let Ok(Template(pieces)) = Template::parse(text) else { return self.mark(text) };
        let (mut shown, mut part) = (String::new(), Part::Place);
        for piece in &pieces {
            match piece {
                Piece::Reference(reference) => shown.push_str(&reference.to_string()),
                Piece::Text(text) => part = self.url_text(text, part, &mut shown),
            }
        }
        shown
    }

    /// Appends a literal piece of a URL that begins in `part`; returns the part in which it ends.
    fn url_text(&self, text: &str, mut part: Part, shown: &mut String) -> Part {
        let mut literal = String::new();
        for character in text.chars() {
            let next = match (part, character) {
                (Part::Place, '?') | (Part::Name | Part::Value, '&') => Some(Part::Name),
                (Part::Name, '=') => Some(Part::Value),
                (Part::Place | Part::Name | Part::Value, _) => None,
            };
            let Some(next) = next else {
                literal.push(character);
                continue;
            };
            // What has no `=` behind it may be all there is to a key.
            let shown_as = if character == '&' && matches!(part, Part::Name) { Part::Value } else { part };
            self.url_part(&std::mem::take(&mut literal), shown_as, shown);
            shown.push(character);
            part = next;
        }
        self.url_part(&literal, if matches!(part, Part::Name) { Part::Value } else { part }, shown);
        part
    }

    fn url_part(&self, literal: &str, part: Part, shown: &mut String) {
        match part {
            Part::Value => shown.push_str(&self.mark(literal)),
            Part::Place | Part::Name => shown.push_str(&literal.replace("${", "$${")),
        }
    }

    /// What stands in the place of a literal. Nothing is no secret.
    pub fn mark(&self, literal: &str) -> String {
        if literal.is_empty() {
            return String::new();
        }
        let hash = blake3::keyed_hash(&self.key, literal.as_bytes());
        format!("{MARK}{})", &hash.to_hex()[..MARK_DIGITS])
    }

    /// The first mark in a text.
    pub fn first_mark(text: &str) -> Option<&str> {
        text.match_indices(MARK).find_map(|(at, _)| {
            let mark = text.get(at..=at + MARK.len() + MARK_DIGITS)?;
            let digits = mark[MARK.len()..].strip_suffix(')')?;
            digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(mark)
        })
    }

    /// How many marks a text has.
    pub fn marks(text: &str) -> usize {
        text.matches(MARK).count()
    }
}

const MARK: &str = "***(";
const MARK_DIGITS: usize = 8;

/// Where in a URL a character stands: before the query, or in the name or the value of one of its parameters.
#[derive(Clone, Copy)]
enum Part {
    Place,
    Name,
    Value,
}

fn scheme_of<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme))
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new(b"random")
    }

    /// With `***` in the place of each mark.
    fn shown(text: &str) -> String {
        let mut parts = text.split("***(");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + "***" + part.split_once(')').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn literals_are_marked_and_references_stay() {
        for (value, expected) in [
            ("hunter2", "***"),
            ("", ""),
            ("${env:KEY}", "${env:KEY}"),
            ("Bearer ${file:/run/secret}", "Bearer ${file:/run/secret}"),
            ("bearer abc", "bearer ***"),
            ("user:pass@${env:HOST}/x", "***${env:HOST}***"),
            ("$${env:KEY}", "***"),
            ("${broken", "***"),
        ] {
            assert_eq!(shown(&mask().value(value)), expected, "{value}");
        }
        for (url, expected) in [
            ("https://h/mcp", "https://h/mcp"),
            ("https://h/mcp?key=secret&v=${env:V}&x", "https://h/mcp?key=***&v=${env:V}&***"),
            ("https://h/mcp?secret", "https://h/mcp?***"),
            ("https://h/mcp?secret&v=1", "https://h/mcp?***&v=***"),
            ("https://h/?a=b=c?&=d", "https://h/?a=***&=***"),
            ("${env:BASE}/mcp?k=pre${env:V}post", "${env:BASE}/mcp?k=***${env:V}***"),
        ] {
            assert_eq!(shown(&mask().url(url)), expected, "{url}");
        }
    }

    #[test]
    fn a_mark_is_found_wherever_it_stands_and_what_only_looks_like_one_is_none() {
        let mark = mask().mark("hunter2");
        for text in [mark.clone(), format!("Bearer {mark}"), format!("é***(***({mark})?")] {
            assert_eq!(Mask::first_mark(&text), Some(&*mark), "{text}");
        }
        for text in ["", "***", "***(", "***(1a2b3c4", "***(1a2b3c4d", "***(1A2B3C4D)", "***(hunter2!)", "***(1a2b3cé)"]
        {
            assert_eq!(Mask::first_mark(text), None, "{text}");
        }
    }

    #[test]
    fn a_mark_tells_literals_apart_and_says_nothing_of_them() {
        let (mask, other) = (mask(), Mask::new(b"another process"));
        assert_eq!(mask.value("hunter2"), mask.value("hunter2"));
        assert_ne!(mask.value("hunter2"), mask.value("hunter3"));
        assert_ne!(mask.value("hunter2"), other.value("hunter2"), "nobody can try what gives that mark");
    }
}
