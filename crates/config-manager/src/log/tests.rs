//! What is in the file after which step.
