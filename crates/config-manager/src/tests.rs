//! The whole of it in one process, with routers that this test plays.
