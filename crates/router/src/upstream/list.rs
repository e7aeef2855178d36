//! All that a server offers of one kind, page by page, and what an operator should know of its list.
//!
//! A list that does not end (a cursor that comes again, pages that bring nothing new) is taken as far as it went: what
//! is there is better than nothing, and a list that counts as failed would be requested without end.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::{LeftOut, Offered};
use mcp::message::push_string;
use mcp::{Item, ItemPage, Kind};

use super::Link;
use super::ask::{ask, result_of};
use crate::beside::beside;
use crate::call::Call;
use crate::endpoint::{AskError, Endpoint, ListError};
use crate::secrets::Echo;

const MAX_PAGES: usize = 1000;
/// The names of all servers are merged whenever one of them changes: a long list of one server costs time for all.
const MAX_ITEMS: usize = ItemPage::MAX;
/// This much JSON is taken of one kind of one server: thousands of ordinary tools. It is in the list of every client
/// and is written to disk whenever something changes.
const MAX_MIB: usize = 4;
/// A longer page is read on another thread: this one serves all servers.
const LONG: usize = 64 << 10;
/// Pages in a row without anything that was not there before.
const MAX_STALE: u32 = 3;
/// How long the list of a kind may take that the server does not declare: if it fails, the server has none of that
/// kind.
const UNDECLARED: Duration = Duration::from_secs(2);
/// The names of elements that are left out are kept up to the first number, and warned of up to the second.
const KEPT: usize = 100;
const NAMED: usize = 10;

/// All pages of the lists of every kind that is served, each within `limit`.
pub(crate) async fn list_all(
    endpoint: &Arc<Endpoint>,
    link: &Arc<Link>,
    limit: Duration,
) -> Result<Offered, ListError> {
    let greeting = link.greeting();
    let mut offered = Offered::default();
    let (mut warnings, mut left_out) = (Vec::new(), Vec::new());
    for kind in Kind::SERVED.into_iter().filter(|kind| greeting.declares[*kind] || kind.is_expected()) {
        let listed = list(endpoint, link, kind, limit).await.map_err(|error| ListError { kind, error })?;
        warnings.extend(listed.warnings(greeting.declares[kind]));
        offered.items[kind] = listed.items.into();
        left_out.extend(listed.left_out);
    }
    for warning in &warnings {
        // A server may cause its list to be requested as often as it likes.
        if let Some(left_out) = endpoint.line() {
            tracing::warn!(server = %endpoint.key.backend, warning, left_out, "list");
        }
    }
    offered.warnings = warnings.into();
    offered.left_out = left_out.into();
    offered.instructions = greeting.instructions.as_deref().map(Arc::from);
    Ok(offered)
}

async fn list(endpoint: &Arc<Endpoint>, link: &Arc<Link>, kind: Kind, limit: Duration) -> Result<Listed, AskError> {
    let declared = link.greeting().declares[kind];
    let limit = if declared { limit } else { limit.min(UNDECLARED) };
    let mut listed = Listed::new(kind, endpoint.response_max(), &endpoint.echo);
    let pages = tokio::time::timeout(limit, listed.all(endpoint, link, limit)).await;
    let pages = pages.unwrap_or(Err(AskError::TimedOut { limit, key: None })).map_err(AskError::under_connect);
    match pages {
        Ok(()) => Ok(listed),
        Err(error) if declared || link.is_over() => Err(error),
        Err(_) => Ok(Listed::new(kind, 0, &endpoint.echo)),
    }
}

/// What a list has more of than the router takes of one server.
#[derive(Clone, Copy)]
enum Excess {
    Items,
    Bytes,
}

/// What the pages so far have brought.
struct Listed {
    kind: Kind,
    items: Vec<Arc<Item>>,
    /// Hashes of them, to know a page that came before.
    seen: BTreeSet<u64>,
    cursors: BTreeSet<String>,
    pages: usize,
    stale: u32,
    /// How much more may come.
    room: u64,
    left_out: Vec<LeftOut>,
    all_left_out: usize,
    /// Why the list was cut off.
    cut: Option<String>,
    /// Bytes of `items`.
    bytes: usize,
    /// What the list has too much of, if anything.
    excess: Option<Excess>,
    echo: Arc<Echo>,
}

