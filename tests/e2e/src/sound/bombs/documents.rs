//! Documents: small ones that expand to much, large ones, and paths that are not regular files.

use std::{ffi::CString, fs, os::unix::fs::symlink, path::Path};

use testkit::Fault;

use super::{Answer, Shortfall};
use crate::Size;

/// How a document gets to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// By the command line tool alone.
    Validate,
    /// As the file that is followed.
    File,
    /// As a layer, over the admin API.
    Api,
}

pub(super) struct Bomb {
    pub(super) name: &'static str,
    pub(super) format: &'static str,
    content: Content,
    /// What is said of it.
    wanted: &'static str,
}

enum Content {
    Text(fn() -> String),
    Bytes(fn() -> Vec<u8>),
    /// What stands in the place of a file.
    Made(fn(&Path) -> Result<(), Fault>),
}

const SERVER: &str = "servers: [{ id: a, transport: { type: stdio, command: cat } }]\n";

/// Some of each kind; the large ones take a while without optimisation.
const IN_SHORT: [&str; 11] = [
    "a long text, many aliases",
    "lists of lists",
    "headers for many URLs",
    "many servers",
    "indentation",
    "tables in a line",
    "a NUL",
    "UTF-16",
    "a pipe",
    "a device",
    "a loop of links",
];

pub(super) fn all(size: Size) -> Vec<Bomb> {
    let mut all = aliases();
    all.extend(large());
    all.extend(deep());
    all.extend(toml());
    all.extend(unicode());
    all.extend(no_files());
    if size == Size::Short {
        all.retain(|bomb| IN_SHORT.contains(&bomb.name));
    }
    all
}

impl Bomb {
    fn yaml(name: &'static str, wanted: &'static str, text: fn() -> String) -> Self {
        Self { name, format: "yaml", content: Content::Text(text), wanted }
    }

    fn toml(name: &'static str, wanted: &'static str, text: fn() -> String) -> Self {
        Self { format: "toml", ..Self::yaml(name, wanted, text) }
    }

    fn bytes(name: &'static str, wanted: &'static str, bytes: fn() -> Vec<u8>) -> Self {
        Self { name, format: "yaml", content: Content::Bytes(bytes), wanted }
    }

    fn made(name: &'static str, wanted: &'static str, make: fn(&Path) -> Result<(), Fault>) -> Self {
        Self { name, format: "yaml", content: Content::Made(make), wanted }
    }

