//! Text for people: lines that nothing in them can break, tables, and what others wrote. Lines and tables are laid out
//! for the width of a terminal when they are printed. On a pipe nothing is folded or cut.

use std::{env, fmt, io::IsTerminal, ops::Range, os::fd::AsFd};

use runtime::escape;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr};

/// Text for people. Parts of it come from servers, clients and services, so it can only be built line by line: the
/// content of one line cannot begin another line, nor control the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// As it is where there is room for all of it.
    text: String,
    /// What is not folded as a line is, in the order of the text.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Where it stands in the text.
    at: Range<usize>,
    layout: Layout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// Rows of cells, those of the heads first.
    Table(Vec<Vec<String>>),
    /// The same at any width: people copy it, or programs read it.
    Verbatim,
}

impl Lines {
    pub(crate) fn of(line: impl fmt::Display) -> Self {
        let mut lines = Self::default();
        lines.line(line);
        lines
    }

    /// One line, whatever is in it. A terminal that is too narrow gets it folded between words.
    pub(crate) fn line(&mut self, line: impl fmt::Display) {
        self.text.push_str(&escape::line(&line.to_string()));
        self.text.push('\n');
    }

    /// One line that others wrote, which is not folded.
    pub(crate) fn verbatim(&mut self, line: &str) {
        self.unfolded(&escape::line(line));
    }

    /// A text that keeps its author's line breaks, since no text of ours is beside it. It is not folded.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.unfolded(&escape::paragraph(text));
    }

    /// A JSON document, which stays the same document.
    pub(crate) fn json(document: &str) -> Self {
        let mut lines = Self::default();
        lines.unfolded(&escape::json(document));
        lines
    }

    fn unfolded(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.text.push('\n');
        self.parts.push(Part { at: start..self.text.len(), layout: Layout::Verbatim });
    }

    pub(crate) fn append(&mut self, more: &Self) {
        let start = self.text.len();
        self.text.push_str(&more.text);
        let moved = |part: &Part| Part { at: part.at.start + start..part.at.end + start, layout: part.layout.clone() };
        self.parts.extend(more.parts.iter().map(moved));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// As it is printed where no terminal has a width.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// As it is printed on a terminal with that many columns.
    pub(crate) fn within(&self, columns: Option<usize>) -> String {
        let Some(columns) = columns else { return self.text.clone() };
        let (mut shown, mut from) = (String::with_capacity(self.text.len()), 0);
        for Part { at, layout } in &self.parts {
            self.text[from..at.start].lines().for_each(|line| fold(line, columns, &mut shown));
            match layout {
                Layout::Table(rows) => lay_out(rows, columns, &mut shown),
                Layout::Verbatim => shown.push_str(&self.text[at.clone()]),
            }
            from = at.end;
        }
        self.text[from..].lines().for_each(|line| fold(line, columns, &mut shown));
        shown
    }
}

/// The width of the terminal that `stream` is, if it is one: `COLUMNS`, or what the terminal says, or else 80.
pub(crate) fn columns(stream: impl AsFd + IsTerminal) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let named = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let size = || terminal_size::terminal_size_of(stream).map(|(terminal_size::Width(columns), _)| columns.into());
    Some(named.or_else(size).unwrap_or(80))
}

/// A longer cell is shown whole, and those behind it on its line stand where they come.
const WIDEST: usize = 200;
/// Between two columns.
const GAP: usize = 2;
/// A column is made narrower down to its longest word, or to this.
const NARROWEST: usize = 24;
/// A cell takes at most that many lines of a narrow table.
const CELL_LINES: usize = 6;

/// Columns as wide as their widest cell, the last one as it comes. Empty without rows.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> Lines {
    if rows.is_empty() {
        return Lines::default();
    }
    // Escaped first, so that the columns fit.
    let shown = |row: &[String; N]| row.iter().map(|cell| escape::line(cell).into_owned()).collect::<Vec<_>>();
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows.iter().map(shown)).collect();
    let mut text = String::new();
    let widths: Vec<_> = widths(&rows).into_iter().map(|width| width.min(WIDEST)).collect();
    side_by_side(&rows, &widths, &mut text);
    Lines { parts: vec![Part { at: 0..text.len(), layout: Layout::Table(rows) }], text }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or_default();
    (0..columns).map(widest).collect()
}

