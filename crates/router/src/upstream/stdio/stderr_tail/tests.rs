//! What is kept of a child's last words.

use super::*;

#[test]
fn only_the_end_is_kept_and_no_line_is_endless() {
    let (tail, mut lines) = (StderrTail::default(), Lines::default());
    for number in 0..200 {
        lines.push(format!("line {number}\nbeg").as_bytes(), |line| tail.push(line));
        lines.push(b"un\r\n\n", |line| tail.push(line));
    }
    let kept = tail.lines();
    assert_eq!((kept.len(), kept[0].as_str(), kept[63].as_str()), (64, "line 168", "begun"));
    lines.push(&[b'x'; 100_000], |_| panic!("no line yet"));
    lines.push(b"\nnext", |line| tail.push(line));
    lines.finish(|line| tail.push(line));
    let kept = tail.lines();
    assert_eq!((kept[62].len(), kept[63].as_str()), (MAX_LINE, "next"));
    for _ in 0..20 {
        tail.push(&[b'y'; MAX_LINE]);
    }
    assert_eq!(tail.lines().iter().map(String::len).sum::<usize>(), MAX_BYTES);
}

#[test]
fn a_child_that_never_starts_says_why_once() {
    let tail = StderrTail::default();
    let run = |lines: &[&str]| {
        tail.begin();
        lines.iter().for_each(|line| tail.push(line.as_bytes()));
    };
    run(&["ready"]);
    for _ in 0..5 {
        run(&["no licence", "giving up"]);
        assert_eq!(tail.lines(), ["ready", "no licence", "giving up"]);
        assert_eq!(tail.told().unwrap(), "no licence | giving up", "not what another child said");
    }
    run(&[]);
    assert_eq!(tail.told(), None);
    run(&["ready"]);
    assert_eq!(tail.lines(), ["ready", "no licence", "giving up", "ready"]);
}

#[test]
fn a_line_without_an_end_is_told_as_long_as_it_has_none() {
    let tail = StderrTail::default();
    tail.push(b"usage");
    tail.begun(Some(b"> "));
    tail.begun(Some(b"> {}"));
    assert_eq!(tail.told().unwrap(), "usage | > {} (without a line end)");
    tail.begun(None);
    assert_eq!(tail.told().unwrap(), "usage");
    tail.begun(Some(b"> "));
    tail.begin();
    assert_eq!(tail.told(), None);
}
