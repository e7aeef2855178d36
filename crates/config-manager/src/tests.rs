//! The whole of it in one process over in-memory gRPC, with routers that these tests play.

mod away;
mod bad;
#[cfg(feature = "failpoints")]
mod crash;
mod life;
mod rivals;
mod traces;
mod trials;
mod undone;
mod upgraded;
mod votes;
mod world;
