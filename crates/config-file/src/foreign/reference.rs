//! References as clients write them (`${env:X}`, `${X:-default}`, `${input:x}`, `$X`), in our words.

/// What an author should know about a reference that was carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// `${X:-default}`: of this variable.
    Default(String),
    /// `${input:id}`, which a client asks for: this variable is in its place.
    Asked { id: String, variable: String },
    /// `$X`.
    Bare(String),
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default(name) => write!(
                f,
                "the default of `${{{name}:-…}}` is not carried over; this is `${{env:{name}}}`, so set that variable \
                 where the gateway runs"
            ),
            Self::Asked { id, variable } => write!(
                f,
                "the client asks its user for `${{input:{id}}}`; this is `${{env:{variable}}}`, so set that variable \
                 where the gateway runs"
            ),
            Self::Bare(name) => write!(f, "`${name}` is taken for `${{env:{name}}}`"),
        }
    }
}

/// A reference to what only the client knows, as the name of a variable of an editor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// Variables of editors that stand for something the gateway has none of.
const OF_EDITORS: [&str; 12] = [
    "CLAUDE_PLUGIN_ROOT",
    "cwd",
    "defaultBuildTask",
    "execPath",
    "extensionInstallFolder",
    "file",
    "fileBasename",
    "fileDirname",
    "lineNumber",
    "relativeFile",
    "selectedText",
    "userDataDir",
];
const FOLDERS: [&str; 4] = ["workspaceFolder", "workspaceRoot", "CLAUDE_PROJECT_DIR", "projectRoot"];

/// A text of a client as a template of ours; `folder` is the directory of the client's project.
pub(super) fn translate(text: &str, folder: Option<&str>) -> Result<(String, Vec<Told>), Unknown> {
    if let Some(name) = text.strip_prefix('$').filter(|name| is_shouted(name)) {
        return Ok((format!("${{env:{name}}}"), vec![Told::Bare(name.to_owned())]));
    }
    let mut ours = String::new();
    let mut told = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        ours.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        rest = inside;
        // With a `$` before it, no reference is meant.
        if ours.ends_with('$') {
            ours.push_str("${");
            continue;
        }
        let Some(end) = end(inside) else {
            ours.push_str("$${");
            continue;
        };
        match one(&inside[..end], folder, &mut told)? {
            Some(piece) => {
                ours.push_str(&piece);
                rest = &inside[end + 1..];
            }
            None => ours.push_str("$${"),
        }
    }
    ours.push_str(rest);
    Ok((ours, told))
}

/// Where the reference ends: a default may have references in it.
fn end(inside: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What stands in the braces, in our words; `None` if that is no reference of any client.
fn one(inner: &str, folder: Option<&str>, told: &mut Vec<Told>) -> Result<Option<String>, Unknown> {
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let unknown = || Unknown(name.to_owned());
    let piece = match name.split_once(':') {
        Some(("env", variable)) if is_name(variable) => variable,
        Some(("input", id)) if is_id(id) => {
            let variable = shouted(id);
            told.push(Told::Asked { id: id.to_owned(), variable: variable.clone() });
            return Ok(Some(format!("${{env:{variable}}}")));
        }
        Some(("file", path)) if path.starts_with('/') => return Ok(Some(format!("${{file:{path}}}"))),
        Some(("command" | "config", what))
            if what.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) =>
        {
            return Err(unknown());
        }
        Some(_) => return Ok(None),
        None if FOLDERS.contains(&name) => {
            return folder.map(|folder| Some(folder.replace("${", "$${"))).ok_or_else(unknown);
        }
        None if name == "workspaceFolderBasename" => {
            let base = folder.and_then(|folder| folder.rsplit('/').next());
            return base.map(|base| Some(base.replace("${", "$${"))).ok_or_else(unknown);
        }
        None if OF_EDITORS.contains(&name) => return Err(unknown()),
        None if name == "userHome" => "HOME",
        None if matches!(name, "/" | "pathSeparator") => return Ok(Some("/".into())),
        None if is_name(name) => name,
        None => return Ok(None),
    };
    if default.is_some() {
        told.push(Told::Default(piece.to_owned()));
    }
    Ok(Some(format!("${{env:{piece}}}")))
}

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_shouted(name: &str) -> bool {
    is_name(name) && !name.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._- ".contains(&b))
}

/// `github-token` as the name of a variable: `GITHUB_TOKEN`.
fn shouted(id: &str) -> String {
    let upper: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if upper.starts_with(|c: char| c.is_ascii_digit()) { format!("_{upper}") } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Template;

    #[test]
    fn references_of_clients_are_ours() {
        for (theirs, ours, count) in [
            ("plain", "plain", 0),
            ("Bearer ${env:T}", "Bearer ${env:T}", 0),
            ("${T}/x${U}", "${env:T}/x${env:U}", 0),
            ("${T:-s3cret}", "${env:T}", 1),
            ("${A:-${B}}", "${env:A}", 1),
            ("${input:github-token}", "${env:GITHUB_TOKEN}", 1),
            ("${userHome}${/}x", "${env:HOME}/x", 0),
            ("${workspaceFolder}/x", "/w/p/x", 0),
            ("${workspaceFolderBasename}", "p", 0),
            ("$TOKEN", "${env:TOKEN}", 1),
            ("$token", "$token", 0),
            ("pa$$word", "pa$$word", 0),
            ("${not a name}", "$${not a name}", 0),
            ("${unclosed", "$${unclosed", 0),
            ("$${X}", "$${X}", 0),
            ("${file:/run/x}", "${file:/run/x}", 0),
            ("${vault:x}", "$${vault:x}", 0),
            ("{\"a\": {}}", "{\"a\": {}}", 0),
        ] {
            let (got, told) = translate(theirs, Some("/w/p")).unwrap();
            assert_eq!((got.as_str(), told.len()), (ours, count), "{theirs}");
            assert!(Template::parse(&got).is_ok(), "{theirs}");
            assert!(told.iter().all(|told| !told.to_string().contains("s3cret")), "{theirs}");
        }
        for theirs in ["${workspaceFolder}/x", "${command:pick}", "${config:a.b}", "${file}"] {
            assert!(translate(theirs, None).is_err(), "{theirs}");
        }
    }
}
