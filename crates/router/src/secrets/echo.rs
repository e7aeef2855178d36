//! What a server says, without the secrets that it was given: a program that refuses a token likes to say which.

use arc_swap::ArcSwap;
use model::{Reference, Template, Transport};

use super::{Secret, Secrets};

/// A shorter value is in too many words to be told apart, and is no secret.
const SHORTEST: usize = 6;

/// The values that stood for the references of one server when they were resolved last.
#[derive(Debug, Default)]
pub(crate) struct Echo(ArcSwap<Vec<(Secret, Reference)>>);

impl Echo {
    pub(crate) fn given(&self, transport: &Transport, secrets: &Secrets) {
        let texts = transport.templates();
        let templates =
            texts.iter().filter(|(_, text)| text.contains("${")).flat_map(|(_, text)| Template::parse(text));
        let references = templates.flat_map(|template| template.references().cloned().collect::<Vec<_>>());
        let mut given: Vec<_> = references
            .filter_map(|reference| Some((secrets.look_up("", &reference).ok()?, reference)))
            .flat_map(|(value, reference)| forms(&value).into_iter().map(move |form| (form, reference.clone())))
            .filter(|(form, _)| form.0.len() >= SHORTEST)
            .collect();
        // One may be a part of another.
        given.sort_by_key(|(form, _)| std::cmp::Reverse(form.0.len()));
        given.dedup();
        self.0.store(given.into());
    }

    /// The bytes of the longest form of any of them.
    pub(super) fn longest(&self) -> usize {
        self.0.load().first().map_or(0, |(form, _)| form.0.len())
    }

    /// `said`, with references in the place of their values.
    pub(crate) fn masked(&self, mut said: String) -> String {
        for (form, reference) in &**self.0.load() {
            if said.contains(&form.0) {
                said = said.replace(&form.0, &reference.to_string());
            }
        }
        said
    }
}

/// As it is, in JSON, in a URL, and line by line, as what is said is read.
fn forms(Secret(value): &Secret) -> Vec<Secret> {
    let in_json = serde_json::Value::from(value.as_str()).to_string();
    let in_json = in_json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&in_json);
    let in_url: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let all = [value, in_json, &in_url].into_iter().chain(value.lines().map(str::trim));
    all.map(|form| Secret(form.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_was_given_is_shown_by_its_reference_however_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("${{file:{}}}", path.display())
        };
        let (token, long) = (file("token", "to\"ken/42"), file("long", "to\"ken/42-and-more\n  second line"));
        let short = file("short", "true");
        let headers = BTreeMap::from([("A".into(), format!("Bearer {token}")), ("B".into(), format!("{long}{short}"))]);
        let transport = Transport::Http { url: "http://here/mcp".into(), headers };
        let read = Secrets::of(&transport, super::super::READ_LIMIT);
        let secrets = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(read);
        let echo = Echo::default();
        assert_eq!(echo.masked("to\"ken/42".into()), "to\"ken/42", "none is known yet");
        echo.given(&transport, &secrets);
        for form in ["to\"ken/42", "to\\\"ken/42", "to%22ken%2F42"] {
            assert_eq!(
                echo.masked(format!("no {form}, {form}; to\"ken/42-and-more; second line; true")),
                format!("no {token}, {token}; {long}; {long}; true")
            );
        }
        assert!(!format!("{echo:?}").contains("ken/42"));
        assert_eq!(echo.said("no to\"ken/42,\r\n and  more").as_str(), format!("no {token}, and more"));
        // Where it is cut, no part of a secret is left: neither where it is shown to, nor where it is looked at to.
        for words in [20..400, (16 << 10) - 100..16 << 10].into_iter().flatten() {
            let gap = " ".repeat(words);
            for said in [format!("{}to\"ken/42 {gap}", "x".repeat(words.min(320))), format!("{gap}to\"ken/42{gap}")] {
                let shown = echo.said(&said).to_string();
                assert!(!shown.contains("to\"") && shown.chars().count() < 350, "{shown}");
            }
        }
    }
}
