//! Circles among the files of a crate: files that need each other can only be read together.

use std::collections::{BTreeMap, BTreeSet};

use e2e::sources::listed;
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseName, UseRename, UseTree, Visibility};
use testkit::Fault;

/// Files of one circle. A file and those in the folder of its name are one thing, and make no circle by themselves.
/// What a file passes on from its folder counts as its own.
const FILES_MAX: usize = 4;

/// The path of a file within its crate.
type Module = Vec<String>;

#[test]
fn no_circle_of_files_is_large() -> Result<(), Fault> {
    let mut crates: BTreeMap<String, BTreeMap<Module, BTreeSet<Module>>> = BTreeMap::new();
    for (path, text) in listed(".rs")? {
        let Some((name, module)) = module(&path) else { continue };
        let mut named = Named::default();
        named.visit_file(&syn::parse_file(&text)?);
        crates.entry(name).or_default().insert(module, named.0);
    }
    assert!(crates.values().map(BTreeMap::len).sum::<usize>() > 100, "few files were found");
    let mut large = Vec::new();
    for (name, named) in &crates {
        let needs = needs(named);
        let reached: BTreeMap<_, _> = needs.keys().map(|module| (*module, reached(module, &needs))).collect();
        for (module, others) in &reached {
            let circle: Vec<_> = others.iter().filter(|other| reached[*other].contains(module)).collect();
            if circle.len() > FILES_MAX && circle[0] == module {
                let files: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
                large.push(format!("{name}: {}", files.join(", ")));
            }
        }
    }
    assert!(large.is_empty(), "more than {FILES_MAX} files need each other: {large:#?}");
    Ok(())
}

/// The crate of a file and its place there, unless it only tests.
fn module(path: &str) -> Option<(String, Module)> {
    let (name, place) = path.strip_prefix("crates/")?.strip_suffix(".rs")?.split_once("/src/")?;
    let mut module: Module = place.split('/').map(str::to_owned).collect();
    if module.iter().any(|part| part.ends_with("tests") || part == "bin") {
        return None;
    }
    module.pop_if(|last| *last == "lib" || *last == "main");
    Some((name.to_owned(), module))
}

/// All paths that a file names.
#[derive(Default)]
struct Named(BTreeSet<Module>);

impl Visit<'_> for Named {
    fn visit_item_use(&mut self, item: &ItemUse) {
        self.flatten(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// What a module within a file needs (most are of tests) does not count.
    fn visit_item_mod(&mut self, _: &ItemMod) {}

    /// Who may see a thing is not what it needs.
    fn visit_visibility(&mut self, _: &Visibility) {}
}

impl Named {
    fn flatten(&mut self, tree: &UseTree, before: &mut Module) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.flatten(&path.tree, before);
                before.pop();
            }
            UseTree::Name(UseName { ident }) | UseTree::Rename(UseRename { ident, .. }) => {
                self.0.insert([&before[..], &[ident.to_string()]].concat());
            }
            UseTree::Glob(_) => {
                self.0.insert(before.clone());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(tree, before)),
        }
    }
}

/// Which other files each file needs, but for its parent and its children.
fn needs(named: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let family = |one: &Module, other: &Module| one.split_last().is_some_and(|(_, parent)| parent == &other[..]);
    let of = |module| {
        let found = named[module].iter().filter_map(|path| file(module, path, named));
        found.filter(|other| *other != module && !family(other, module) && !family(module, other)).collect()
    };
    named.keys().map(|module| (module, of(module))).collect()
}

/// The file in which `path`, named in `module`, is found.
fn file<'a>(module: &Module, path: &Module, all: &'a BTreeMap<Module, BTreeSet<Module>>) -> Option<&'a Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let mut place = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" => [&module[..module.len().checked_sub(ups)?], &path[ups..]].concat(),
        _ => [module, &path[..]].concat(),
    };
    let least = if matches!(path[0].as_str(), "crate" | "self" | "super") { 1 } else { module.len() + 1 };
    while place.len() >= least {
        if let Some((found, _)) = all.get_key_value(&place) {
            return Some(found);
        }
        place.pop();
    }
    None
}

fn reached<'a>(from: &'a Module, needs: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeSet<&'a Module> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(module) = left.pop() {
        left.extend(needs[module].iter().filter(|other| reached.insert(**other)));
    }
    reached
}
