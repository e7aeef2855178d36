//! A message that has no answer is done once the head of the response is there.

use testkit::Fault;

use super::{
    Cases, expect,
    http_server::{HttpServer, Reply, usual},
};

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    let ways = [
        ("202 without a length", "HTTP/1.1 202 Accepted\r\n\r\n", true),
        ("202 without a length, and no more on that connection", "HTTP/1.1 202 Accepted\r\n\r\n", false),
        ("200 with a stream that stays open", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", false),
        ("200 with JSON that never comes", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", false),
        ("202 with chunks that never end", "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("200 of a length that never comes", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", false),
    ];
    for (name, head, goes_on) in ways {
        let server = HttpServer::start(move |request, _| {
            if !request.is_notification() {
                return usual(request);
            }
            let bytes = head.as_bytes().to_vec();
            if goes_on { Reply::Keep(bytes) } else { Reply::Hold(bytes) }
        })?;
        let judged = server.clone();
        cases.http("notification-202-no-length", name, &server, move |hall, id| {
            let told = hall.call(id, "t")?;
            told.is_well()?;
            told.came_at_once()?;
            let sessions = judged.count(|request| request.method() == "initialize");
            expect(sessions == 1, "one session", sessions)
        });
    }
    Ok(())
}
