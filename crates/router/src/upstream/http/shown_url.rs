//! URLs in texts for operators: enough to know which is meant, and nothing that may be a secret.

use url::Url;

const HIDDEN: &str = "***";
/// A longer part of a path is not taken for a name.
const NAME_MAX: usize = 20;

/// A configured URL, with its references, without credentials and query.
pub(crate) fn configured(text: &str) -> String {
    let place = before_query(text);
    match place.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let host = authority.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}{}", if host > 0 { "***@" } else { "" }, &rest[host..])
        }
        None => place.to_owned(),
    }
}

/// Where a server says that it has moved, without credentials and query. Its path may repeat what the configured URL
/// has in place of a reference, and may hold a token of the server's own: of the path, only parts that the
/// configuration spells out, or that are words, are shown.
pub(super) fn location(text: &str, configured: &str) -> String {
    let base = Url::parse("http://here.invalid/").expect("a URL");
    let Ok(url) = base.join(text).ok().filter(Url::has_host).ok_or(()) else {
        return "what is no address".to_owned();
    };
    let known = before_query(configured);
    let secret = known.contains("${");
    let mut shown = String::new();
    if url.origin() != base.origin() {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = if secret_host(known) { HIDDEN } else { url.host_str().unwrap_or_default() };
        shown = format!("{}://{host}{port}", url.scheme());
    }
    for part in url.path().split('/').skip(1) {
        let spelled_out = known.split('/').skip(3).any(|known| known == part);
        let word = !secret && is_word(part);
        shown.push('/');
        shown.push_str(if part.is_empty() || spelled_out || word { part } else { HIDDEN });
    }
    shown
}

fn before_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Whether a reference stands for the host, or for more than the host.
fn secret_host(configured: &str) -> bool {
    let (scheme, rest) = configured.split_once("://").unwrap_or((configured, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    scheme.contains('$') || authority.contains('$')
}

/// Letters alone, or the version of an API.
fn is_word(part: &str) -> bool {
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'));
    let version = |digits: &str| digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    part.len() <= NAME_MAX && (letters(part) || part.strip_prefix('v').is_some_and(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_shows_no_secret() {
        let plain = "https://one.example/k3y-in-clear/mcp";
        let in_path = "https://one.example/${env:KEY}/mcp";
        let in_host = "https://${env:HOST}/mcp";
        for (text, configured, expected) in [
            ("/mcp/", plain, "/mcp/"),
            ("mcp/?token=hunter2#hunter2", plain, "/mcp/"),
            ("https://two.example:444/api/v2/mcp", plain, "https://two.example:444/api/v2/mcp"),
            ("//two.example/elsewhere", plain, "http://two.example/elsewhere"),
            ("https://me:hunter2@two.example/", plain, "https://two.example/"),
            ("/k3y-in-clear/mcp/", plain, "/k3y-in-clear/mcp/"),
            ("/hunter2/mcp", plain, "/***/mcp"),
            ("/deadbeefdeadbeefdeadbeefdeadbeef", plain, "/***"),
            ("https://one.example/hunter/mcp/", in_path, "https://one.example/***/mcp/"),
            ("/hunter/mcp/", in_path, "/***/mcp/"),
            ("https://hunter.example/mcp", in_host, "https://***/mcp"),
            ("https://hunter.example/mcp", "${env:URL}", "https://***/***"),
            ("https://hunter.example/mcp", "${file:/run/secrets/url}", "https://***/***"),
            ("https://hunter.example/mcp", "${env:SCHEME}://one.example/mcp", "https://***/mcp"),
            ("mailto:hunter2@example.org", plain, "what is no address"),
            ("http://", plain, "what is no address"),
        ] {
            assert_eq!(location(text, configured), expected, "{text} of {configured}");
        }
    }

    #[test]
    fn a_configured_url_shows_no_literal_credential() {
        for (text, expected) in [
            ("https://${env:H}/mcp?key=hunter2", "https://${env:H}/mcp"),
            ("ftp://me:hunter2@one.example/mcp", "ftp://***@one.example/mcp"),
            ("https://me:hunt@er2@one.example", "https://***@one.example"),
            ("one.example/a@b", "one.example/a@b"),
        ] {
            assert_eq!(configured(text), expected);
        }
    }
}
