//! How files are written, and what is seen of it.
