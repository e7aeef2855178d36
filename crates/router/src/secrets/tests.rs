//! References become values, and values never show.

use super::*;

#[test]
fn values_are_found_and_never_shown() {
    let directory = std::env::temp_dir().join(format!("only1mcp-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("token");
    std::fs::write(&file, "s3cret\r\n").unwrap();
    let text = format!("Bearer ${{file:{}}} $${{kept}}", file.display());
    let secret = resolve("headers.Authorization", &text).unwrap();
    assert_eq!(secret.expose(), "Bearer s3cret ${kept}");
    assert_eq!(format!("{secret:?}"), "***");
    assert!(resolve("env.HOME", "${env:PATH}").unwrap().expose().contains('/'));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_cannot_be_found_is_named_by_reference() {
    let check = |text: &str, expected: &str| {
        assert_eq!(resolve("env.TOKEN", text).unwrap_err().to_string(), expected);
    };
    check("x${env:ONLY1MCP_NO_SUCH}y", "env.TOKEN: `${env:ONLY1MCP_NO_SUCH}` is not set in the router's environment");
    check(
        "${file:/nonexistent/secret}",
        "env.TOKEN: `${file:/nonexistent/secret}` cannot be read by the router: entity not found",
    );
}
