//! What each endpoint offered last, and what a backend offers by all its endpoints together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use mcp::{ByKind, Item, Kind};
use routing::{Having, Variants};

/// All pages of an endpoint's lists, and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    pub items: ByKind<Arc<[Arc<Item>]>>,
    /// For the model that uses them.
    pub instructions: Option<Arc<str>>,
    /// What an operator should know of its lists.
    pub warnings: Arc<[String]>,
    pub left_out: Arc<[LeftOut]>,
}

/// An element of a list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, as far as it has one.
    pub name: Box<str>,
    /// With the words of the server, short and without secrets.
    pub reason: Box<str>,
}

impl Offered {
    /// An endpoint that offers only these items.
    #[must_use]
    pub fn of(kind: Kind, items: impl IntoIterator<Item = Item>) -> Self {
        let mut offered = Self::default();
        offered.items[kind] = items.into_iter().map(Arc::new).collect();
        offered
    }

    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.items[kind].len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.items.iter().flat_map(|(_, items)| items.iter())
    }
}

/// The lists that anything offers, by a hash of each: equal ones are kept once, whatever endpoints they are of.
#[derive(Debug, Default)]
pub(crate) struct Lists(BTreeMap<u64, Weak<[Arc<Item>]>>);

impl Lists {
    /// Takes the lists that are kept already where they are equal.
    pub(crate) fn share(&mut self, offered: &mut Offered) {
        for kind in Kind::ALL {
            let list = &mut offered.items[kind];
            if list.is_empty() {
                *list = Arc::default();
                continue;
            }
            let mut hash = DefaultHasher::new();
            list.iter().for_each(|item| item.json().hash(&mut hash));
            let kept = self.0.get(&hash.finish()).and_then(Weak::upgrade).filter(|kept| kept == list);
            match kept {
                Some(kept) => *list = kept,
                // Of two lists with one hash, the later is kept.
                None => drop(self.0.insert(hash.finish(), Arc::downgrade(list))),
            }
        }
    }

    /// Forgets what nothing offers any more.
    pub(crate) fn tidy(&mut self) {
        self.0.retain(|_, list| list.strong_count() > 0);
    }
}

/// What a backend offers: for each variant, the lists of its endpoints that are up, else the last list of one of them.
/// Nothing depends on which endpoint came up first.
#[derive(Debug)]
pub struct Offer<'a> {
    /// In the order of the configuration; each list with the position of its variant.
    said: Vec<(usize, &'a Offered)>,
    /// Said by an endpoint that belongs to no present variant.
    former: bool,
}

/// All elements of one kind that a backend offers, each once, and which variants have it.
#[derive(Debug)]
pub(crate) struct Merged<'a> {
    pub(crate) items: Cow<'a, [Arc<Item>]>,
    pub(crate) having: Having,
}

impl<'a> Offer<'a> {
    pub(crate) fn new(said: Vec<(usize, &'a Offered)>) -> Option<Self> {
        (!said.is_empty()).then_some(Self { said, former: false })
    }

    /// The last list of an endpoint that the configuration does not have any more.
    pub(crate) fn former(said: &'a Offered) -> Self {
        Self { said: vec![(0, said)], former: true }
    }

    fn said(&self) -> impl Iterator<Item = &'a Offered> {
        self.said.iter().map(|(_, said)| *said)
    }

    #[must_use]
    pub fn instructions(&self) -> Option<&'a str> {
        self.said().find_map(|said| said.instructions.as_deref())
    }

    pub fn left_out(&self) -> impl Iterator<Item = &'a LeftOut> {
        self.said().flat_map(|said| said.left_out.iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.said().all(|said| said.all().next().is_none())
    }

    pub(crate) fn merged(&self, kind: Kind) -> Merged<'a> {
        if let [(variant, said)] = self.said[..] {
            let variants = if self.former { Variants::ALL } else { Variants::from_iter([variant]) };
            return Merged { items: Cow::Borrowed(&said.items[kind]), having: Having::Alike(variants) };
        }
        // By name: which of the lists had it first, and which variants have it.
        let mut having = BTreeMap::<&str, (usize, Vec<usize>)>::new();
        let mut items = Vec::new();
        for (speaker, (variant, said)) in self.said.iter().enumerate() {
            for item in said.items[kind].iter() {
                let (first, variants) = having.entry(item.name()).or_insert_with(|| (speaker, Vec::new()));
                // An item that one endpoint lists twice stays twice: that is the endpoint's fault, and shown as such.
                if *first == speaker {
                    items.push(Arc::clone(item));
                }
                variants.push(*variant);
            }
        }
        let having = having.into_iter().map(|(name, (_, variants))| (name.into(), variants.into_iter().collect()));
        Merged { items: Cow::Owned(items), having: Having::Each(having.collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Offered {
        let tool = |name: &&str| {
            let vendor = names.len();
            Item::parse(Kind::Tool, &format!(r#"{{"name":"{name}","inputSchema":{{}},"v":{vendor}}}"#)).unwrap()
        };
        Offered::of(Kind::Tool, names.iter().map(tool))
    }

    #[test]
    fn each_element_is_offered_once_as_the_first_variant_says_and_knows_who_has_it() {
        let (old, new) = (said(&["a", "b", "a"]), said(&["c", "b"]));
        let offer = Offer::new(vec![(0, &old), (2, &new)]).unwrap();
        let merged = offer.merged(Kind::Tool);
        let names: Vec<_> = merged.items.iter().map(|item| item.name()).collect();
        assert_eq!(names, ["a", "b", "a", "c"], "what one server lists twice is withheld later, and told");
        assert_eq!(merged.items[1].json(), old.items[Kind::Tool][1].json());
        for (name, variants) in [("a", [0].to_vec()), ("b", [0, 2].to_vec()), ("c", [2].to_vec())] {
            assert_eq!(merged.having.variants(name), variants.into_iter().collect(), "{name}");
        }
        assert!(offer.merged(Kind::Prompt).items.is_empty() && !offer.is_empty());
        assert!(Offer::new(Vec::new()).is_none());
    }

    #[test]
    fn equal_lists_are_kept_once() {
        let (mut lists, mut all) = (Lists::default(), [said(&["a", "b"]), said(&["a", "b"]), said(&["b"])]);
        all.iter_mut().for_each(|one| lists.share(one));
        let tools = |one: usize| &all[one].items[Kind::Tool];
        assert!(Arc::ptr_eq(tools(0), tools(1)) && *tools(2) == said(&["b"]).items[Kind::Tool]);
        lists.tidy();
        let mut again = said(&["a", "b"]);
        lists.share(&mut again);
        assert!(Arc::ptr_eq(&again.items[Kind::Tool], tools(0)));
        drop((again, all));
        lists.tidy();
        assert!(lists.0.is_empty(), "{lists:?}");
    }

    #[test]
    fn one_that_speaks_alone_is_not_copied() {
        let alone = said(&["a"]);
        let merged = Offer::new(vec![(1, &alone)]).unwrap().merged(Kind::Tool);
        assert!(matches!(merged.items, Cow::Borrowed(_)));
        assert_eq!(merged.having.variants("a"), [1].into_iter().collect());
        assert_eq!(Offer::former(&alone).merged(Kind::Tool).having.variants("a"), Variants::ALL);
    }
}
