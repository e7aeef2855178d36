//! An operator's mistakes.

use std::{fs, path::PathBuf, time::Duration};

use testkit::{Fault, Gateway};

use super::peer::{Attack, Entry, Target, at_lowest_priority};

pub(super) const PEERS: &[Entry] =
    &[("documents-of-aliases", |scratch| Ok(Box::new(Aliases(scratch.file("aliases.yaml")))))];

/// A document whose aliases stand for far more than it says, judged again and again.
struct Aliases(PathBuf);

impl Attack for Aliases {
    fn act(&self, gateway: &Gateway, target: &Target) -> Result<(), Fault> {
        let mut text = String::from("version: \"1.0\"\nx0: &x0 [\"");
        text.push_str(&"z".repeat(1 << 20));
        text.push_str("\"]\n");
        for level in 1..12 {
            let below = format!("*x{}", level - 1);
            text.push_str(&format!("x{level}: &x{level} [{}]\n", vec![below; 8].join(", ")));
        }
        text.push_str("servers: []\n");
        fs::write(&self.0, text)?;
        let path = self.0.to_str().unwrap_or_default();
        at_lowest_priority(|| {
            while !target.is_over() {
                // `diff` has the gateway judge the file.
                gateway.cli(&["diff", path])?.expect(1)?;
                target.did();
                target.pause(Duration::from_millis(50));
            }
            Ok(())
        })
    }
}
