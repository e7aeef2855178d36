//! Control characters. A text may have only tabs and line breaks; parsers differ in how they treat the others, and some
//! stop at the first NUL.

/// The position of the first control character in bytes, and the message about it.
pub(crate) fn character(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(is_control)?;
    let byte = bytes[at];
    let name = if byte == 0 { " (NUL)" } else { "" };
    let mut message = format!(
        "the control character U+{byte:04X}{name} stands here; a configuration is a text, in which only tab and line \
         breaks may"
    );
    let rest = &bytes[at..];
    if byte == 0 && rest.iter().all(|byte| *byte == 0) {
        let count = rest.len();
        message.push_str(&format!("; the file ends in {count} of them, as after a loss of power: write it anew"));
    } else if byte == 0 && at == 1 && bytes.get(3) == Some(&0) {
        message.push_str("; this looks like UTF-16: save it as UTF-8");
    }
    Some((at, message))
}

fn is_control(byte: &u8) -> bool {
    matches!(byte, 0..=0x1f | 0x7f) && !matches!(byte, b'\t' | b'\n' | b'\r')
}
