//! One exchange of any method: from its request to the last byte of its answer.

mod answer;
mod conclusion;
mod door;
mod fields;
mod initialize;
mod list;
pub(crate) mod listen;
mod post;
mod share;
mod streamed;
mod tools_call;
mod traced;

pub(crate) use answer::body::Body;
pub(crate) use door::serve;

#[cfg(test)]
mod tests;
