//! The whole of it in one process over in-memory gRPC, with routers that these tests play.

mod bad;
mod life;
mod votes;
mod world;
