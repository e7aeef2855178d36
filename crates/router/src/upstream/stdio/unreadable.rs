//! What a line that is no MCP was meant to be: mostly a program's output to stdout, now and then an answer that cannot
//! be read. The caller must not wait for such an answer.

use super::too_long::TooLong;

/// Places at which the message may begin, if something else stands before it on the line.
const PLACES: usize = 16;
/// Bytes that are searched at the beginning and at the end of a line: a line may be as long as an answer, and the
/// thread has other children to read.
const LOOKED_AT: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// An answer; to the request with this number, if the number can be made out.
    Answer {
        to: Option<u64>,
        after_text: bool,
    },
    Other,
}

pub(super) fn meant(line: &[u8]) -> Meant {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    let head = &line[..line.len().min(LOOKED_AT)];
    let mut places = memchr::memchr_iter(b'{', head).take(PLACES).peekable();
    if places.peek().is_none() {
        // A message over several lines.
        let key = line.starts_with(b"\"jsonrpc\"");
        return if key { Meant::Answer { to: None, after_text: false } } else { Meant::Other };
    }
    for place in places {
        let mut seen = TooLong::default();
        seen.push(&head[place..]);
        let at_the_end = if seen.has_id() { None } else { last_id(&line[head.len()..]) };
        if seen.is_rpc() || seen.has_outcome() && at_the_end.is_some() {
            if seen.is_call() {
                return Meant::Other;
            }
            return Meant::Answer { to: seen.answers().or(at_the_end), after_text: place > 0 };
        }
    }
    Meant::Other
}

/// The id of a message whose end is `text`, where it stands behind the outcome.
fn last_id(text: &[u8]) -> Option<u64> {
    let tail = &text[text.len().saturating_sub(LOOKED_AT)..];
    let mut members = tail.trim_ascii_end().strip_suffix(b"}")?.rsplit(|byte| *byte == b',').take(2);
    members.find_map(|member| {
        let colon = memchr::memchr(b':', member)?;
        let (key, value) = (member[..colon].trim_ascii(), member[colon + 1..].trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (key == b"\"id\"").then(|| std::str::from_utf8(value).ok().and_then(mcp::number_of)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_only_the_ends_are_looked_at() {
        let long = "{[".repeat(30 << 20);
        let begun = tokio::time::Instant::now();
        let check = |line: String, to| {
            let expected = Meant::Answer { to, after_text: false };
            assert_eq!(meant(line.as_bytes()), expected, "{}", line.split_at(40).0);
        };
        check(format!(r#"{{"jsonrpc":"2.0","id":7,"result":{long}"#), Some(7));
        check(format!(r#"{{"jsonrpc":"2.0","result":{long},"id":7}}"#), Some(7));
        check(format!("{{\"result\":{long}, \"id\": \"7\", \"jsonrpc\": \"2.0\" }} \n"), Some(7));
        check(format!(r#"{{"jsonrpc":"2.0","result":{{"a":{long},"id":7}}}}"#), None);
        assert_eq!(meant(long.as_bytes()), Meant::Other);
        assert_eq!(meant(format!(r#"{long},"id":7}}"#).as_bytes()), Meant::Other);
        // It took seconds when all of the line was looked at from each brace; making the lines takes most of what is
        // left.
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    }

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
