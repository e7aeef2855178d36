//! Which endpoint a call goes to: a table that is built once per generation and only read afterwards, and a choice
//! that is a function of the table, the present state of the endpoints, and a random number of the caller.
//!
//! Generic over the handle of an endpoint, so that nothing here knows sockets, processes or admission. Looking up and
//! choosing allocate nothing.

#![forbid(unsafe_code)]

mod pick;
mod table;

pub use pick::Load;
pub use table::{BackendRoutes, BuildError, Entry, Having, Names, Route, RouteTable, VariantRoutes, Variants};
