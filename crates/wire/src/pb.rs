//! The generated code, one module per protobuf package.

#![allow(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::or_fun_call,
    clippy::use_self,
    clippy::unused_async,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]

pub mod words {
    pub mod v1 {
        tonic::include_proto!("only1mcp.words.v1");
    }
}
pub mod config {
    pub mod v1 {
        tonic::include_proto!("only1mcp.config.v1");
    }
}
pub mod health {
    pub mod v1 {
        tonic::include_proto!("only1mcp.health.v1");
    }
}
pub mod drain {
    pub mod v1 {
        tonic::include_proto!("only1mcp.drain.v1");
    }
}
pub mod router {
    pub mod v1 {
        tonic::include_proto!("only1mcp.router.v1");
    }
}
pub mod process {
    pub mod v1 {
        tonic::include_proto!("only1mcp.process.v1");
    }
}
