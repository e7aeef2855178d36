//! What a line that is no MCP was meant to be: mostly a program that prints to stdout, now and then an answer that
//! nobody can read, whose caller must not wait for it.

use super::too_long::TooLong;

/// Places at which the message may begin, if something else stands before it on the line.
const PLACES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// For an answer; to the request with this number, if that can be made out.
    Answer {
        to: Option<u64>,
        after_text: bool,
    },
    Other,
}

pub(super) fn meant(line: &[u8]) -> Meant {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    let mut places = memchr::memchr_iter(b'{', line).take(PLACES).peekable();
    if places.peek().is_none() {
        // A message over several lines.
        let key = line.starts_with(b"\"jsonrpc\"");
        return if key { Meant::Answer { to: None, after_text: false } } else { Meant::Other };
    }
    for place in places {
        let mut seen = TooLong::default();
        seen.push(&line[place..]);
        if seen.is_rpc() {
            if seen.is_call() {
                return Meant::Other;
            }
            return Meant::Answer { to: seen.answers(), after_text: place > 0 };
        }
    }
    Meant::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_programs_print() {
        let check = |line: &[u8], expected| assert_eq!(meant(line), expected, "{}", String::from_utf8_lossy(line));
        let answer = |to, after_text| Meant::Answer { to, after_text };
        check(br#"{"jsonrpc":"2.0","id":7,"result":{"x":NaN}}"#, answer(Some(7), false));
        check(b"{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"caf\xe9\"},\"id\":7}", answer(Some(7), false));
        check(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"a\tb\"}}", answer(Some(7), false));
        check(br#"{"jsonrpc":"2.0","id":7,"resu"#, answer(Some(7), false));
        check(br#"{"jsonrpc":"2.0","i"#, answer(None, false));
        check(b"{'jsonrpc': '2.0', 'id': 7, 'result': {}}", answer(Some(7), false));
        check(b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":}", answer(Some(7), false));
        check(br#"50 % {of it} {"jsonrpc":"2.0","id":7,"result":{}}"#, answer(Some(7), true));
        check(br#"> {"jsonrpc":"2.0","id":7,"result":{}}"#, answer(Some(7), true));
        check(br#"{"jsonrpc":"2.0","id":7,"result":{}}Content-Length: 20"#, answer(Some(7), false));
        check(br#"  "jsonrpc": "2.0","#, answer(None, false));
        check(br#"got {"jsonrpc":"2.0","id":7,"method":"tools/call"}"#, Meant::Other);
        check(br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":NaN}}"#, Meant::Other);
        check(br#"{"level":"warn","msg":"retrying","error":"ENOENT"}"#, Meant::Other);
        check(br#"loaded {"a":1} and "jsonrpc" tools"#, Meant::Other);
        check(b"Content-Length: 52", Meant::Other);
        check(b"", Meant::Other);
    }
}
