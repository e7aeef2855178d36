//! The refusals of the file's content that are on record. The record is never shortened, and a retry that ends like an
//! earlier one adds nothing to it.

use std::collections::BTreeSet;

use model::Digest;

/// How many different refusals of one content go on record by its retries; further ones are in the log output alone.
const REASONS_MAX: usize = 64;

/// One refusal of one content, identified by its [`crate::Reason::gist`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saying {
    pub digest: Digest,
    pub gist: String,
}

/// All refusals of one content that are on record, or on their way there.
#[derive(Debug, Default)]
pub(super) struct Said {
    digest: Option<Digest>,
    gists: BTreeSet<String>,
}

impl Said {
    /// Whether a retry that ends like this is new to the record.
    pub(super) fn is_new(&self, saying: &Saying) -> bool {
        self.digest != Some(saying.digest) || (self.gists.len() < REASONS_MAX && !self.gists.contains(&saying.gist))
    }

    /// The refusal is handed to the record.
    pub(super) fn say(&mut self, saying: Saying) {
        if self.digest != Some(saying.digest) {
            *self = Self { digest: Some(saying.digest), gists: BTreeSet::new() };
        }
        if self.gists.len() < REASONS_MAX {
            self.gists.insert(saying.gist);
        }
    }

    /// The record could not be written: the next retry that ends like this writes it.
    pub(super) fn take_back(&mut self, saying: &Saying) {
        if self.digest == Some(saying.digest) {
            self.gists.remove(&saying.gist);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(content: &str, gist: &str) -> Saying {
        Saying { digest: Digest::of_bytes(content.as_bytes()), gist: gist.into() }
    }

    #[test]
    fn what_was_said_of_a_content_is_no_news_in_whatever_order_it_comes_again() {
        let mut said = Said::default();
        for gist in ["r1 cannot", "r2 cannot"] {
            assert!(said.is_new(&saying("a", gist)));
            said.say(saying("a", gist));
        }
        assert!(!said.is_new(&saying("a", "r1 cannot")) && !said.is_new(&saying("a", "r2 cannot")));
        assert!(said.is_new(&saying("a", "r3 cannot")) && said.is_new(&saying("b", "r1 cannot")));
        said.say(saying("b", "r1 cannot"));
        assert!(said.is_new(&saying("a", "r1 cannot")), "another content was judged in between");
    }

    #[test]
    fn what_could_not_be_written_is_news_again() {
        let mut said = Said::default();
        said.say(saying("a", "r1 cannot"));
        said.take_back(&saying("b", "r1 cannot"));
        assert!(!said.is_new(&saying("a", "r1 cannot")));
        said.take_back(&saying("a", "r1 cannot"));
        assert!(said.is_new(&saying("a", "r1 cannot")));
    }

    #[test]
    fn reasons_that_are_others_each_time_do_not_fill_the_record() {
        let mut said = Said::default();
        let mut recorded = 0;
        for round in 0..1000 {
            let saying = saying("a", &format!("at {round} seconds"));
            if said.is_new(&saying) {
                said.say(saying);
                recorded += 1;
            }
        }
        assert_eq!((recorded, said.gists.len()), (REASONS_MAX, REASONS_MAX));
    }
}
