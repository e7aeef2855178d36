//! What one endpoint offers, as it last said.

use std::sync::Arc;

use mcp::Tool;

/// All pages of an endpoint's list, and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    pub tools: Arc<[Arc<Tool>]>,
    /// For the model that uses the tools.
    pub instructions: Option<Arc<str>>,
    /// What an operator should know of its list.
    pub warnings: Arc<[String]>,
    pub left_out: Arc<[LeftOut]>,
}

/// An element of the list that is no usable tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, as far as it has one.
    pub tool: Box<str>,
    /// With the words of the server, short and without secrets.
    pub reason: Box<str>,
}
