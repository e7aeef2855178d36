//! Advice on what is valid and probably a mistake: it refuses nothing, and only informs the author.

use super::check::mark_fault;
use super::{Draft, DraftTransport, Located, literal, lookalike};
use crate::{Naming, Violation};

/// Beyond it a tool with a name of usual length does not fit beside the id.
const LONG_ID: usize = 40;
/// More of them are one mistake, made often.
pub const MAX_ADVICE: usize = 100;

impl Draft {
    /// Advice to the author, each with its place, in the order of the draft.
    pub fn advice(&self) -> Vec<Violation> {
        let told = |text: &Located<String>, message| Violation::new(Some(text.at.clone()), &*text.path, message);
        let transports = self.backends.iter().filter_map(|backend| backend.transport.as_ref());
        let pair = |(name, value): &(Located<String>, Located<String>)| {
            let secret = literal::is_secret(&name.value, &value.value).then(|| literal::ADVICE.to_owned());
            let of_name = || Some(told(name, lookalike::advice(&name.value)?));
            secret.or_else(|| lookalike::advice(&value.value)).map(|advice| told(value, advice)).or_else(of_name)
        };
        let advice = transports.flat_map(|transport| match transport {
            DraftTransport::Stdio { command, args, env, .. } => {
                let command = command.iter().filter_map(|command| Some(told(command, command_advice(&command.value)?)));
                let before = std::iter::once(None).chain(args.iter().map(|arg| Some(arg.value.as_str())));
                let args = args.iter().zip(before).filter_map(|(arg, before)| {
                    let secret =
                        || literal::is_secret_argument(before, &arg.value).then(|| literal::IN_ARGUMENTS.to_owned());
                    Some(told(arg, tilde(&arg.value).or_else(secret).or_else(|| lookalike::advice(&arg.value))?))
                });
                command.chain(args).chain(env.iter().filter_map(pair)).collect()
            }
            DraftTransport::Http { urls, headers, .. } => {
                let urls = urls.iter().filter_map(|url| {
                    let secret = literal::is_secret_in_query(&url.value).then(|| literal::ADVICE.to_owned());
                    Some(told(url, secret.or_else(|| lookalike::advice(&url.value))?))
                });
                urls.chain(headers.iter().filter_map(pair)).collect::<Vec<_>>()
            }
        });
        let prefixed = self.policy.naming == Naming::Prefix;
        let ids = self.backends.iter().filter(|_| prefixed).filter_map(|backend| backend.id.as_ref());
        let ids = ids.filter_map(|id| Some(told(id, id_advice(&id.value)?)));
        let in_force = self.backends.iter().filter(|backend| backend.in_force);
        let texts = in_force.filter_map(|backend| backend.transport.as_ref()).flat_map(DraftTransport::values);
        let marks = texts.filter_map(|text| Some(told(text, mark_fault(&text.value)?)));
        marks.chain(ids).chain(advice).take(MAX_ADVICE).collect()
    }
}

impl DraftTransport {
    /// All texts that may hold references.
    fn values(&self) -> Vec<&Located<String>> {
        fn of_pairs(pairs: &[(Located<String>, Located<String>)]) -> impl Iterator<Item = &Located<String>> {
            pairs.iter().map(|(_, value)| value)
        }
        match self {
            Self::Stdio { command, args, env, cwd, .. } => {
                command.iter().chain(args).chain(of_pairs(env)).chain(cwd).collect()
            }
            Self::Http { urls, headers, .. } => urls.iter().chain(of_pairs(headers)).collect(),
        }
    }
}

/// An id that cannot stand in the names of tools as it is. A router makes the names.
fn id_advice(id: &str) -> Option<String> {
    let why = if id.contains('.') {
        "model APIs take no `.` in the name of a tool"
    } else if id.contains("__") || id.ends_with('_') {
        "`__` separates a server from its tool"
    } else if id.len() > LONG_ID {
        "the name of a tool has at most 64 letters"
    } else {
        return None;
    };
    Some(format!("{why}, so the tools of this server are shown under names that end in a number; `status` lists them"))
}

