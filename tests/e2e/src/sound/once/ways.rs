//! Ways of answering a call, and what may come of each.

use super::Transport;

/// One way. In texts, `$ID` is the id of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) said: Said,
    pub(super) heard: Heard,
    pub(super) repeated: Repeated,
    /// Over the others it would be another way's.
    pub(super) only: Option<Transport>,
}

/// What the server does once it has read the call, or before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// These messages, in the form of the transport: one body, one event each, one line each.
    Messages(&'static [&'static str]),
    /// A good answer in two pieces, so many milliseconds apart.
    Halves(u64),
    /// Signs of life for so many milliseconds, then a good answer.
    Alive(u64),
    /// A good answer after so many milliseconds of silence.
    Late(u64),
    Never,
    /// Over HTTP: a status line's end, headers, and a body.
    Status(&'static str, &'static str, &'static str),
    /// The same, before the body of the call was read.
    Early(&'static str),
    /// The session is forgotten, and the call refused with this status.
    Forgotten(&'static str),
    /// A good answer, cut off.
    Cut(Cut),
    /// On stdio: commands of a shell.
    Shell(&'static str),
}

/// Where an answer over HTTP is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Nothing,
    /// The connection is reset instead of closed.
    Reset,
    StatusLine,
    Header,
    /// Of its empty line there is only one half.
    EndOfHead,
    Head,
    Message,
    LastByte,
}

/// What the client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Result,
    /// The error that the server addressed to it.
    Theirs,
    /// An error of the gateway, which does not say that nothing was executed.
    Failure,
    TimedOut,
}

/// How often the call is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    Never,
    /// The server has not read it.
    NotExecuted,
    /// If it is idempotent, once more.
    LostBeforeAnAnswer,
    /// The same where an answer is one body. An event stream that has begun is an answer that has begun.
    LostWithinAJsonAnswer,
}

pub(super) const GOOD: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"done"}]}}"#;
pub(super) const THEIR_CODE: i64 = -32007;
pub(super) const THEIR_WORDS: &str = "the card was refused";
/// Stands in what servers say that is for operators.
pub(super) const NOT_FOR_CLIENTS: &str = "hunter2";

const THEIRS: &str = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32007,"message":"the card was refused"}}"#;
const NAMELESS: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32007,"message":"the card was refused"}}"#;
const JSON: &str = "Content-Type: application/json\r\n";
const PLAIN: &str = "password hunter2 is wrong";

const fn way(name: &'static str, said: Said, heard: Heard) -> Way {
    Way { name, said, heard, repeated: Repeated::Never, only: None }
}

