//! The opening of a session.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use mcp::initialize::{ClientInitialize, Implementation, server_result};
use mcp::{Call, ErrorCode, Id, ProtocolVersion, message};
use runtime::Span;

use super::answer::body::Body;
use super::{answer, traced};
use crate::core::Core;

/// The principal of all sessions as long as clients bring no credential of their own.
const ANONYMOUS: &str = "anonymous";

const SELF: Implementation<'static> = Implementation { name: "only1mcp", version: env!("CARGO_PKG_VERSION") };

pub(super) fn initialize(core: &Rc<Core>, id: Id<'_>, call: &Call<'_>, mut span: Option<Span>) -> Response<Body> {
    let generation = core.shared.live.load();
    let params = call.params.as_ref().map_or("{}", |params| params.raw.text());
    let client = match ClientInitialize::parse(params) {
        Ok(client) => client,
        Err(error) => {
            let text = error.to_string();
            let code = ErrorCode::INVALID_PARAMS;
            if let Some(span) = &mut span {
                traced::refuse(span, code, &text);
            }
            return answer::error(generation.revision, StatusCode::OK, Some(id.text()), code, &text);
        }
    };
    let version = ProtocolVersion::negotiate(&client.protocol_version);
    if let Some(span) = &mut span {
        span.set("mcp.protocol.version", version.as_str());
    }
    let sessions = &core.shared.sessions;
    let now = sessions.now();
    let (session, text) = core.shared.keys.seal(version, sessions.stamp(now), ANONYMOUS, client.client_info);
    sessions.begin(session, now, core.shared.bounds());
    tracing::debug!(%version, client = client.client_info, revision = generation.revision.0, "session opened");
    let result = server_result(version, SELF, generation.instructions.as_deref());
    let mut response = answer::ok(generation.revision, Bytes::from(message::result(id.text(), &result)));
    let header = HeaderValue::try_from(text).expect("base64url is a valid header");
    response.headers_mut().insert(answer::SESSION, header);
    response
}
