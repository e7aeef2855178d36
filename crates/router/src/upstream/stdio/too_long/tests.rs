//! Which request a message answers is found however the message is cut.

use super::TooLong;

#[test]
fn the_id_is_found_wherever_it_stands() {
    let check = |message: &str, expected: Option<u64>| {
        for cut in 0..=message.len() {
            let mut long = TooLong::default();
            long.push(&message.as_bytes()[..cut]);
            long.push(&message.as_bytes()[cut..]);
            assert_eq!(long.answers(), expected, "{message} cut at {cut}");
            assert_eq!(long.length, message.len() as u64);
        }
    };
    check(r#"{"jsonrpc":"2.0","id":17,"result":{"id":1,"x":["}",{"id":2}]}}"#, Some(17));
    check(r#"{ "result" : {"text":"\"id\":3, \\"}, "jsonrpc":"2.0", "id" : 18 }"#, Some(18));
    check(r#"{"result":"id","id":"19"}"#, Some(19));
    check("{\"id\":20,\"error\":{\"message\":\"{[\"}}\n", Some(20));
    check(r#"{"id":21,"method":"x","params":{}}"#, None);
    check(r#"{"id":"somebody's","result":{}}"#, None);
    check("not JSON at all: \"id\":5", None);
    check("warning: }, ] \"{\" {\"id\":22,\"result\":{}}", Some(22));
}
