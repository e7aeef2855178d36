//! The acceptance lines of running anywhere and seeing everything: containers, traces, metrics, the gRPC surface, schema.

use crate::Line;

/// In the order in which they are numbered.
pub const LINES: &[Line] = &[];
