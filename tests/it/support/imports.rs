//! Who imports whom: the files of the library, and what each names of the others, as the compiler resolves it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree};

/// The Rust files below a folder.
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

type Segments = Vec<String>;

/// A module, by its segments below the crate's root.
#[derive(Default)]
struct Module {
    /// Every path that its code names, from the crate's root on.
    named: BTreeSet<Segments>,
    /// Names that it passes on, and what they stand for.
    passed_on: BTreeMap<String, Segments>,
}

/// The modules of a library that have a file of their own.
#[derive(Default)]
pub struct Imports {
    modules: BTreeMap<Segments, Module>,
}

impl Imports {
    /// Reads sources, each with its path below `src`. Files of tests (`tests.rs`, `*_tests.rs`, `testing.rs`) are left out, and
    /// modules under `#[cfg(test)]`.
    pub fn read<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Imports {
        let mut imports = Imports::default();
        for (path, source) in sources {
            if is_of_tests(path) {
                continue;
            }
            let file = syn::parse_file(source).unwrap_or_else(|e| panic!("{path}: {e}"));
            let module = segments_of(path);
            let mut reader = Reader { at: module.clone(), module: Module::default() };
            reader.visit_file(&file);
            imports.modules.insert(module, reader.module);
        }
        imports
    }

    /// The library's own.
    pub fn of_library() -> Imports {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let sources: Vec<_> = rust_files(&src)
            .into_iter()
            .map(|f| {
                (
                    f.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(),
                    std::fs::read_to_string(f).unwrap(),
                )
            })
            .collect();
        assert!(sources.len() > 100, "the source tree was not found");
        Imports::read(sources.iter().map(|(path, source)| (&**path, &**source)))
    }

    /// Each module with those that it imports, names that are passed on followed to where they are defined.
    pub fn edges(&self) -> Edges {
        let mut edges = BTreeMap::new();
        for (at, module) in &self.modules {
            let others = module.named.iter().filter_map(|path| self.defining(path, 8));
            edges.insert(
                at.join("::"),
                others.filter(|other| other != at).map(|other| other.join("::")).collect(),
            );
        }
        edges
    }

    /// The module that defines what a path names.
    fn defining(&self, path: &[String], depth: usize) -> Option<Segments> {
        let len = (1..=path.len()).rev().find(|&len| self.modules.contains_key(&path[..len]))?;
        let (module, rest) = path.split_at(len);
        let passed_on = rest.first().and_then(|name| self.modules[module].passed_on.get(name));
        match passed_on {
            Some(target) if depth > 0 => {
                let target: Segments = target.iter().chain(&rest[1..]).cloned().collect();
                self.defining(&target, depth - 1).or_else(|| Some(module.to_vec()))
            }
            _ => Some(module.to_vec()),
        }
    }
}

/// Modules, each with those that it imports.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Groups of modules that import each other in a ring.
pub fn rings(edges: &Edges) -> Vec<Vec<String>> {
    let reaches: BTreeMap<&String, BTreeSet<&String>> =
        edges.keys().map(|from| (from, reachable(edges, from))).collect();
    let mut rings = BTreeSet::new();
    for (from, to) in &reaches {
        if to.contains(from) {
            let ring: Vec<String> =
                to.iter().filter(|other| reaches[**other].contains(*from)).map(|m| (*m).clone()).collect();
            rings.insert(ring);
        }
    }
    rings.into_iter().collect()
}

fn reachable<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = edges[from].iter().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(edges.get(next).into_iter().flatten());
        }
    }
    found
}

fn is_of_tests(path: &str) -> bool {
    path.ends_with("tests.rs") || path.ends_with("testing.rs")
}

fn segments_of(path: &str) -> Segments {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

struct Reader {
    /// The module that is read, and modules inside it.
    at: Segments,
    module: Module,
}

impl Reader {
    /// A path from the crate's root on, if it leads into the crate in so many words.
    fn absolute(&self, path: &[String]) -> Option<Segments> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.at.clone(),
            _ => return None,
        };
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => {
                    base.pop()?;
                }
                _ => break,
            }
            rest = others;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn name(&mut self, path: &[String]) -> Option<Segments> {
        let path = self.absolute(path)?;
        self.module.named.insert(path.clone());
        Some(path)
    }

    fn use_tree(&mut self, tree: &UseTree, before: &mut Segments, is_passed_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before, is_passed_on);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.use_tree(tree, before, is_passed_on));
            }
            UseTree::Glob(_) => {
                self.name(before);
            }
            UseTree::Name(_) | UseTree::Rename(_) => {
                let (name, known_as) = match tree {
                    UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
                    UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
                    _ => unreachable!(),
                };
                let mut path = before.clone();
                if name != "self" {
                    path.push(name);
                }
                // A module's own children are named without `self`.
                let inside: Segments =
                    std::iter::once("self".to_owned()).chain(path.iter().cloned()).collect();
                match is_passed_on {
                    // To pass something on is not to depend on it.
                    true => {
                        let target = self.absolute(&path).or_else(|| self.absolute(&inside));
                        self.module.passed_on.extend(target.map(|target| (known_as, target)));
                    }
                    false => drop(self.name(&path)),
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let is_test = module.attrs.iter().any(|a| a.path().is_ident("cfg"));
        if !is_test && module.content.is_some() {
            self.at.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new(), !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.name(&segments);
        visit::visit_path(self, path);
    }
}
