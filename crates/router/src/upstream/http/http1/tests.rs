//! Responses in any division, and what is refused rather than guessed.

use proptest::prelude::*;

use super::*;

/// Reads a whole response that arrives in the given pieces.
fn read(pieces: &[&[u8]], closes: bool) -> Result<(Head, Vec<u8>, Framing), String> {
    let mut input = BytesMut::new();
    let mut pieces = pieces.iter();
    let mut head = None;
    let mut framing = Framing::Done;
    let mut body = Vec::new();
    loop {
        if head.is_none() {
            head = parse(&mut input).map_err(|error| error.to_string())?;
            framing = head.as_ref().map_or(framing, |head| head.framing);
        }
        if head.is_some() {
            match framing.take(&mut input).map_err(|error| error.to_string())? {
                Taken::Data(data) => {
                    body.extend_from_slice(&data);
                    continue;
                }
                Taken::End => break,
                Taken::More => {}
            }
        }
        match pieces.next() {
            Some(piece) => input.extend_from_slice(piece),
            None if closes && framing == Framing::UntilClose => break,
            None => return Err("it ends too early".into()),
        }
    }
    Ok((head.unwrap(), body, framing))
}

fn check(response: &str, body: &str, reusable: bool) {
    let (head, read, _) = read(&[response.as_bytes()], true).unwrap_or_else(|error| panic!("{response:?}: {error}"));
    assert_eq!((String::from_utf8(read).unwrap().as_str(), head.reusable), (body, reusable), "{response:?}");
}

#[test]
fn bodies_end_where_the_head_says() {
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", true);
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true);
    check("HTTP/1.1 204 No Content\r\n\r\n", "", true);
    check("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "", false);
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n!\r\n\r\n0\r\n\r\n",
        "hi!\r\n",
        true,
    );
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\na: b\r\nc: d\r\n\r\n", "", true);
    check("HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", false);
    check("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", false);
    check("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", "hi", true);
}

#[test]
fn what_could_be_read_two_ways_is_refused() {
    let check = |response: &str, expected: &str| {
        let error = read(&[response.as_bytes()], true).unwrap_err();
        assert!(error.contains(expected), "{response:?}: {error}");
    };
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!", "two lengths");
    check("HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi", "no number");
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "a length and chunks");
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not chunked");
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n", "longer than it said");
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxy\r\n", "size of a chunk");
    check("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi", "too early");
    check("SSH-2.0-OpenSSH\r\n\r\n", "cannot be read");
}

proptest! {
    /// However a response is divided, it is the same one; and no bytes make it panic.
    #[test]
    fn division_does_not_matter(chunks in prop::collection::vec("[a-z\r\n]{1,40}", 0..6), cuts in prop::collection::vec(0usize..400, 0..12)) {
        let mut response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            response.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        response.extend_from_slice(b"0\r\n\r\n");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % response.len()).collect();
        cuts.extend([0, response.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &response[cut[0]..cut[1]]).collect();
        let (_, body, framing) = read(&pieces, false).unwrap();
        prop_assert_eq!(String::from_utf8(body).unwrap(), chunks.concat());
        prop_assert_eq!(framing, Framing::Done);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), chunked: bool) {
        let mut response = b"HTTP/1.1 200 OK\r\n".to_vec();
        response.extend_from_slice(if chunked { b"transfer-encoding: chunked\r\n\r\n" } else { b"\r\n" });
        response.extend_from_slice(&bytes);
        drop(read(&[&response], true));
        drop(read(&[&bytes], true));
    }
}

/// Both ends of a connection to a server.
async fn connected() -> (Connection, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    (Connection::new(Stream::Plain(ours.unwrap())), theirs.unwrap().0)
}

/// Bytes that are read ahead of a client that takes nothing are held for that client.
#[tokio::test]
async fn no_more_is_read_ahead_than_asked_for() {
    const CHUNK: usize = 1 << 20;
    for ahead in [0, READ_MAX] {
        let (mut ours, mut theirs) = connected().await;
        let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &[b'x'; CHUNK], b"\r\n0\r\n\r\n"].concat();
        let (mut framing, mut left, mut longest) = (Framing::Chunked(Chunk::Size), CHUNK, 0);
        let read = async {
            while let Some(piece) = poll_fn(|context| ours.poll_body(&mut framing, ahead, context)).await.unwrap() {
                left -= piece.len();
                longest = longest.max(piece.len());
            }
        };
        let (written, ()) = tokio::join!(tokio::io::AsyncWriteExt::write_all(&mut theirs, &chunk), read);
        written.unwrap();
        assert_eq!((left, framing), (0, Framing::Done));
        assert_eq!(longest <= 2 * READ, ahead == 0, "{longest} with {ahead}");
    }
}

/// Bytes whose release is reported to the receiver.
struct Told(Vec<u8>, #[expect(dead_code, reason = "it is dropped with the rest")] tokio::sync::oneshot::Sender<()>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn request(length: usize) -> (Request<'static>, tokio::sync::oneshot::Receiver<()>) {
    let (told, dropped) = tokio::sync::oneshot::channel();
    let body = Bytes::from_owner(Told(vec![b'x'; length], told));
    (Request { head: Cow::Borrowed(b"POST /mcp HTTP/1.1\r\n"), body }, dropped)
}

#[tokio::test]
async fn a_long_body_is_dropped_when_it_is_written_though_the_answer_is_still_to_come() {
    let (mut ours, mut theirs) = connected().await;
    let (mut request, dropped) = request(4 << 20);
    let server = async {
        let mut read = Vec::new();
        while read.len() < 4 << 20 {
            tokio::io::AsyncReadExt::read_buf(&mut theirs, &mut read).await.unwrap();
        }
        dropped.await.unwrap_err();
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    let (head, ()) = tokio::join!(ours.exchange(&mut request), server);
    assert_eq!(head.unwrap().status, 204);
}

#[tokio::test]
async fn a_long_body_of_which_nothing_was_written_may_go_again() {
    let (mut ours, _theirs) = connected().await;
    SockRef::from(ours.stream.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
    for length in [JOINED_MAX, JOINED_MAX + 1] {
        let (mut request, _dropped) = request(length);
        let failed = ours.exchange(&mut request).await.unwrap_err();
        assert_eq!((failed.sent, request.body.len()), (false, length));
    }
}

#[tokio::test]
async fn a_connection_over_which_a_request_was_refused_is_not_used_again() {
    for (status, again) in [("200 OK", true), ("202 Accepted", true), ("413 Too Large", false), ("503 Busy", false)] {
        let (mut ours, mut theirs) = connected().await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut theirs, answer.as_bytes()).await.unwrap();
        let (mut request, _dropped) = request(1);
        assert_eq!(ours.exchange(&mut request).await.unwrap().reusable, again, "{status}");
    }
}
