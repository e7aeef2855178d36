//! JSON-RPC error codes as MCP uses them.
//!
//! The protocol reserves -32768..=-32000; inside it only the codes named here may be sent. What the gateway itself
//! wants to distinguish either uses [`ErrorCode::INTERNAL_ERROR`] or one of the positive codes at the end.

use std::fmt;

/// The `code` of a JSON-RPC error object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i64);

impl ErrorCode {
    /// The bytes are not JSON.
    pub const PARSE_ERROR: Self = Self(-32700);
    /// JSON, but not one JSON-RPC message.
    pub const INVALID_REQUEST: Self = Self(-32600);
    pub const METHOD_NOT_FOUND: Self = Self(-32601);
    /// Up to revision 2025-11-25.
    pub const RESOURCE_NOT_FOUND: Self = Self(-32002);
    /// Also "unknown tool".
    pub const INVALID_PARAMS: Self = Self(-32602);
    /// Anything the gateway could not do: backend gone, evicted at a drain deadline.
    pub const INTERNAL_ERROR: Self = Self(-32603);

    /// The gateway cannot take the call now: no routable endpoint, a limit reached. Nothing was executed, so a
    /// client may retry. Outside the reserved range.
    pub const UNAVAILABLE: Self = Self(1503);
    /// The call was given up at a time limit; it may have been executed.
    pub const TIMED_OUT: Self = Self(1504);
    /// The client itself gave the call up. It is still owed an answer, since HTTP has no request without one.
    pub const CANCELLED: Self = Self(1499);
    /// The call was ended at the deadline of a drain; it may have been executed.
    pub const EVICTED: Self = Self(1410);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