/// What is wrong with a command that looks like a line for a shell; a program of that very name may exist all the same.
fn command_advice(command: &str) -> Option<String> {
    if let Some(advice) = tilde(command).or_else(|| variable(command)).or_else(|| lookalike::advice(command)) {
        return Some(advice);
    }
    let (first, rest) = command.trim().split_once(char::is_whitespace)?;
    // A path may have spaces in it, and programs found in `PATH` have none.
    let is_line = !first.contains('/') || rest.split_whitespace().any(|word| word.starts_with('-'));
    is_line.then(|| shell_line(command)).flatten()
}

/// Why a program may not have been found under this name, if the name has that look.
pub fn command_not_found(command: &str) -> Option<String> {
    tilde(command).or_else(|| variable(command)).or_else(|| lookalike::advice(command)).or_else(|| shell_line(command))
}

/// The program, if it is one that downloads a server before it first runs it.
pub fn may_download(command: &str) -> Option<&str> {
    let program = command.rsplit('/').next()?;
    ["npx", "uvx"].contains(&program).then_some(program)
}

fn shell_line(command: &str) -> Option<String> {
    let (first, _) = command.trim().split_once(char::is_whitespace)?;
    // What comes after the name may be a secret.
    if let Some((name, _)) = first.split_once('=') {
        return Some(format!("no shell reads this: put `{}` under `env`, and arguments under `args`", shown(name)));
    }
    let first = shown(first);
    Some(format!(
        "all of this is taken for the name of one program: put arguments under `args`, and leave `{first}` here"
    ))
}

fn tilde(text: &str) -> Option<String> {
    let expands = text == "~" || text.starts_with("~/");
    expands.then(|| "no shell expands `~` here: write `${env:HOME}` for it".to_owned())
}

/// As shells write it; a reference of ours has braces and says where from.
fn variable(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    let name = &name[..end];
    (!name.is_empty()).then(|| format!("no shell expands `${0}` here: write `${{env:{0}}}` for it", shown(name)))
}

/// On one line, and not the whole of a long one.
fn shown(text: &str) -> String {
    super::check::shown(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_cannot_stand_in_names_of_tools() {
        for (id, expected) in [("my.server", "no `.`"), ("a__b", "`__`"), ("a_", "`__`"), (&"x".repeat(50), "64")] {
            let advice = id_advice(id).unwrap_or_default();
            assert!(advice.contains(expected), "{id}: {advice}");
        }
        assert_eq!(id_advice("files-2_x"), None);
    }

    #[test]
    fn commands_that_are_lines_for_a_shell() {
        for (command, expected) in [
            ("npx -y pkg", "put arguments under `args`, and leave `npx` here"),
            ("python3 /srv/server.py", "leave `python3` here"),
            ("/usr/bin/npx -y pkg", "leave `/usr/bin/npx` here"),
            ("KEY=secret npx", "put `KEY` under `env`"),
            ("~/bin/x", "write `${env:HOME}` for it"),
            ("$HOME/bin/x", "write `${env:HOME}` for it"),
        ] {
            let advice = command_advice(command).unwrap_or_default();
            assert!(advice.contains(expected) && !advice.contains("secret"), "{command}: {advice}");
            assert_eq!(command_not_found(command), Some(advice));
        }
        for command in ["npx", "/opt/My Tools/run", "${env:HOME}/bin/x", "./~x", "a~b", "", "$${HOME}"] {
            assert_eq!(command_advice(command), None, "{command}");
        }
        assert!(command_not_found("/opt/My Tools/run").is_some(), "when it is known not to be there");
        assert_eq!(command_not_found("npx"), None);
        assert_eq!(["npx", "/usr/bin/uvx", "node"].map(may_download), [Some("npx"), Some("uvx"), None]);
    }
}