    /// A document that is no file, or no text, cannot come over the API; and the followed file is YAML.
    pub(super) fn doors(&self, size: Size) -> Vec<Door> {
        let mut doors = match (&self.content, self.format) {
            (Content::Text(_), "yaml") => vec![Door::File, Door::Api, Door::Validate],
            (Content::Text(_), _) => vec![Door::Api, Door::Validate],
            (Content::Bytes(_), _) => vec![Door::File, Door::Validate],
            (Content::Made(_), _) => vec![Door::File],
        };
        doors.truncate(size.pick(doors.len(), 1));
        doors
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Fault> {
        match &self.content {
            Content::Text(text) => fs::write(path, text())?,
            Content::Bytes(bytes) => fs::write(path, bytes())?,
            Content::Made(make) => make(path)?,
        }
        Ok(())
    }

    /// The words, in a line that says where.
    pub(super) fn wrong(&self, answer: &Answer) -> Shortfall {
        // `NAME:LINE:COLUMN:`, and a name may have colons.
        let has_place = |line: &str| {
            let parts: Vec<bool> = line.split(':').map(|part| part.parse::<u32>().is_ok()).collect();
            !matches!(self.content, Content::Text(_)) || parts.windows(2).any(|pair| pair == [true, true])
        };
        let right = answer.said.lines().any(|line| line.contains(self.wanted) && has_place(line));
        // As many words as a person reads.
        let long = answer.said.lines().map(str::len).max().filter(|longest| *longest > 2000);
        match (right, long) {
            (false, _) => Some(format!("said {:.300}", answer.said)),
            (true, Some(long)) => Some(format!("said a line of {long} bytes")),
            (true, None) => None,
        }
    }
}

/// Each level nine times the one before.
fn levels(count: usize, first: &str, spell: fn(String) -> String) -> String {
    let mut text = format!("a0: &a0 {first}\n");
    for i in 1..count {
        text.push_str(&format!("a{i}: &a{i} {}\n", spell(format!("*a{},", i - 1).repeat(9))));
    }
    text + SERVER
}

/// A long text, and many aliases of it.
fn copies(spell: fn(usize) -> String) -> String {
    let aliases: String = (0..4000).map(spell).collect();
    format!("x: &a {}\ny:\n{aliases}{SERVER}", "a".repeat(1_200_000))
}

fn aliases() -> Vec<Bomb> {
    const BYTES: &str = "expand to more than 4194304 bytes";
    const VALUES: &str = "expand to more than 100000 values";
    vec![
        Bomb::yaml("a long text, many aliases", BYTES, || copies(|_| "  - *a\n".into())),
        Bomb::yaml("a long text as keys", BYTES, || copies(|_| "  - *a : b\n".into())),
        Bomb::yaml("a long text under many keys", BYTES, || copies(|i| format!("  k{i}: *a\n"))),
        Bomb::yaml("lists of lists", VALUES, || levels(14, "[x,x,x,x]", |inner| format!("[{inner}]"))),
        Bomb::yaml("mappings of lists", VALUES, || levels(14, "[x,x,x,x]", |inner| format!("{{ k: [{inner}] }}"))),
        Bomb::yaml("merge keys of merge keys", VALUES, || {
            levels(40, "{ x: y }", |inner| format!("{{ <<: [{inner}], k: [{inner}] }}"))
        }),
        Bomb::yaml("an anchor each", VALUES, || {
            let anchors: String = (0..200_000).map(|i| format!("  - &a{i} b\n")).collect();
            format!("x:\n{anchors}{SERVER}")
        }),
        Bomb::yaml("an alias of itself", "inside the value it refers to", || format!("x: &a [*a]\n{SERVER}")),
        Bomb::yaml("servers by alias", BYTES, || {
            let env = format!("{{ K: {} }}", "v".repeat(100_000));
            let server = |i: usize| format!("- {{ id: s{i}, transport: {{ type: stdio, command: cat, env: *e }} }}\n");
            format!("$schema: &e {env}\nservers:\n{}", (0..5000).map(server).collect::<String>())
        }),
        Bomb::yaml("headers for many URLs", "headers of all endpoints have more than 33554432 bytes", || {
            let urls: String = (0..256).map(|i| format!("http://h/{i},")).collect();
            let header = "x".repeat(100_000);
            let server = |i: usize| {
                format!("- {{ id: s{i}, transport: {{ type: http, urls: [{urls}], headers: {{ A: {header} }} }} }}\n")
            };
            format!("servers:\n{}", (0..3).map(server).collect::<String>())
        }),
    ]
}

fn large() -> Vec<Bomb> {
    vec![
        Bomb::yaml("many values", "more than 250000 values", || format!("{SERVER}x:\n{}", "- 1\n".repeat(900_000))),
        Bomb::yaml("many keys", "more than 250000 values", || {
            format!("{SERVER}{}", (0..300_000).map(|i| format!("k{i}: v\n")).collect::<String>())
        }),
        Bomb::yaml("many unknown keys", "more violations are not listed", || {
            format!("{SERVER}{}", (0..100_000).map(|i| format!("k{i}: v\n")).collect::<String>())
        }),
        Bomb::yaml("one key again and again", "more violations are not listed", || {
            format!("{SERVER}{}", "naming: none\n".repeat(100_000))
        }),
        Bomb::yaml("many commas", "more than 500000 commas and opening brackets", || {
            format!("{SERVER}x: [{}]\n", "a,".repeat(900_000))
        }),
        Bomb::yaml("many servers", "expected at most 10000", || format!("servers:\n{}", "- {}\n".repeat(60_000))),
        Bomb::yaml("many URLs", "expected at most 256", || {
            let urls: String = (0..100_000).map(|i| format!("http://h/{i},")).collect();
            format!("servers: [{{ id: a, transport: {{ type: http, urls: [{urls}] }} }}]\n")
        }),
        Bomb::yaml("a long text", "unknown key", || format!("{SERVER}x: {}\n", "a".repeat(10 << 20))),
        Bomb::yaml("a long key", "unknown key", || format!("{SERVER}? {}\n: x\n", "k".repeat(10 << 20))),
        Bomb::yaml("many digits", "expected a whole number", || {
            format!("{SERVER}limits: {{ in_flight_per_endpoint: {} }}\n", "9".repeat(10 << 20))
        }),
        Bomb::yaml("many decimals", "at most three decimals", || {
            format!("{SERVER}health: {{ minimum_health_ratio: 0.{} }}\n", "1".repeat(10 << 20))
        }),
        Bomb::yaml("a number beyond all", "expected a whole number", || {
            format!("{SERVER}limits: {{ in_flight_per_endpoint: 1e999999999 }}\n")
        }),
        Bomb::yaml("a long tag", "is not understood here", || format!("{SERVER}x: !<{}> y\n", "t".repeat(5 << 20))),
        Bomb::yaml("references without an end", "without a closing", || {
            let args: String = (0..9000).map(|_| "'${',").collect();
            format!("servers: [{{ id: a, transport: {{ type: stdio, command: cat, args: [{args}] }} }}]\n")
        }),
    ]
}

fn deep() -> Vec<Bomb> {
    const DEEP: &str = "nested more than 64 levels deep";
    vec![
        Bomb::yaml("brackets", "nested too deeply", || format!("{SERVER}x: {}", "[".repeat(400_000))),
        Bomb::yaml("dashes", DEEP, || format!("{SERVER}x:\n {}", "- ".repeat(5 << 20))),
        Bomb::yaml("questions", DEEP, || format!("{SERVER}x:\n {}", "? ".repeat(5 << 20))),
        Bomb::yaml("indentation", DEEP, || {
            format!("{SERVER}{}", (0..4000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>())
        }),
    ]
}

fn toml() -> Vec<Bomb> {
    const TABLES: &str = "more than 200000 dots and opening brackets";
    vec![
        Bomb::toml("tables by dots", TABLES, || {
            (0..40_000).map(|i| format!("k{i}{} = 1\n", ".a".repeat(60))).collect()
        }),
        Bomb::toml("tables by headings", TABLES, || (0..300_000).map(|i| format!("[t{i}]\n")).collect()),
        Bomb::toml("tables in a line", TABLES, || format!("x = [{}]\n", "{a=1},".repeat(400_000))),
        Bomb::toml("words", "more than 1500000 words and signs", || format!("x = [{}]\n", "1,".repeat(990_000))),
        Bomb::toml("brackets in TOML", "nested more than 64 levels deep", || format!("x = {}", "[".repeat(150_000))),
        Bomb::toml("digits in TOML", "expected a whole number", || {
            format!("[limits]\nin_flight_per_endpoint = {}\n", "9".repeat(10 << 20))
        }),
    ]
}

fn unicode() -> Vec<Bomb> {
    vec![
        Bomb::yaml("a NUL", "control character U+0000 (NUL)", || format!("{SERVER}\0naming: none\n")),
        Bomb::yaml("an escape", "control character U+001B", || format!("# \x1b[2J\n{SERVER}")),
        Bomb::yaml("a tab as indentation", "only spaces may", || {
            format!("{SERVER}limits:\r\n\tidle: 5s\r\n{}", "# more\r\n".repeat(100_000))
        }),
        Bomb::yaml("marks on marks", "not a valid server id", || {
            SERVER.replace("id: a", &format!("id: \"a{}\"", "\u{301}".repeat(1_000_000)))
        }),
        Bomb::bytes("UTF-16", "is UTF-16; save it as UTF-8", || {
            [0xff, 0xfe].into_iter().chain(SERVER.repeat(10_000).encode_utf16().flat_map(u16::to_le_bytes)).collect()
        }),
        Bomb::bytes("a slash in two bytes", "not UTF-8 at byte", || [SERVER.as_bytes(), b"# ..\xc0\xaf..\n"].concat()),
    ]
}

fn no_files() -> Vec<Bomb> {
    vec![
        Bomb::made("a file without an end to its size", "larger than 16777216 bytes", |path| {
            Ok(fs::File::create(path)?.set_len(1 << 40)?)
        }),
        Bomb::made("a pipe", "is no regular file", |path| {
            let name = CString::new(path.to_string_lossy().as_bytes())?;
            Ok(nix::unistd::mkfifo(name.as_c_str(), nix::sys::stat::Mode::S_IRWXU)?)
        }),
        Bomb::made("a device", "is no regular file", |path| Ok(symlink("/dev/zero", path)?)),
        // The link is moved onto that name.
        Bomb::made("a loop of links", "cannot be opened", |path| Ok(symlink("only1mcp.yaml", path)?)),
        Bomb::made("a link into nothing", "there is no such file", |path| Ok(symlink("nowhere/at/all", path)?)),
    ]
}
