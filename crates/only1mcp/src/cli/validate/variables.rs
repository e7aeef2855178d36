//! Whether the environment variables that a configuration names are set here.

use std::env;

use model::{Located, Violation};

/// Advice about each variable that is not set in this environment, which is not the one where `up` runs.
pub(in crate::cli) fn unset(named: &[Located<String>]) -> Vec<Violation> {
    unset_in(named, |name| env::var_os(name).is_some())
}

fn unset_in(named: &[Located<String>], is_set: impl Fn(&str) -> bool) -> Vec<Violation> {
    let unset = named.iter().filter(|name| !is_set(&name.value)).map(|name| {
        let message =
            format!("`${{env:{}}}` is not set here; set it where `up` runs, or use `${{file:/path}}`", name.value);
        Violation::new(Some(name.at.clone()), &*name.path, message)
    });
    unset.collect()
}

#[cfg(test)]
mod tests {
    use model::Position;

    use super::*;

    #[test]
    fn a_variable_that_is_not_set_is_told_with_its_place() {
        let at = Position { file: "f.yaml".into(), line: 3, column: 7 };
        let name = |name: &str| Located { value: name.to_owned(), at: at.clone(), path: "servers[0]".into() };
        let told = unset_in(&[name("HOME"), name("WEATHER")], |name| name == "HOME");
        let expected = "f.yaml:3:7: servers[0]: `${env:WEATHER}` is not set here; set it where `up` runs, or use \
            `${file:/path}`";
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
}
