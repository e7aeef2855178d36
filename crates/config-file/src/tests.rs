//! The golden files, and what holds for all files.

mod golden;