const fn message(name: &'static str, said: &'static [&'static str], heard: Heard) -> Way {
    way(name, Said::Messages(said), heard)
}

const fn status(name: &'static str, headers: &'static str, body: &'static str, heard: Heard) -> Way {
    way(name, Said::Status(name, headers, body), heard)
}

const fn plain(name: &'static str) -> Way {
    status(name, "", PLAIN, Heard::Failure)
}

const fn cut(name: &'static str, at: Cut, repeated: Repeated) -> Way {
    Way { name, said: Said::Cut(at), heard: Heard::Failure, repeated, only: None }
}

/// Over every transport.
pub(super) const ANY: &[Way] = &[
    message("good", &[GOOD], Heard::Result),
    message("an error", &[THEIRS], Heard::Theirs),
    message("an error for null", &[NAMELESS], Heard::Theirs),
    message(
        "an error for nobody",
        &[r#"{"jsonrpc":"2.0","error":{"code":-32007,"message":"the card was refused"}}"#],
        Heard::Theirs,
    ),
    message("a result for null", &[r#"{"jsonrpc":"2.0","id":null,"result":{}}"#], Heard::Failure),
    message("a result for nobody", &[r#"{"jsonrpc":"2.0","result":{}}"#], Heard::Failure),
    message("another id", &[r#"{"jsonrpc":"2.0","id":987654321,"result":{}}"#], Heard::Failure),
    message("words for an id", &[r#"{"jsonrpc":"2.0","id":"mine","result":{}}"#], Heard::Failure),
    message("its id as a string", &[r#"{"jsonrpc":"2.0","id":"$ID","result":{}}"#], Heard::Result),
    message("its id as a fraction", &[r#"{"jsonrpc":"2.0","id":$ID.0,"result":{}}"#], Heard::Result),
    message("its id last", &[r#"{"result":{"id":3},"jsonrpc":"2.0","id":$ID}"#], Heard::Result),
    message("a mark before it", &["\u{feff}{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{}}"], Heard::Result),
    message("no result", &[r#"{"jsonrpc":"2.0","id":$ID}"#], Heard::Failure),
    message(
        "a result and an error",
        &[r#"{"jsonrpc":"2.0","id":$ID,"result":{},"error":{"code":1,"message":""}}"#],
        Heard::Failure,
    ),
    message("a result and no error", &[r#"{"jsonrpc":"2.0","id":$ID,"result":{},"error":null}"#], Heard::Result),
    message("no version", &[r#"{"id":$ID,"result":{}}"#], Heard::Failure),
    message("NaN", &[r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":NaN}}"#], Heard::Failure),
    message("a raw tab", &["{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"x\":\"a\tb\"}}"], Heard::Failure),
    message("half a message", &[r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":"#], Heard::Failure),
    message("a batch", &[r#"[{"jsonrpc":"2.0","id":$ID,"result":{}}]"#], Heard::Failure),
    way("in two pieces", Said::Halves(200), Heard::Result),
    way("late", Said::Late(300), Heard::Result),
    way("alive for long", Said::Alive(2_000), Heard::Result),
    way("never", Said::Never, Heard::TimedOut),
];

/// Over HTTP, with a body or a stream.
pub(super) const HTTP: &[Way] = &[
    Way {
        only: Some(Transport::Json),
        ..message("a notification only", &[r#"{"jsonrpc":"2.0","method":"notifications/message"}"#], Heard::Failure)
    },
    status("200 OK", "Content-Type: text/html\r\n", PLAIN, Heard::Failure),
    Way {
        name: "200 in gzip",
        ..status("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", PLAIN, Heard::Failure)
    },
    status("202 Accepted", "", "", Heard::Failure),
    status("204 No Content", "", "", Heard::Failure),
    status("302 Found", "Location: /elsewhere\r\n", PLAIN, Heard::Failure),
    plain("400 Bad Request"),
    Way { name: "400 with an error", ..status("400 Bad Request", JSON, THEIRS, Heard::Theirs) },
    Way { name: "400 with an error for null", ..status("400 Bad Request", JSON, NAMELESS, Heard::Theirs) },
    plain("401 Unauthorized"),
    plain("403 Forbidden"),
    plain("404 Not Found"),
    Way { name: "404 with an error", ..status("404 Not Found", JSON, THEIRS, Heard::Theirs) },
    Way { name: "404 with an error for null", ..status("404 Not Found", JSON, NAMELESS, Heard::Theirs) },
    plain("405 Method Not Allowed"),
    plain("408 Request Timeout"),
    plain("409 Conflict"),
    plain("422 Unprocessable Content"),
    status("429 Too Many Requests", "Retry-After: 1\r\n", PLAIN, Heard::Failure),
    plain("500 Internal Server Error"),
    Way { name: "500 with an error", ..status("500 Internal Server Error", JSON, THEIRS, Heard::Theirs) },
    plain("502 Bad Gateway"),
    status("503 Service Unavailable", "Retry-After: 1\r\n", PLAIN, Heard::Failure),
    plain("504 Gateway Timeout"),
    Way { repeated: Repeated::NotExecuted, ..way("413 early", Said::Early("413 Content Too Large"), Heard::Failure) },
    way("the session is forgotten, 404", Said::Forgotten("404 Not Found"), Heard::Result),
    way("the session is forgotten, 400", Said::Forgotten("400 Bad Request"), Heard::Result),
    cut("closed at once", Cut::Nothing, Repeated::LostBeforeAnAnswer),
    cut("reset at once", Cut::Reset, Repeated::LostBeforeAnAnswer),
    cut("cut in the status line", Cut::StatusLine, Repeated::LostBeforeAnAnswer),
    cut("cut in a header", Cut::Header, Repeated::LostBeforeAnAnswer),
    cut("cut in the end of the head", Cut::EndOfHead, Repeated::LostBeforeAnAnswer),
    cut("cut after the head", Cut::Head, Repeated::LostWithinAJsonAnswer),
    cut("cut in the message", Cut::Message, Repeated::LostWithinAJsonAnswer),
    cut("cut before the last byte", Cut::LastByte, Repeated::LostWithinAJsonAnswer),
    Way { only: Some(Transport::Json), ..message("more than one message", &[GOOD, GOOD], Heard::Failure) },
    Way { only: Some(Transport::Events), ..message("two answers in a stream", &[GOOD, GOOD], Heard::Result) },
    message("a broken message, then a good one", &["{oops", GOOD], Heard::Failure),
    Way { name: "200 with an empty body", ..status("200 OK", JSON, "", Heard::Failure) },
];

const fn shell(name: &'static str, commands: &'static str, heard: Heard) -> Way {
    way(name, Said::Shell(commands), heard)
}

const fn ends(name: &'static str, commands: &'static str) -> Way {
    Way { repeated: Repeated::LostBeforeAnAnswer, ..shell(name, commands, Heard::Failure) }
}

/// Over stdio. `$good` is the line of a good answer, without its end.
pub(super) const STDIO: &[Way] = &[
    message("twice", &[GOOD, GOOD], Heard::Result),
    message("an error, then a result", &[THEIRS, GOOD], Heard::Theirs),
    message(
        "a notification before it",
        &[r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#, GOOD],
        Heard::Result,
    ),
    message("a question before it", &[r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#, GOOD], Heard::Result),
    message("text on a line before it", &["starting up", GOOD], Heard::Result),
    message("empty lines before it", &["", " ", GOOD], Heard::Result),
    shell("broken lines before it", r#"printf '{oops\n[]\n\377\n%s\n' "$good""#, Heard::Result),
    shell("text on its line", r#"printf 'done: %s\n' "$good""#, Heard::Failure),
    shell("its line ends with CR LF", r#"printf '%s\r\n' "$good""#, Heard::Result),
    shell("a byte of no UTF-8", r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"x":"\351"}}\n' "$id""#, Heard::Failure),
    shell(
        "much on stderr",
        "i=0; while [ $i -lt 2000 ]; do echo hunter2 >&2; i=$((i+1)); done; printf '%s\\n' \"$good\"",
        Heard::Result,
    ),
    shell("stderr closed", r#"exec 2>&-; printf '%s\n' "$good""#, Heard::Result),
    ends("exit 0", "exit 0"),
    ends("exit 3", "echo hunter2 >&2; exit 3"),
    ends("killed", "kill -9 $$"),
    ends("terminated", "kill -15 $$"),
    ends("stdout closed", "exec 1>&-"),
    ends("half a line, then the end", r#"printf '{"jsonrpc":"2.0","id":%s,"resu' "$id"; exit 1"#),
    ends("all of a line but its end, then the end", r#"printf '%s' "$good"; exit 1"#),
];
