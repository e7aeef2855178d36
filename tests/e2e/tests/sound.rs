//! The acceptance lines of a sound gateway in their short forms.
