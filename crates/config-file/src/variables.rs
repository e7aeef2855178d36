//! The environment variables that servers name in their references.

use std::collections::BTreeSet;

use model::{Draft, DraftTransport, Located, Piece, Reference, Template};

/// Their names, each once, with the first place that names it. Of servers that are switched off there are none.
pub(crate) fn named(draft: &Draft) -> Vec<Located<String>> {
    let enabled = draft.backends.iter().filter(|backend| backend.policy.enabled);
    let texts = enabled.filter_map(|backend| backend.transport.as_ref()).flat_map(texts);
    let mut seen = BTreeSet::new();
    texts.flat_map(of_text).filter(|name| seen.insert(name.value.clone())).collect()
}

fn texts(transport: &DraftTransport) -> Vec<&Located<String>> {
    fn values(pairs: &[(Located<String>, Located<String>)]) -> impl Iterator<Item = &Located<String>> {
        pairs.iter().map(|(_, value)| value)
    }
    match transport {
        DraftTransport::Stdio { command, args, env, cwd, .. } => {
            command.iter().chain(args).chain(values(env)).chain(cwd).collect()
        }
        DraftTransport::Http { urls, headers, .. } => urls.iter().chain(values(headers)).collect(),
    }
}

fn of_text(text: &Located<String>) -> Vec<Located<String>> {
    let Ok(Template(pieces)) = Template::parse(&text.value) else { return Vec::new() };
    let name = |piece| match piece {
        Piece::Reference(Reference::Env(name)) => {
            Some(Located { value: name, at: text.at.clone(), path: text.path.clone() })
        }
        Piece::Reference(Reference::File(_)) | Piece::Text(_) => None,
    };
    pieces.into_iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use model::{Located, Owner};

    use crate::{Format, Source, import, merge};

    const OURS: &str = "\
servers:
- id: a
  transport: { type: stdio, command: '${env:RUN}', args: ['$${env:NOT}', '${file:/x}-${env:ARG}'], cwd: '${env:RUN}' }
- id: b
  transport: { type: http, url: 'https://h/${env:PART}', headers: { Authorization: 'Bearer ${env:KEY}' } }
- id: c
  enabled: false
  transport: { type: stdio, command: x, env: { K: '${env:OFF}' } }
";

    fn source(name: &str, text: &str) -> Source {
        Source { owner: Owner::file(), name: name.into(), format: Format::of(name), text: text.to_owned() }
    }

    #[test]
    fn each_variable_is_named_once_with_its_place() {
        let ours = source("f.yaml", OURS);
        let merged = merge(std::slice::from_ref(&ours));
        let told = |one: Located<String>| format!("{} in line {}: {}", one.value, one.at.line, one.path);
        let expected = [
            "RUN in line 3: servers[0].transport.command",
            "ARG in line 3: servers[0].transport.args[1]",
            "PART in line 5: servers[1].transport.url",
            "KEY in line 5: servers[1].transport.headers.Authorization",
        ];
        assert_eq!(merged.variables().into_iter().map(told).collect::<Vec<_>>(), expected);
        let theirs = r#"{"mcpServers": {"w": {"command": "x", "env": {"K": "${WEATHER}"}}}}"#;
        let imported = import(&source("mcp.json", theirs)).unwrap();
        assert_eq!(imported.variables.into_iter().map(|one| one.value).collect::<Vec<_>>(), ["WEATHER"]);
    }
}
