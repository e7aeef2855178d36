//! The gateway states what HTTP leaves open; an answer that ignores that is decoded, followed or named.

use testkit::{Client, Fault, wait};

use super::{
    Cases, expect,
    hall::{Hall, SOON},
    http_server::{EVENTS, HttpServer, JSON, Request, response, usual, usual_text},
    says,
};

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    codings(cases)?;
    redirects(cases)
}

fn codings(cases: &mut Cases) -> Result<(), Fault> {
    let event = |request: &Request| format!("data: {}\n\n", usual_text(request)).into_bytes();
    let json = |request: &Request| usual_text(request).into_bytes();
    type Body = dyn Fn(&Request) -> Vec<u8> + Send + Sync;
    let ways: [(_, _, _, Box<Body>); 5] = [
        ("gzip", "gzip", JSON, Box::new(move |request| gzip(&json(request)))),
        ("gzip in events", "gzip", EVENTS, Box::new(move |request| gzip(&event(request)))),
        ("deflate", "deflate", JSON, Box::new(move |request| deflate(&json(request)))),
        ("br", "br", JSON, Box::new(move |request| [b"\x0b\x02\x80", &json(request)[..]].concat())),
        ("identity", "identity", JSON, Box::new(json)),
    ];
    for (name, coding, media, body) in ways {
        let headers = format!("{media}Content-Encoding: {coding}\r\n");
        let server = HttpServer::start(move |request, _| {
            let coded = request.body.get("id").is_some();
            if coded { response("200 OK", &headers, body(request)) } else { usual(request) }
        })?;
        let judged = server.clone();
        cases.http("gzip-unasked", name, &server, move |hall, id| {
            decoded_or_named(hall, id, coding)?;
            let asks = |request: &Request| request.header("accept-encoding") == Some("identity");
            let others = judged.count(|request| !asks(request));
            expect(others == 0, "`Accept-Encoding: identity` in each request", format!("{others} without"))
        });
    }
    Ok(())
}

/// Whichever comes first: the tool, or a text that names the coding.
fn decoded_or_named(hall: &Hall, id: &str, coding: &str) -> Result<(), Fault> {
    let name = format!("{id}__t");
    let mut client = Client::open(hall.gateway.mcp)?;
    wait::until_true(&format!("{id}, or its trouble"), SOON, || {
        hall.in_trouble(id).is_some() || client.tools().is_ok_and(|tools| tools.contains(&name))
    })?;
    match hall.in_trouble(id) {
        Some(trouble) if coding != "identity" => says(&trouble, &["encoding", coding], &["not UTF-8"]),
        Some(trouble) => expect(false, "a server that serves", trouble),
        None => hall.serves(id),
    }
}

/// Without compressing: what matters is that it is read as what it says it is.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &stored(bytes)[..], &crc.to_le_bytes(), &length.to_le_bytes()].concat()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    [b"\x78\x01", &stored(bytes)[..], &(high << 16 | low).to_be_bytes()].concat()
}

fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    [b"\x01", &length.to_le_bytes()[..], &(!length).to_le_bytes(), bytes].concat()
}

fn redirects(cases: &mut Cases) -> Result<(), Fault> {
    let case = "redirect";
    for (name, status, absolute) in [
        ("307 to the path with a slash", "307 Temporary Redirect", false),
        ("308 to the path with a slash, by its whole URL", "308 Permanent Redirect", true),
    ] {
        let server = HttpServer::start(move |request, _| {
            let host = request.header("host").unwrap_or_default();
            let location = if absolute { format!("http://{host}/mcp/") } else { "/mcp/".to_owned() };
            if request.path == "/mcp" {
                response(status, &format!("Location: {location}\r\n"), "")
            } else {
                usual(request)
            }
        })?;
        let judged = server.clone();
        cases.http(case, name, &server, move |hall, id| {
            hall.serves(id)?;
            // Once found, it is not asked for again with each request.
            let refused = judged.count(|request| request.path == "/mcp" && request.is_call());
            expect(refused == 0, "calls where the redirect led", format!("{refused} to the old path"))
        });
    }
    let round = HttpServer::start(|request, _| {
        let location = if request.path == "/mcp" { "/mcp/" } else { "/mcp" };
        response("307 Temporary Redirect", &format!("Location: {location}\r\n"), "")
    })?;
    let judged = round.clone();
    cases.http(case, "in a circle", &round, move |hall, id| {
        says(&hall.trouble(id)?, &["307", "/mcp"], &[])?;
        let asked = judged.seen().len();
        expect(asked <= 40, "a few requests for each try", asked)
    });
    let elsewhere = HttpServer::start(|request, _| usual(request))?;
    let target = elsewhere.address();
    let leaves = HttpServer::start(move |_, _| {
        response("307 Temporary Redirect", &format!("Location: http://{target}/mcp\r\n"), "")
    })?;
    cases.http(case, "to another origin", &leaves, move |hall, id| {
        says(&hall.trouble(id)?, &["307", &target.to_string()], &[])?;
        let asked = elsewhere.seen().len();
        expect(asked == 0, "nothing sent there", asked)
    });
    Ok(())
}
