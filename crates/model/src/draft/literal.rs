//! Whether a value that was written out looks like a secret. It is a guess, for advice alone.

use crate::Template;

pub(super) const IN_ARGUMENTS: &str = "this looks like a secret, and every user of the machine sees the arguments of a program: \
     put it under `env`, as a reference, if the program can read it there";
pub(super) const ADVICE: &str = "this looks like a secret that is written out, and is kept as it is in every revision: write \
     a reference to it, `${env:NAME}` or `${file:/path}`";

/// Shorter ones are words such as `none` and `true`.
const LENGTH_MIN: usize = 6;
/// Words of a name whose value is a secret.
const NAMES: [&str; 12] = [
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "secret",
    "token",
];
/// Words before `key` in such a name; a key of another kind is public or none.
const KEYS: [&str; 8] = ["access", "api", "auth", "encryption", "private", "secret", "signing", "subscription"];
/// How secrets of well-known makers begin.
const BEGINNINGS: [&str; 11] =
    ["-----BEGIN", "AIza", "AKIA", "eyJ", "ghp_", "github_pat_", "glpat-", "hf_", "sk-", "xoxb-", "xoxp-"];

/// Of a variable or a header with that name.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    // One with a reference in it has its secret elsewhere; one that cannot be read is refused anyway.
    let literal = Template::parse(value).is_ok_and(|template| template.references().next().is_none());
    literal && (named_secret(name) && is_worth_it(value) || begins_like_one(value) || has_password(value))
}

/// Of an argument of a program; `before` is the one before it, which may say what it is.
pub fn is_secret_argument(before: Option<&str>, argument: &str) -> bool {
    let named = argument.split_once('=').or_else(|| argument.split_once(": "));
    let flag = before.filter(|before| before.starts_with('-') && !argument.starts_with('-'));
    let (name, value) = named.or_else(|| Some((flag?, argument))).unwrap_or(("", argument));
    is_secret(name, value) || is_secret("", argument) || is_secret_in_query(argument)
}

/// Of a parameter in a URL's query.
pub(super) fn is_secret_in_query(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        is_secret(name, value) || {
            // In a query, `key` alone is the usual name.
            name.eq_ignore_ascii_case("key") && is_secret("api_key", value)
        }
    })
}

fn is_worth_it(value: &str) -> bool {
    value.len() >= LENGTH_MIN && value.bytes().any(|byte| !byte.is_ascii_digit())
}

fn named_secret(name: &str) -> bool {
    let words = words(name);
    let is_key = |pair: &[String]| pair[1] == "key" && KEYS.contains(&pair[0].as_str());
    words.iter().any(|word| NAMES.contains(&word.as_str())) || words.windows(2).any(is_key)
}

fn begins_like_one(value: &str) -> bool {
    let value = value.strip_prefix("Bearer ").unwrap_or(value);
    value.len() >= 16 && BEGINNINGS.iter().any(|beginning| value.starts_with(beginning))
}

/// As `postgres://user:password@host/`.
fn has_password(value: &str) -> bool {
    let authority = value.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let userinfo = authority.and_then(|authority| authority.rsplit_once('@')).map(|(userinfo, _)| userinfo);
    userinfo.and_then(|userinfo| userinfo.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

/// `X-Api-Key`, `API_KEY` and `apiKey` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for character in name.chars() {
        let begins = character.is_ascii_uppercase() && after_lower;
        if (begins || !character.is_ascii_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_ascii_alphanumeric()) {
            word.push(character.to_ascii_lowercase());
        }
        after_lower = character.is_ascii_lowercase() || character.is_ascii_digit();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_one_and_what_does_not_is_none() {
        for (name, value, expected) in [
            ("API_KEY", "abcdef123", true),
            ("X-Api-Key", "abcdef123", true),
            ("apiKey", "abcdef123", true),
            ("DB_PASSWORD", "hunter2", true),
            ("Authorization", "Bearer abcdef", true),
            ("GITHUB_TOKEN", "x1y2z3", true),
            ("DATABASE_URL", "postgres://app:hunter2@db/app", true),
            ("ANYTHING", "ghp_0123456789abcdefghij", true),
            ("API_KEY", "${env:API_KEY}", false),
            ("Authorization", "Bearer ${file:/run/secrets/x}", false),
            ("MAX_TOKENS", "a lot of them", false),
            ("TOKEN_LIMIT", "4096", false),
            ("AUTH_TOKEN", "none", false),
            ("LOG_LEVEL", "debugging", false),
            ("PUBLIC_KEY", "abcdef123", false),
            ("DATABASE_URL", "postgres://app@db/app", false),
            ("KEYBOARD", "qwertyuiop", false),
        ] {
            assert_eq!(is_secret(name, value), expected, "{name}={value}");
        }
        assert!(
            is_secret_in_query("https://h/mcp?x=1&api_key=abcdef123") && is_secret_in_query("https://h/?key=abcdef1")
        );
        for (before, argument, expected) in [
            (Some("--token"), "abcdef123", true),
            (Some("-y"), "--api-key=abcdef123", true),
            (Some("-e"), "GITHUB_TOKEN=abcdef123", true),
            (Some("--header"), "Authorization: Bearer abcdef", true),
            (None, "postgres://app:hunter2@db/app", true),
            (None, "https://h/mcp?api_key=abcdef123", true),
            (None, "ghp_0123456789abcdefghij", true),
            (Some("--token"), "--verbose", false),
            (Some("--token"), "${env:TOKEN}", false),
            (Some("-e"), "GITHUB_TOKEN", false),
            (Some("--tokens=1"), "abcdef123", false),
            (Some("--port"), "8080", false),
            (None, "a=b: c", false),
            (None, "", false),
        ] {
            assert_eq!(is_secret_argument(before, argument), expected, "{before:?} {argument}");
        }
        assert!(!is_secret_in_query("https://h/mcp?x=1&api_key=${env:K}") && !is_secret_in_query("https://h/mcp"));
    }
}
