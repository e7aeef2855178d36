//! Blocks of code in a page, and the commands in them.

/// What stands between two fences.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    pub(super) language: String,
    /// The line of the fence, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in page.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { language: language.trim().to_owned(), line: number + 1, text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

impl Block {
    /// Each command with its line. In a console they stand behind a `$`, and the rest is what they print.
    pub(super) fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for (number, line) in self.text.lines().enumerate() {
            let line = match (self.language.as_str(), line.trim().strip_prefix("$ ")) {
                ("console", None) if !goes_on => continue,
                ("console", Some(command)) => command,
                _ => line,
            };
            let bare = without_comment(line);
            match (goes_on, commands.last_mut()) {
                (true, Some((_, command))) => command.push_str(&format!("\n{bare}")),
                _ if bare.trim().is_empty() => continue,
                _ => commands.push((self.line + 1 + number, bare.to_owned())),
            }
            let so_far = commands.last().map_or("", |(_, command)| command.as_str());
            goes_on = so_far.ends_with('\\') || opens(so_far);
        }
        commands
    }
}

/// Whether a loop or a quoted text has begun and not ended.
fn opens(command: &str) -> bool {
    let is_loop = command.starts_with("for ") && !command.trim_end().ends_with("done");
    is_loop || command.matches('\'').count() % 2 == 1
}

/// What is behind ` #` is for the reader.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    let mut is_quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '\'' | '"' => is_quoted = !is_quoted,
            '#' if !is_quoted && line[..at].ends_with(' ') => return line[..at].trim_end(),
            _ => {}
        }
    }
    line.trim_end()
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn commands_are_lines_and_what_follows_a_backslash() {
        let page =
            "a\n```sh\none 'x # y'    # why\n# all of this\ntwo \\\n    more\n```\n```console\n$ three\nprinted\n```\n";
        let blocks = blocks(page);
        let commands: Vec<_> = blocks.iter().flat_map(super::Block::commands).collect();
        let expected = [(3, "one 'x # y'"), (5, "two \\\n    more"), (9, "three")];
        assert_eq!(commands, expected.map(|(line, command)| (line, command.to_owned())));
    }
}
