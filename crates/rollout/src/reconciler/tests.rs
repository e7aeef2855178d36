//! Rules of the reconciler, one by one.