impl Listed {
    fn new(kind: Kind, room: u64, echo: &Arc<Echo>) -> Self {
        Self {
            kind,
            items: Vec::new(),
            seen: BTreeSet::new(),
            cursors: BTreeSet::new(),
            pages: 0,
            stale: 0,
            room,
            left_out: Vec::new(),
            all_left_out: 0,
            cut: None,
            bytes: 0,
            excess: None,
            echo: Arc::clone(echo),
        }
    }

    async fn all(&mut self, endpoint: &Arc<Endpoint>, link: &Arc<Link>, limit: Duration) -> Result<(), AskError> {
        let mut cursor: Option<String> = None;
        loop {
            let params = cursor.as_deref().map(|cursor| {
                let mut params = br#"{"cursor":"#.to_vec();
                push_string(&mut params, cursor);
                params.push(b'}');
                params
            });
            let response = ask(endpoint, link, &Call::own(self.kind.list(), params.as_deref()), limit).await?;
            cursor = self.add(page_of(self.kind, response, &self.echo).await?);
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// The cursor of the next page, if there is a page worth asking for.
    fn add(&mut self, Page { page, hashes }: Page) -> Option<String> {
        self.pages += 1;
        self.all_left_out += page.refused.len();
        let room = KEPT.saturating_sub(self.left_out.len());
        self.left_out.extend(page.refused.iter().take(room).map(|(_, error)| LeftOut {
            name: self.echo.said(error.name().unwrap_or("?")).into(),
            reason: self.echo.said(error.to_string()).into(),
        }));
        // Within a page what comes twice is a fault of its own, and shown as such.
        let before = self.items.len();
        for (item, hash) in page.items.into_iter().zip(&hashes) {
            if self.seen.contains(hash) {
                continue;
            }
            if !self.has_room_for(&item) {
                return None;
            }
            self.items.push(Arc::new(item));
        }
        if page.beyond > 0 {
            self.excess = Some(Excess::Items);
            return None;
        }
        self.seen.extend(hashes);
        self.stale = if self.items.len() == before { self.stale + 1 } else { 0 };
        let next = page.next_cursor?;
        let shown = || self.echo.said(&next);
        let room = self.room.checked_sub(next.len() as u64);
        self.room = room.unwrap_or(0);
        self.cut = if self.cursors.contains(&next) {
            Some(format!("it names the cursor \"{}\" a second time", shown()))
        } else if self.stale >= MAX_STALE {
            Some(format!(
                "its last {MAX_STALE} pages brought nothing new, and there is another cursor, \"{}\"",
                shown()
            ))
        } else if self.pages == MAX_PAGES || room.is_none() {
            Some(format!("there is another cursor after {} pages", self.pages))
        } else {
            self.cursors.insert(next.clone());
            return Some(next);
        };
        None
    }

    /// If there is no room, the list ends here.
    fn has_room_for(&mut self, item: &Item) -> bool {
        let bytes = self.bytes + item.json().len();
        if self.items.len() == MAX_ITEMS {
            self.excess = Some(Excess::Items);
        } else if bytes > MAX_MIB << 20 {
            self.excess = Some(Excess::Bytes);
        } else if let Some(room) = self.room.checked_sub(item.json().len() as u64) {
            (self.bytes, self.room) = (bytes, room);
            return true;
        } else {
            self.cut = Some("it is longer than `limits.response_bytes`".to_owned());
        }
        false
    }

    fn warnings(&self, declared: bool) -> Vec<String> {
        let (kind, noun, kept) = (self.kind, self.kind.noun(), self.items.len());
        let mut warnings = Vec::new();
        if let Some(cut) = &self.cut {
            warnings.push(format!("its list of {kind} does not end: {cut}; the {kept} {kind} so far are used"));
        }
        if let Some(excess) = self.excess {
            let more = match excess {
                Excess::Items => format!("{MAX_ITEMS} {kind}, as many as are"),
                Excess::Bytes => format!("{MAX_MIB} MiB of {kind}, as much as is"),
            };
            warnings.push(format!("it lists more than {more} taken of one server; the first {kept} are used"));
        }
        let named = self.left_out.iter().take(NAMED);
        warnings.extend(named.map(|one| format!("a {noun} is left out: {}", one.reason)));
        if let Some(more) = self.all_left_out.checked_sub(NAMED).filter(|more| *more > 0) {
            warnings.push(format!("{more} more {kind} are left out"));
        }
        match (self.items.is_empty(), declared) {
            (true, true) if warnings.is_empty() => warnings.push(format!("it offers no {kind}")),
            (true, false) => {
                warnings.push(format!("it declares no capability `{}` and offers none", kind.capability()))
            }
            (false, false) => warnings.push(format!(
                "it declares no capability `{}`; those that it lists all the same are used",
                kind.capability()
            )),
            (true | false, true) => {}
        }
        warnings
    }
}

/// A page with what tells its elements from others.
struct Page {
    page: ItemPage,
    hashes: Vec<u64>,
}

impl Page {
    fn read(kind: Kind, response: &[u8], echo: &Echo) -> Result<Self, AskError> {
        let page = ItemPage::parse(kind, result_of(response, echo)?);
        Ok(Self::of(page.map_err(|error| AskError::Unusable(echo.said(error.to_string())))?))
    }

    fn of(page: ItemPage) -> Self {
        Self { hashes: page.items.iter().map(|item| hash(item.json())).collect(), page }
    }
}

async fn page_of(kind: Kind, response: Bytes, echo: &Arc<Echo>) -> Result<Page, AskError> {
    if response.len() <= LONG {
        return Page::read(kind, &response, echo);
    }
    let echo = Arc::clone(echo);
    beside(move || Page::read(kind, &response, &echo)).await
}

fn hash(json: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str], next: Option<&str>) -> ItemPage {
        let tools: Vec<_> = names.iter().map(|name| format!(r#"{{"name":"{name}","inputSchema":{{}}}}"#)).collect();
        let next = next.map(|next| format!(r#","nextCursor":"{next}""#)).unwrap_or_default();
        ItemPage::parse(Kind::Tool, &format!(r#"{{"tools":[{}]{next}}}"#, tools.join(","))).unwrap()
    }

    fn run(pages: impl Fn(Option<&str>) -> ItemPage) -> (Vec<String>, usize, Vec<String>) {
        let mut listed = Listed::new(Kind::Tool, 1 << 20, &Arc::default());
        let mut cursor: Option<String> = None;
        loop {
            cursor = listed.add(Page::of(pages(cursor.as_deref())));
            if cursor.is_none() {
                break;
            }
        }
        let names = listed.items.iter().map(|item| item.name().to_owned()).collect();
        (names, listed.pages, listed.warnings(true))
    }

    #[test]
    fn a_list_that_does_not_end_is_taken_as_far_as_it_went() {
        // The same cursor for ever, and one that is empty.
        for cursor in ["8", ""] {
            let (names, pages, warnings) = run(|_| page(&["t"], Some(cursor)));
            assert_eq!((names, pages), (vec!["t".to_owned()], 2));
            let expected = format!(
                "its list of tools does not end: it names the cursor \"{cursor}\" a second time; the 1 tools so far are used"
            );
            assert_eq!(warnings, [expected]);
        }
        // Two that take turns; always another one with the same tools; always another one with none.
        let (names, ..) = run(|cursor| match cursor {
            Some("a") => page(&["u"], Some("b")),
            _ => page(&["t"], Some("a")),
        });
        assert_eq!(names, ["t", "u"]);
        let count = |cursor: Option<&str>| cursor.map_or(0, |cursor| cursor.parse::<u32>().unwrap());
        let (names, pages, warnings) = run(|cursor| page(&["t"], Some(&(count(cursor) + 1).to_string())));
        assert_eq!((names.len(), pages, warnings.len()), (1, 4, 1));
        let (names, pages, _) = run(|cursor| page(&[], Some(&(count(cursor) + 1).to_string())));
        assert_eq!((names.len(), pages), (0, 3));
        // Always another tool: up to a bound.
        let (names, pages, warnings) = run(|cursor| {
            let at = count(cursor);
            page(&[&format!("t{at}")], Some(&(at + 1).to_string()))
        });
        assert_eq!((names.len(), pages, warnings.len()), (MAX_PAGES, MAX_PAGES, 1));
    }

    #[test]
    fn of_more_tools_than_may_be_the_first_are_used() {
        let names: Vec<_> = (0..MAX_ITEMS + 3).map(|n| format!("t{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let warning =
            ["it lists more than 10000 tools, as many as are taken of one server; the first 10000 are used".to_owned()];
        // On one page, and over several.
        let (kept, pages, warnings) = run(|_| page(&names, None));
        assert_eq!((kept.len(), pages, &warnings[..]), (MAX_ITEMS, 1, &warning[..]));
        let (kept, pages, warnings) = run(|cursor| match cursor {
            None => page(&names[..6_000], Some("b")),
            Some(_) => page(&names[6_000..], None),
        });
        assert_eq!((kept.len(), pages, &warnings[..]), (MAX_ITEMS, 2, &warning[..]));
        let (kept, _, warnings) = run(|_| page(&names[..MAX_ITEMS], None));
        assert_eq!((kept.len(), warnings.len()), (MAX_ITEMS, 0), "as many as may be");
    }

    #[test]
    fn of_more_bytes_of_tools_than_may_be_the_first_tools_are_used() {
        let taken = |listed: &mut Listed, names: &[String], each: usize| {
            let tool = |name: &String| {
                let head = format!(r#"{{"name":"{name}","inputSchema":{{}},"d":""#);
                format!(r#"{head}{}"}}"#, "d".repeat(each - head.len() - 2))
            };
            let tools: Vec<_> = names.iter().map(tool).collect();
            let result = format!(r#"{{"tools":[{}],"nextCursor":"{}"}}"#, tools.join(","), names[0]);
            listed.add(Page::of(ItemPage::parse(Kind::Tool, &result).unwrap()))
        };
        let warning = ["it lists more than 4 MiB of tools, as much as is taken of one server; the first 16 are used"];
        let names: Vec<_> = (0..MAX_ITEMS).map(|n| format!("t{n}")).collect();
        // On one page, and over several.
        for on_a_page in [20, 6] {
            let mut listed = Listed::new(Kind::Tool, 1 << 30, &Arc::default());
            let asked = names.chunks(on_a_page).take_while(|names| taken(&mut listed, names, 256 << 10).is_some());
            assert_eq!((asked.count(), listed.items.len()), (16 / on_a_page, 16));
            assert_eq!(listed.warnings(true), warning);
        }
        // Thousands of ordinary ones are taken.
        let mut listed = Listed::new(Kind::Tool, 1 << 30, &Arc::default());
        assert!(taken(&mut listed, &names[..4 << 10], 1 << 10).is_some());
        assert_eq!((listed.items.len(), listed.warnings(true).len()), (4 << 10, 0), "as many as may be");
        // One that is too long alone is left out and named; it takes no room of the others.
        let mut listed = Listed::new(Kind::Tool, 1 << 30, &Arc::default());
        taken(&mut listed, &names[..1], 5 << 20);
        taken(&mut listed, &names[1..3], 1 << 10);
        assert_eq!((listed.items.len(), &*listed.left_out[0].name), (2, "t0"));
        let expected =
            "a tool is left out: tool `t0` has 5242880 bytes of JSON, more than the 262144 that one may have";
        assert_eq!(listed.warnings(true), [expected]);
    }

    #[test]
    fn a_list_that_ends_is_whole_and_says_what_was_left_out() {
        let (names, pages, warnings) = run(|cursor| match cursor {
            None => page(&["a", "b"], Some("")),
            Some(_) => page(&["c"], None),
        });
        assert_eq!((names.len(), pages, warnings.len()), (3, 2, 0), "an empty cursor is one like any other");
        let mut listed = Listed::new(Kind::Tool, 1 << 20, &Arc::default());
        listed.add(Page::of(ItemPage::parse(Kind::Tool, r#"{"tools":[{"name":"t"}]}"#).unwrap()));
        assert_eq!(listed.warnings(true), ["a tool is left out: tool `t` has no `inputSchema` object"]);
        assert_eq!(Listed::new(Kind::Tool, 0, &Arc::default()).warnings(true), ["it offers no tools"]);
        assert_eq!(
            Listed::new(Kind::Tool, 0, &Arc::default()).warnings(false),
            ["it declares no capability `tools` and offers none"]
        );
    }
}
