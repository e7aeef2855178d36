//! A server's words without the secrets that it was given: a program that refuses a token often prints the token.

use std::sync::{Arc, Mutex, PoisonError};

use model::{Reference, Transport};

use super::{Secret, Secrets, references_in};

/// A shorter value occurs in too many words to be recognised, and is no secret.
const SHORTEST: usize = 6;
/// This many bytes at the end of a text may be the beginning of a value.
const PART: usize = 3;
/// The values that were given last count even if nothing uses them any more: a server may repeat them a little later.
const KEPT: usize = 4;

/// The values that stood for the references of one server when they were resolved, longest first: one may be a part of
/// another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given(Vec<(Secret, Reference)>);

/// The values that nothing which a server says may show: those in use, and the last ones.
#[derive(Debug, Default)]
pub(crate) struct Echo(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The latest values are last.
    given: Vec<Arc<Given>>,
    all: Arc<Given>,
}

impl Given {
    fn of(mut forms: Vec<(Secret, Reference)>) -> Self {
        forms.sort_by(|(one, _), (other, _)| (other.0.len(), &other.0).cmp(&(one.0.len(), &one.0)));
        forms.dedup();
        Self(forms)
    }
}

impl Echo {
    pub(crate) fn given(&self, transport: &Transport, secrets: &mut Secrets) {
        let forms = references_in(transport)
            .into_iter()
            .filter_map(|reference| Some((secrets.look_up("", &reference).ok()?, reference)))
            .flat_map(|(value, reference)| forms(&value).into_iter().map(move |form| (form, reference.clone())))
            .filter(|(form, _)| form.0.len() >= SHORTEST);
        let given = Given::of(forms.collect());
        secrets.given = self.0.lock().unwrap_or_else(PoisonError::into_inner).add(given);
    }

    fn all(&self) -> Arc<Given> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// Up to `most` bytes of `said`, with references in the place of their values. What may be the beginning of a value
    /// is left out at the end, be it cut here or before.
    pub(crate) fn beginning(&self, said: &[u8], most: usize) -> String {
        let (said, all) = (String::from_utf8_lossy(&said[..said.len().min(most)]), self.all());
        let (mut shown, mut rest) = (String::new(), said.trim_end_matches(char::REPLACEMENT_CHARACTER));
        // A server may say very much: most positions are skipped by their first byte.
        let mut firsts = [false; 256];
        all.0.iter().filter_map(|(form, _)| form.0.bytes().next()).for_each(|byte| firsts[usize::from(byte)] = true);
        loop {
            let other = rest.bytes().position(|byte| firsts[usize::from(byte)]).unwrap_or(rest.len());
            shown.push_str(&rest[..other]);
            rest = &rest[other..];
            let Some(next) = rest.chars().next() else { break };
            let begins = |form: &str| form.len() > rest.len() && form.starts_with(rest);
            if rest.len() >= PART && all.0.iter().any(|(form, _)| begins(&form.0)) {
                break;
            }
            if let Some((form, reference)) = all.0.iter().find(|(form, _)| rest.starts_with(&form.0)) {
                shown.push_str(&reference.to_string());
                rest = &rest[form.0.len()..];
            } else {
                shown.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        shown
    }
}

impl Known {
    fn add(&mut self, given: Given) -> Arc<Given> {
        if let Some(at) = self.given.iter().position(|known| **known == given) {
            let again = self.given.remove(at);
            self.given.push(Arc::clone(&again));
            return again;
        }
        let mut older = (self.given.len() + 1).saturating_sub(KEPT);
        self.given.retain(|known| {
            let is_old = older > 0;
            older = older.saturating_sub(1);
            !is_old || Arc::strong_count(known) > 1
        });
        let given = Arc::new(given);
        self.given.push(Arc::clone(&given));
        self.all = Arc::new(Given::of(self.given.iter().flat_map(|given| given.0.clone()).collect()));
        given
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
        let mut secrets = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(read);
        let echo = Echo::default();
        assert_eq!(masked(&echo, "to\"ken/42"), "to\"ken/42", "none is known yet");
        echo.given(&transport, &mut secrets);
        for form in ["to\"ken/42", "to\\\"ken/42", "to%22ken%2F42"] {
            assert_eq!(
                masked(&echo, &format!("no {form}, {form}; to\"ken/42-and-more; second line; true")),
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

    fn masked(echo: &Echo, said: &str) -> String {
        echo.beginning(said.as_bytes(), usize::MAX)
    }

    /// What an endpoint does each time that it resolves the references of its server.
    fn given(echo: &Echo, value: &str) -> (Secrets, String) {
        let reference = "${file:/key}".to_owned();
        let headers = BTreeMap::from([("A".into(), reference.clone())]);
        let transport = Transport::Http { url: "http://here/mcp".into(), headers };
        let files = BTreeMap::from([("/key".to_owned(), Ok(Secret(value.to_owned())))]);
        let mut secrets = Secrets { files, ..Secrets::default() };
        echo.given(&transport, &mut secrets);
        (secrets, reference)
    }

    #[test]
    fn values_that_are_in_use_are_masked_however_often_others_were_given() {
        let echo = Echo::default();
        let in_use = given(&echo, "value-0").0.given();
        for number in 1..20 {
            given(&echo, &format!("value-{number}"));
            let (_, reference) = given(&echo, &format!("value-{number}-and-more"));
            assert_eq!(masked(&echo, "value-0"), reference);
            assert_eq!(
                masked(&echo, &format!("value-{number}-and-more, value-{number}.")),
                format!("{reference}, {reference}.")
            );
        }
        assert!(echo.0.lock().unwrap().given.len() <= KEPT + 1);
        drop(in_use);
        given(&echo, "value-20");
        assert_eq!(masked(&echo, "value-0"), "value-0", "nothing knows it any more");
    }

    #[test]
    fn wherever_a_text_is_cut_no_part_of_a_value_is_left() {
        let echo = Echo::default();
        let value = "ö-token-ö-token-42-ö";
        let (_, reference) = given(&echo, value);
        let said = format!("it is {value}, says öä");
        let said = said.as_bytes();
        for most in 0..=said.len() + 1 {
            let shown = echo.beginning(said, most);
            let (whole, cut) = (format!("it is {reference}, says öä"), &said[..most.min(said.len())]);
            assert!(whole.starts_with(&shown) || shown == "it is ö", "{shown}");
            assert!(cut.len() < "it is ".len() + value.len() || shown.contains(&reference), "{shown}");
            assert_eq!(echo.beginning(cut, usize::MAX), shown, "it may have been cut before");
        }
    }
}
