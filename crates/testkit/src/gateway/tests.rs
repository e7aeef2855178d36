//! The ready line, with bare addresses and with URLs.

use super::ReadyLine;

#[test]
fn addresses_and_revision_are_found() {
    for line in [
        "ready: MCP http://127.0.0.1:8080/mcp, admin 127.0.0.1:8081, ops http://127.0.0.1:8082, revision 3",
        "ready mcp=127.0.0.1:8080 admin=127.0.0.1:8081 ops=127.0.0.1:8082 revision 3",
    ] {
        let ready = ReadyLine::parse(line).unwrap();
        assert_eq!((ready.mcp.port(), ready.admin.port(), ready.ops.port(), ready.revision), (8080, 8081, 8082, 3));
    }
    assert!(ReadyLine::parse("starting with revision 3").is_none());
}
