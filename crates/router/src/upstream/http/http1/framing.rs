//! How the body of a response ends, and its pieces (RFC 9112, 6 and 7).

use bytes::{Buf, Bytes, BytesMut};

use super::Http1Error;

/// Bytes of a chunk's size line, and of all trailers.
const LINE_MAX: usize = 4 << 10;

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream::http) enum Framing {
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
    Done,
}

/// The position in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream::http) enum Chunk {
    Size,
    Data(u64),
    /// The line end after the data.
    End,
    /// This many bytes of the trailers were read.
    Trailers(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Data(Bytes),
    End,
    /// More input is needed.
    More,
}

impl Framing {
    /// Takes the next piece of the body off `input`.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Taken, Http1Error> {
        loop {
            match *self {
                Self::Done => return Ok(Taken::End),
                Self::UntilClose if input.is_empty() => return Ok(Taken::More),
                Self::UntilClose => return Ok(Taken::Data(input.split().freeze())),
                Self::Length(left) => {
                    let Some(data) = piece(input, left) else { return Ok(Taken::More) };
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::Done } else { Self::Length(left) };
                    return Ok(Taken::Data(data));
                }
                Self::Chunked(Chunk::Data(left)) => {
                    let Some(data) = piece(input, left) else { return Ok(Taken::More) };
                    let left = left - data.len() as u64;
                    *self = Self::Chunked(if left == 0 { Chunk::End } else { Chunk::Data(left) });
                    return Ok(Taken::Data(data));
                }
                Self::Chunked(Chunk::Size) => match httparse::parse_chunk_size(input) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        input.advance(length);
                        *self = Self::Chunked(if size == 0 { Chunk::Trailers(0) } else { Chunk::Data(size) });
                    }
                    Ok(httparse::Status::Partial) if input.len() <= LINE_MAX => return Ok(Taken::More),
                    Ok(httparse::Status::Partial) | Err(_) => {
                        return Err(Http1Error::Malformed("the size of a chunk cannot be read"));
                    }
                },
                Self::Chunked(Chunk::End) => {
                    if input.len() < 2 {
                        return Ok(Taken::More);
                    }
                    if &input[..2] != b"\r\n" {
                        return Err(Http1Error::Malformed("a chunk is longer than it said"));
                    }
                    input.advance(2);
                    *self = Self::Chunked(Chunk::Size);
                }
                Self::Chunked(Chunk::Trailers(before)) => {
                    let end = memchr::memchr(b'\n', input);
                    let read = before + end.map_or(input.len(), |end| end + 1);
                    if read > LINE_MAX {
                        return Err(Http1Error::Malformed("its trailers are too long"));
                    }
                    let Some(end) = end else { return Ok(Taken::More) };
                    let last = input[..end].trim_ascii().is_empty();
                    input.advance(end + 1);
                    *self = if last { Self::Done } else { Self::Chunked(Chunk::Trailers(read)) };
                }
            }
        }
    }
}

/// What is there of `left` bytes.
fn piece(input: &mut BytesMut, left: u64) -> Option<Bytes> {
    let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (count > 0).then(|| input.split_to(count).freeze())
}
