//! Whether the programs that a configuration starts are on this machine.

use std::{env, ffi::OsString, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use config_file::Program;
use model::{Piece, Template, Violation};

/// Advice about each program that this machine does not have, which counts where a router runs here.
pub(super) fn missing<'a>(programs: impl Iterator<Item = Program<'a>>) -> Vec<Violation> {
    let inherited = env::var_os("PATH");
    let missing = programs.filter_map(|Program { command, path }| {
        let name = literal(&command.value)?;
        // What is wrong with such a name is said already.
        if model::command_not_found(&name).is_some() {
            return None;
        }
        let path = match path {
            Some(path) => OsString::from(literal(path)?),
            None => inherited.clone()?,
        };
        let why = fault(&name, &path)?;
        let message = format!("{why}; a router that runs here cannot start it");
        Some(Violation::new(Some(command.at.clone()), &*command.path, message))
    });
    missing.collect()
}

/// The text, if it holds no reference: what that stands for only a router knows.
fn literal(text: &str) -> Option<String> {
    let pieces = Template::parse(text).ok()?.0;
    let texts = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Reference(_) => None,
    });
    texts.collect()
}

fn fault(name: &str, path: &OsString) -> Option<String> {
    if name.starts_with('/') {
        return match fs::metadata(name) {
            Ok(file) if !file.is_file() => Some("this is no file".to_owned()),
            Ok(file) if !is_executable(&file) => Some("this file may not be executed (`chmod +x`)".to_owned()),
            Ok(_) => None,
            Err(error) => Some(format!("there is no such program here ({})", error.kind())),
        };
    }
    // Where a relative path begins is the router's directory, or `cwd`.
    let found =
        |folder: PathBuf| fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file() && is_executable(&file));
    let is_there = name.contains('/') || env::split_paths(path).any(found);
    (!is_there).then(|| "no program of this name is in `PATH` here".to_owned())
}

fn is_executable(file: &fs::Metadata) -> bool {
    file.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told() {
        let here = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = here.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let (program, text) = (file("program", 0o755), file("text", 0o644));
        let path = OsString::from(here.path());
        let folder = here.path().display().to_string();
        for (name, expected) in [
            ("program", None),
            (&program, None),
            ("./anything", None),
            ("text", Some("no program of this name is in `PATH` here")),
            ("npxx", Some("no program of this name is in `PATH` here")),
            (&text, Some("this file may not be executed (`chmod +x`)")),
            (&folder, Some("this is no file")),
            ("/no/such/program", Some("there is no such program here (entity not found)")),
        ] {
            assert_eq!(fault(name, &path).as_deref(), expected, "{name}");
        }
        assert_eq!((literal("a$${b}"), literal("${env:HOME}/x")), (Some("a${b}".into()), None));
    }
}
