//! What can be wrong with a message, in words for the sender and as a JSON-RPC code.

use super::walk::MAX_DEPTH;
use crate::error_code::ErrorCode;

/// A refused message. `id` is the raw id to answer with, when it could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ScanError {
    pub fault: Fault,
    pub id: Option<Box<str>>,
    /// It has no `method`: if it was meant for anything, then for an answer.
    pub is_answer: bool,
}

impl ScanError {
    pub const fn code(&self) -> ErrorCode {
        self.fault.code()
    }
}

/// What was wrong. Paths are written `params._meta.progressToken`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not UTF-8: invalid byte at offset {offset}")]
    NotUtf8 { offset: usize },
    #[error("not JSON: {reason}")]
    NotJson { reason: String },
    #[error("nested more than {MAX_DEPTH} levels deep at offset {offset}")]
    TooDeep { offset: usize },
    #[error("a batch (JSON array) is not supported since protocol version 2025-06-18: send one message at a time")]
    Batch,
    #[error("expected one JSON-RPC message (a JSON object), found {found}")]
    NotAnObject { found: &'static str },
    #[error("the key `{path}` appears twice")]
    Duplicate { path: &'static str },
    #[error("the key `{found}` differs from `{path}` only in case")]
    CaseVariant { path: &'static str, found: String },
    #[error("`jsonrpc` must be \"2.0\"")]
    JsonRpc,
    #[error("`{path}` must be a string or an integer, found {found}")]
    IdType { path: &'static str, found: &'static str },
    #[error("`method` must be a string")]
    MethodType,
    #[error("`{path}` must be an object, found {found}")]
    NotObjectMember { path: &'static str, found: &'static str },
    #[error("`{path}` must be {expected}")]
    Missing { path: &'static str, expected: &'static str },
    #[error("a message needs exactly one of `method`, `result` and `error`; found {found}")]
    Shape { found: &'static str },
}

impl Fault {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotUtf8 { .. } | Self::NotJson { .. } => ErrorCode::PARSE_ERROR,
            Self::Missing { .. } => ErrorCode::INVALID_PARAMS,
            Self::TooDeep { .. }
            | Self::Batch
            | Self::NotAnObject { .. }
            | Self::Duplicate { .. }
            | Self::CaseVariant { .. }
            | Self::JsonRpc
            | Self::IdType { .. }
            | Self::MethodType
            | Self::NotObjectMember { .. }
            | Self::Shape { .. } => ErrorCode::INVALID_REQUEST,
        }
    }
}
