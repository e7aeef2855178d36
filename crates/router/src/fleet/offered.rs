//! What one endpoint offers, as it last said.

use std::sync::Arc;

use mcp::Tool;

use crate::endpoint::LeftOut;

/// All pages of an endpoint's list, and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Offered {
    pub(crate) tools: Arc<[Arc<Tool>]>,
    /// For the model that uses the tools.
    pub(crate) instructions: Option<Arc<str>>,
    /// What an operator should know of its list.
    pub(crate) warnings: Arc<[String]>,
    pub(crate) left_out: Arc<[LeftOut]>,
}
