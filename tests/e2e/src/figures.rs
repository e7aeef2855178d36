//! What a scenario measured, and where that falls short.

use std::fmt::{self, Display, Write};

use testkit::{Fault, fault};

/// Named figures in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    list: Vec<(&'static str, String)>,
    short: Vec<String>,
}

impl Figures {
    /// A figure without a requirement.
    pub fn note(&mut self, name: &'static str, value: impl Display) {
        self.list.push((name, value.to_string()));
    }

    /// A figure, and whether it is as `wanted`.
    pub fn demand(&mut self, name: &'static str, value: impl Display, wanted: &str, holds: bool) {
        self.note(name, &value);
        if !holds {
            self.short.push(format!("{name}={value}, wanted {wanted}"));
        }
    }

    /// A count that must be zero; `found` are the things it counts.
    pub fn none<T: Display>(&mut self, name: &'static str, found: impl IntoIterator<Item = T>) {
        let found: Vec<T> = found.into_iter().collect();
        self.note(name, found.len());
        if let Some(first) = found.first() {
            self.short.push(format!("{name}={}, such as: {first}", found.len()));
        }
    }

    /// A shortfall that no figure expresses.
    pub fn falls_short(&mut self, text: impl Into<String>) {
        self.short.push(text.into());
    }

    pub fn merge(&mut self, other: Self) {
        self.list.extend(other.list);
        self.short.extend(other.short);
    }

    /// What falls short.
    pub fn shortfalls(&self) -> &[String] {
        &self.short
    }

    /// These, if nothing falls short.
    ///
    /// # Errors
    /// With all shortfalls, and the figures.
    pub fn into_result(self) -> Result<Self, Fault> {
        if self.short.is_empty() {
            return Ok(self);
        }
        Err(fault(format!("{}\n({self})", self.short.join("\n"))))
    }
}

/// `name=value`, separated by blanks.
impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.list.iter().enumerate() {
            if number > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{name}={value}")?;
        }
        Ok(())
    }
}