/// Of columns that do not fit, the widest become narrower, the first one never: people copy the name in it. If that is
/// not enough, each row is a paragraph.
fn lay_out(rows: &[Vec<String>], columns: usize, shown: &mut String) {
    let mut widths = widths(rows);
    let gaps = GAP * widths.len().saturating_sub(1);
    let floor = |column: usize| {
        let words = rows.iter().flat_map(|row| row[column].split(' '));
        words.map(UnicodeWidthStr::width).max().unwrap_or_default().min(NARROWEST)
    };
    let floors: Vec<usize> = (0..widths.len()).map(floor).collect();
    while widths.iter().sum::<usize>() + gaps > columns {
        let narrowable = widths.iter_mut().zip(&floors).skip(1).filter(|(width, floor)| **width > **floor);
        let Some((widest, _)) = narrowable.max() else { return paragraphs(rows, columns, shown) };
        *widest -= 1;
    }
    for row in rows {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, width)| folded(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        let line = |at: usize| cells.iter().map(|cell| cell.get(at).cloned().unwrap_or_default()).collect();
        let lines: Vec<Vec<String>> = (0..height).map(line).collect();
        side_by_side(&lines, &widths, shown);
    }
}

fn side_by_side(rows: &[Vec<String>], widths: &[usize], shown: &mut String) {
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width()) + GAP));
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
}

/// The first cell on a line of its own, and below it the others with their heads, as many on a line as fit.
fn paragraphs(rows: &[Vec<String>], columns: usize, shown: &mut String) {
    let Some((heads, rows)) = rows.split_first() else { return };
    for row in rows {
        // A server's text may be of any length.
        let most = columns.max(NARROWEST) * CELL_LINES;
        let cut = |cell: &str| if cell.width() > most { shortened(cell, most) } else { cell.to_owned() };
        let mut pairs = heads.iter().zip(row).map(|(head, cell)| format!("{head} {}", cut(cell)).trim().to_owned());
        wrap(&pairs.next().unwrap_or_default(), columns, "  ", shown);
        let mut line = String::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            if !line.is_empty() && line.width() + GAP + pair.width() > columns {
                wrap(&std::mem::take(&mut line), columns, "    ", shown);
            }
            line.extend(std::iter::repeat_n(' ', GAP));
            line.push_str(&pair);
        }
        if !line.is_empty() {
            wrap(&line, columns, "    ", shown);
        }
    }
}

/// What is behind a fold stands further right than what the line begins with.
fn fold(line: &str, columns: usize, shown: &mut String) {
    let begins = line.len() - line.trim_start_matches(' ').len();
    wrap(line, columns, &" ".repeat(begins.max(2) + 2), shown);
}

/// Folds a line between words. A word that is too long stays whole: it may be a path, which people copy.
fn wrap(line: &str, columns: usize, indent: &str, shown: &mut String) {
    let text = line.trim_start();
    let mut used = line.len() - text.len();
    shown.push_str(&line[..used]);
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 && !word.is_empty() && used + 1 + word.width() > columns {
            // Of a gap between two parts of a line, nothing is left at its end.
            shown.truncate(shown.trim_end_matches(' ').len());
            shown.push('\n');
            shown.push_str(indent);
            used = indent.len();
        } else if at > 0 {
            shown.push(' ');
            used += 1;
        }
        shown.push_str(word);
        used += word.width();
    }
    shown.push('\n');
}

/// The lines of a cell in a column of that width; what does not fit into them ends with `…`.
fn folded(cell: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut cut = false;
    for word in cell.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() || line.width() + 1 + word.width() <= width {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else if lines.len() < CELL_LINES {
            lines.push(word.to_owned());
        } else {
            cut = true;
            break;
        }
    }
    let last = lines.len() - 1;
    for (at, line) in lines.iter_mut().enumerate() {
        if line.width() > width || (cut && at == last) {
            *line = shortened(line, width);
        }
    }
    lines
}

/// As much of it as fits, with a `…` behind it.
fn shortened(text: &str, width: usize) -> String {
    let mut left = width.saturating_sub(1);
    let fits = |character: &char| {
        let width = character.width().unwrap_or_default();
        left.checked_sub(width).map(|rest| left = rest).is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
