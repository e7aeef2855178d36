//! How deep a message is nested. Walking it here takes no stack, but most who read it after us recurse, and some of them
//! end with that.

/// Levels of objects and arrays, the message itself being one.
pub(super) const MAX_DEPTH: usize = 512;

/// Where a well-formed message goes deeper.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // What is deep is long, and has as many brackets: most messages are known by their length not to be.
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    if bytes.len() <= 2 * MAX_DEPTH || bytes.iter().filter(|byte| opens(byte)).count() <= MAX_DEPTH {
        return None;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}
