//! What README and docs say can be typed is typed: each page from top to bottom by one reader with a home of their own,
//! who does by hand what the page says is done by hand. What cannot run here is on a list, with the reason.

mod known;
mod markdown;
mod reader;
mod words;

use std::{fs, path::Path, thread};

use testkit::{Fault, Scratch, binaries, fault};

use crate::{Figures, Size};
use known::NOT_RUN;
use markdown::{Block, blocks};
use reader::Reader;

/// Written from what other lines play: the incidents of line 2, and the drains of line 10 of leaving gracefully.
const OTHERS: [&str; 2] = ["docs/incidents.md", "docs/drains.md"];

/// What came of one page.
#[derive(Default)]
struct Read {
    run: usize,
    files: usize,
    /// Which entries of the list of what is not run were used.
    not_run: Vec<usize>,
    wrong: Vec<String>,
}

pub fn run(_: Size) -> Result<Figures, Fault> {
    let pages = pages()?;
    let scratches = pages.iter().map(|_| Scratch::new("reader")).collect::<Result<Vec<_>, _>>()?;
    let read = thread::scope(|scope| {
        let readers: Vec<_> = pages
            .iter()
            .zip(&scratches)
            .map(|((name, text), scratch)| scope.spawn(move || read(name, &blocks(text), scratch)))
            .collect();
        let ended = pages.iter().zip(readers).map(|((name, _), thread)| {
            let read = thread.join().unwrap_or_else(|_| Err(fault("it panicked")));
            read.map_err(|error| error.during(name))
        });
        ended.collect::<Result<Vec<Read>, Fault>>()
    })?;
    let mut figures = Figures::default();
    figures.note("pages", pages.len());
    let commands = read.iter().map(|page| page.run).sum::<usize>();
    figures.demand("commands_run", commands, "at least 30", commands >= 30);
    figures.note("files_checked", read.iter().map(|page| page.files).sum::<usize>());
    figures.note("not_run", read.iter().map(|page| page.not_run.len()).sum::<usize>());
    figures.none("wrong", read.iter().flat_map(|page| &page.wrong));
    let unused =
        NOT_RUN.iter().enumerate().filter(|(number, _)| read.iter().all(|page| !page.not_run.contains(number)));
    figures.none("reasons_for_nothing", unused.map(|(_, (begins, _))| *begins));
    figures.none("unknown_words", words::unknown(&pages)?);
    Ok(figures)
}

/// README and all pages of docs and deploy, by their names.
fn pages() -> Result<Vec<(String, String)>, Fault> {
    let root = binaries::checkout();
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for folder in ["docs", "deploy/compose", "deploy/systemd", "deploy/observability"] {
        for entry in fs::read_dir(root.join(folder))? {
            let name = format!("{folder}/{}", entry?.file_name().to_string_lossy());
            let is_page = Path::new(&name).extension().is_some_and(|extension| extension == "md");
            names.extend((is_page && !OTHERS.contains(&name.as_str())).then_some(name));
        }
    }
    names.sort();
    names.into_iter().map(|name| Ok((name.clone(), fs::read_to_string(root.join(name))?))).collect()
}

fn read(page: &str, blocks: &[Block], scratch: &Scratch) -> Result<Read, Fault> {
    let (mut reader, mut read) = (Reader::new(page, scratch)?, Read::default());
    for block in blocks {
        let said = match block.language.as_str() {
            "sh" | "console" => {
                for (line, command) in block.commands() {
                    if let Some(number) = NOT_RUN.iter().position(|(begins, _)| command.starts_with(begins)) {
                        read.not_run.push(number);
                        continue;
                    }
                    read.run += 1;
                    if let Err(error) = reader.types(&command) {
                        read.wrong.push(format!("{page}:{line}: `{command}`: {error}"));
                    }
                }
                continue;
            }
            "yaml" | "toml" | "json" => reader.saves(block),
            _ => continue,
        };
        read.files += 1;
        if let Err(error) = said {
            read.wrong.push(format!("{page}:{}: {error}", block.line));
        }
    }
    Ok(read)
}
