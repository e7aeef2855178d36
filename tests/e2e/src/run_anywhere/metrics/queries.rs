//! Queries as they are shipped, made into ones that Prometheus takes.

/// Puts values in the place of Grafana's variables, for scrapes a second apart.
pub(super) fn substituted(query: &str) -> String {
    let values = [
        ("$__rate_interval", "15s"),
        ("$__interval", "5s"),
        ("$__range", "2m"),
        ("$instance", ".*"),
        ("$server", ".*"),
        ("$job", ".*"),
    ];
    values.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// The selectors of series in a query. What an alert compares is always there, although it only fires at times.
pub(super) fn selectors(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let name = &rest[start..];
        let (name, after) = name.split_at(name.find(|c| !of_name(c)).unwrap_or(name.len()));
        let is_series = name.contains("only1mcp_") || name.starts_with("process_") || name == "up";
        let labels = after.strip_prefix('{').and_then(|inner| inner.find('}'));
        let labels = labels.map_or(0, |end| end + 2);
        if is_series {
            found.push(format!("{name}{}", &after[..labels]));
        }
        rest = &after[labels..];
    }
    found
}

/// As in a URL.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_names_with_their_labels() {
        let query =
            "sum by (job) (rate(only1mcp_a_total{result=~\"x|y\"}[5m])) / (server:only1mcp_b:rate5m > 0) and up == 1";
        let expected = ["only1mcp_a_total{result=~\"x|y\"}", "server:only1mcp_b:rate5m", "up"];
        assert_eq!(selectors(query), expected);
    }

    #[test]
    fn what_is_no_letter_or_digit_is_encoded() {
        assert_eq!(encoded("a{b=\"1\"}"), "a%7Bb%3D%221%22%7D");
    }
}
