//! What fits into how many columns.

use super::*;

fn servers() -> Lines {
    let row = |cells: [&str; 5]| cells.map(str::to_owned);
    let mut lines = Lines::of("revision 7 is live");
    lines.line("");
    lines.append(&table(
        ["SERVER", "STATE", "TRANSPORT", "TOOLS", "PID"],
        &[
            row(["files", "healthy", "stdio", "14", "4711"]),
            row(["crm", "failing (exit 127, 15 restarts, next try in 19 s)", "stdio", "0", "-"]),
        ],
    ));
    lines.line("note: tool `add` of server calculator is shown as `calculator__add`");
    lines.line("problem: /a/path/that/is/long/enough/to/be/longer/than/a/line.yaml: refused");
    lines
}

#[test]
fn all_of_it_where_there_is_room_and_folded_where_there_is_not() {
    let shown = [Some(120), Some(80), Some(60), Some(40)].map(|columns| servers().within(columns));
    assert_eq!(servers().within(None), servers().as_str());
    insta::assert_snapshot!(shown.join("--------\n"));
    for (text, columns) in shown.iter().zip([120, 80, 60, 40]) {
        let wide: Vec<_> = text.lines().filter(|line| line.width() > columns && !line.contains("/a/path")).collect();
        assert!(wide.is_empty(), "{columns}: {wide:?}");
    }
}

#[test]
fn what_others_wrote_is_not_folded_and_what_belongs_below_stays_there() {
    let mut lines = Lines::of("15:00:00  server crm  healthy in router-1");
    lines.line("    clients lose 7 tools: add, delete, echo");
    lines.verbatim("key: a value of more than twenty columns\nnot a line of its own");
    lines.paragraph("one line of more than twenty columns\nanother");
    lines.append(&Lines::json("{ \"key\": [1, 2, 3, 4, 5, 6] }"));
    lines.append(&table(["A"], &[["b".to_owned()]]));
    let folded = "15:00:00  server crm\n    healthy in\n    router-1\n    clients lose 7\n      tools: add,\n      delete, echo\n";
    let others = "key: a value of more than twenty columns\\nnot a line of its own\none line of more than twenty columns\nanother\n";
    let json = "{ \"key\": [1, 2, 3, 4, 5, 6] }\n";
    assert_eq!(lines.within(Some(20)), format!("{folded}{others}{json}A\nb\n"));
    assert_eq!(lines.within(Some(200)), lines.as_str());
}

#[test]
fn the_name_in_the_first_column_stays_whole() {
    let name = "a-server-with-a-name-of-thirty-two";
    let rows = [[name.to_owned(), "one two three four five six seven eight nine ten".to_owned()]];
    let lines = table(["SERVER", "SAYS"], &rows);
    for columns in [1, 20, 40, 46, 80] {
        assert!(lines.within(Some(columns)).contains(name), "{columns}");
    }
    let narrow = lines.within(Some(46));
    assert!(narrow.contains("\n                                    three four\n"), "{narrow}");
    assert!(narrow.lines().all(|line| line.width() <= 46), "{narrow}");
}

#[test]
fn a_cell_is_as_wide_as_a_terminal_shows_it() {
    let rows = [["日本".to_owned(), "b".to_owned()], ["abcd".to_owned(), "c".to_owned()]];
    assert_eq!(table(["A", "B"], &rows).as_str(), "A     B\n日本  b\nabcd  c\n");
    assert_eq!(folded("日本語", 4), ["日…"]);
}
