//! Single tables out of a prepared copy: what `ALTER TABLE … IMPORT TABLESPACE` of another server needs of them.
//!
//! An import takes every row in the file for committed. So a table of which an open or prepared transaction has undo records
//! ([`crate::innodb::undo`]) can't be exported, nor one with entries in the change buffer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::native::error::encrypted;
use super::native::space_keys::SpaceKeys;
use super::native::tablespaces::{OpenTablespace, TablespaceFiles};
use super::{Datadir, datafiles};
use crate::base::progress::Progress;
use crate::base::{Code, Error, PageNo, Result, SpaceId, Stop};
use crate::innodb::apply::index_frame;
use crate::innodb::dictionary::create_table::{self, PlaceOf, Placement, Statements};
use crate::innodb::dictionary::{Partition, Table, cfg, value};
use crate::innodb::encryption::Sealed;
use crate::innodb::encryption::key_info::KEY_LEN;
use crate::innodb::page::{
    FilHeader, Page0, PageType, Scratch, descriptor_page, is_all_zero, is_used, restore_compressed,
};
use crate::innodb::sdi::{self, SdiError};
use crate::innodb::undo::{self, UndoError, Unfinished};

/// Number of bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Offset of the change buffer bitmap in its page (`IBUF_BITMAP`), and the bits of two pages that say that the buffer has entries of
/// them (`IBUF_BITMAP_BUFFERED`).
const BITMAP: usize = 94;
const BUFFERED: u8 = 0b0100_0100;

/// A prepared copy that tables are exported from.
pub struct Exporter<'a> {
    datadir: &'a Datadir<'a>,
    spaces: TablespaceFiles,
    paths: BTreeMap<SpaceId, PathBuf>,
    /// Schema and table of each of them, as the file system spells them.
    names: BTreeSet<(String, String)>,
    unfinished: Unfinished,
}

/// A table that can be exported.
#[derive(Debug)]
pub struct ExportedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Version of the server that wrote its definition.
    pub server_version: u64,
    /// Its datafiles, one for each partition.
    pub files: Vec<ExportedFile>,
    /// The folder on the source that its files lay in, if that was not the datadir.
    pub data_directory: Option<String>,
    definition: Table,
}

impl ExportedTable {
    /// The statements for the import. `parents` says where the parents of its foreign keys are ([`Placement::parents`]).
    ///
    /// # Errors
    /// [`Code::Prepare`] if the table can't be defined.
    pub fn statements(&self, parents: Option<&PlaceOf<'_>>) -> Result<Statements> {
        let place = Placement { data_directory: self.data_directory.as_deref(), parents };
        create_table::statements(&self.definition, place)
            .map_err(|e| not_exported(format_args!("{}.{}", self.schema, self.name), &e.to_string()))
    }
}

/// A datafile of a table.
#[derive(Debug)]
pub struct ExportedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Id of its tablespace.
    pub space: SpaceId,
    /// Its length in bytes.
    pub len: u64,
    /// The metadata file that belongs beside it.
    pub cfg: Vec<u8>,
    /// The file with its key that belongs beside it, if it is encrypted.
    pub cfp: Option<Zeroizing<Vec<u8>>>,
}

impl ExportedTable {
    /// The names of its foreign keys and CHECK constraints once it is called `name`: those that the server made have the table's in them.
    pub fn constraints(&self, name: &str) -> Vec<String> {
        let foreign = self.definition.foreign_keys.iter().map(|key| &key.name);
        let all = foreign.chain(self.definition.check_constraints.iter().map(|check| &check.name));
        let renamed = |constraint: &String| {
            let made = constraint.strip_prefix(&self.name);
            match made.filter(|rest| rest.starts_with("_ibfk_") || rest.starts_with("_chk_")) {
                Some(rest) => format!("{name}{rest}"),
                None => constraint.clone(),
            }
        };
        all.map(renamed).collect()
    }
}

impl<'a> Exporter<'a> {
    /// Opens the prepared copy `datadir`, and reads its undo logs.
    ///
    /// # Errors
    /// [`Code::Prepare`] if they can't be read, [`Code::Encrypted`] if their key is not known, [`Code::TargetIo`].
    pub fn open(datadir: &'a Datadir<'a>) -> Result<Exporter<'a>> {
        let spaces = TablespaceFiles::find(datadir, BTreeSet::new(), &SpaceKeys::default())?;
        let found = datafiles::tablespaces(datadir)?.into_iter();
        let paths: BTreeMap<_, _> =
            found.filter_map(|(id, mut paths)| paths.pop().map(|path| (id, path))).collect();
        let names = paths.values().filter_map(|path| names_of(path)).collect();
        let mut open = BTreeMap::new();
        for (id, space) in spaces.undo() {
            if let Some(lacking) = space.lacking() {
                return Err(encrypted(format_args!("undo tablespace {id}"), lacking));
            }
            open.insert(id, space.open_to_read(id)?);
        }
        if let Some(system) = spaces.get(SpaceId::SYSTEM) {
            open.insert(SpaceId::SYSTEM, system.open_to_read(SpaceId::SYSTEM)?);
        }
        let undo: Vec<SpaceId> = open.keys().copied().filter(|id| id.is_undo()).collect();
        let unfinished = undo::unfinished(undo, &mut |id, number| {
            let space = open.get(&id).ok_or_else(|| broken(&format!("there is no tablespace {id}")))?;
            sound_page(space, number, &mut Scratch::new())
        });
        let unfinished = unfinished.map_err(|e| match e {
            UndoError::Page(e) => e,
            e => broken(&e.to_string()),
        })?;
        Ok(Exporter { datadir, spaces, paths, names, unfinished })
    }

    /// Finds the tables in whose files `is_wanted` (schema and table, as the file system spells them; the table with its partition).
    /// Each has all of its files.
    ///
    /// # Errors
    /// [`Code::Prepare`] for a table that can't be exported, and [`Code::Encrypted`], [`Code::CorruptPage`], [`Code::TargetIo`].
    pub fn tables(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<ExportedTable>> {
        let mut found: BTreeMap<(String, String), Table> = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (id, path) in &self.paths {
            // A table in a general tablespace can't be imported by any server.
            let has_one_table = self.spaces.get(*id).is_some_and(|space| !space.is_shared && !id.is_undo());
            if !has_one_table || !names_of(path).is_some_and(|(schema, table)| is_wanted(&schema, &table)) {
                continue;
            }
            wanted.insert(*id, path);
            for object in self.dictionary_objects(*id, path)? {
                let table = Table::parse(&object.json).map_err(|e| {
                    corrupt(path, "the dictionary object of its table can't be read").cause(e)
                })?;
                let is_own = files_of(&table).iter().any(|(space, _)| space == id);
                let key = (table.schema_ref.clone(), table.name.clone());
                if is_own && found.insert(key, table).is_some() {
                    return Err(corrupt(path, "its table has another file that describes it"));
                }
            }
        }
        // Only the first partition's file describes the table.
        let described: BTreeSet<_> = found.values().flat_map(files_of).map(|(space, _)| space).collect();
        if let Some((_, path)) = wanted.iter().find(|(id, _)| !described.contains(id)) {
            return Err(not_exported(path.display(), "no file describes its table"));
        }
        found.values().filter(|table| table.is_visible()).map(|table| self.table(table)).collect()
    }

    /// Checks every page of a file, that none in use is lost (all zeros), and that the change buffer has none of them.
    ///
    /// # Errors
    /// [`Code::CorruptPage`], [`Code::Prepare`], [`Code::TargetIo`], [`Code::Interrupted`].
    pub fn check_pages(&self, file: &ExportedFile, progress: &Progress, stop: &Stop) -> Result<()> {
        let space = self.open_space(file.space, &file.path)?;
        let page_len = space.layout.physical();
        let mut zeros = ZeroPages::new(&space, &file.path)?;
        let mut scratch = Scratch::new();
        let mut piece = vec![0; PIECE / page_len * page_len];
        let mut first = PageNo(0);
        while first.0 < space.pages() {
            stop.check()?;
            // A hole reads as zeros.
            let data = space.next_data(first)?;
            zeros.check(first..data)?;
            let filled = if data.0 < space.pages() { space.read(data, &mut piece)? } else { 0 };
            for (n, page) in piece[..filled].chunks_exact(page_len).enumerate() {
                let number = PageNo(data.0 + n as u32);
                if is_all_zero(page) {
                    zeros.check(number..PageNo(number.0 + 1))?;
                    continue;
                }
                space
                    .verify(number, page, &mut scratch)
                    .map_err(|defect| corrupt(&file.path, &format!("page {number}: {defect}")))?;
                let page_type = FilHeader::of(page).map(FilHeader::page_type);
                let bits = page
                    .get(BITMAP..BITMAP + page_len / 2)
                    .filter(|_| page_type == Some(PageType::IBUF_BITMAP));
                if bits.is_some_and(|bits| bits.iter().any(|byte| byte & BUFFERED != 0)) {
                    return Err(not_exported(
                        file.path.display(),
                        "the change buffer has entries of its pages",
                    ));
                }
            }
            let next = PageNo(data.0.saturating_add((filled / page_len) as u32).max(first.0 + 1));
            Progress::add(&progress.bytes_done, u64::from(next.0 - first.0) * page_len as u64);
            first = next;
        }
        Progress::add(&progress.files_done, 1);
        Ok(())
    }

    /// Whether there is a datafile of this table or partition; both names are spelled as in the file system.
    pub fn has_file(&self, schema: &str, table: &str) -> bool {
        self.names.contains(&(schema.to_owned(), table.to_owned()))
    }

    fn table(&self, table: &Table) -> Result<ExportedTable> {
        let shown = format!("{}.{}", table.schema_ref, table.name);
        let ids = leaves(table).map(|partition| partition.se_private_id).chain([table.se_private_id]);
        if ids.into_iter().any(|id| self.unfinished.tables.contains(&id)) {
            return Err(not_exported(
                shown,
                "a transaction that was not committed when the backup ended has changed it: an import would make these changes \
                 permanent",
            ));
        }
        let mut files = Vec::new();
        for (space, partition) in files_of(table) {
            let path = self.paths.get(&space);
            let path =
                path.ok_or_else(|| not_exported(&shown, "the backup does not have all of its files"))?;
            files.push(self.file(table, partition, space, path)?);
        }
        let outside = |path: &Path| {
            let external = self.datadir.external.iter().find(|(_, now)| now == path);
            external.and_then(|(there, _)| there.parent()?.parent()?.to_str())
        };
        let folder = files.first().and_then(|file| outside(&file.path));
        let exported = ExportedTable {
            schema: table.schema_ref.clone(),
            name: table.name.clone(),
            server_version: table.mysql_version_id,
            data_directory: folder.map(str::to_owned),
            files,
            definition: table.clone(),
        };
        exported.statements(None)?;
        Ok(exported)
    }

    fn file(
        &self,
        table: &Table,
        partition: Option<&Partition>,
        space: SpaceId,
        path: &Path,
    ) -> Result<ExportedFile> {
        let (size, page0) = datafiles::page0(path, self.datadir.redo.pages())?;
        let len = datafiles::length(path)?;
        if len < size.bytes {
            return Err(corrupt(path, "it is shorter than its header says"));
        }
        let (schema, stem) =
            names_of(path).ok_or_else(|| not_exported(path.display(), "its name is none of a table"))?;
        let open = self.open_space(space, path)?;
        let head = sound_page(&open, PageNo(0), &mut Scratch::new())?;
        let described = cfg::Datafile {
            space: space.0,
            flags: page0.flags,
            layout: page0.layout,
            sdi_root: sdi::root(&head, page0.layout).map_or(u32::MAX, |root| root.0),
            partition,
            name: &format!("{schema}/{stem}"),
        };
        let cfg = cfg::write(table, &described, "xbpipe")
            .map_err(|e| not_exported(path.display(), &e.to_string()))?;
        Ok(ExportedFile {
            path: path.to_owned(),
            space,
            len,
            cfg,
            cfp: self.transfer_key(space, path, &page0)?,
        })
    }

    /// The file with the key of an encrypted datafile.
    fn transfer_key(&self, space: SpaceId, path: &Path, page0: &Page0) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(info) = page0.encryption.as_deref().filter(|_| page0.flags.is_encrypted()) else {
            return Ok(None);
        };
        let key = self.datadir.keyring.key(Sealed::Tablespace(space, info));
        let key = key.map_err(|lacking| encrypted(path.display(), &lacking))?;
        let mut transfer = Zeroizing::new([0; KEY_LEN]);
        let filled = SystemRandom::new().fill(&mut *transfer);
        filled.map_err(|_| Error::new(Code::Internal, "the system has no random numbers"))?;
        Ok(Some(key.transfer(&transfer)))
    }

    fn open_space(&self, id: SpaceId, path: &Path) -> Result<OpenTablespace> {
        let space = self.spaces.get(id).ok_or_else(|| corrupt(path, "its tablespace is not there"))?;
        match space.lacking() {
            Some(lacking) => Err(encrypted(path.display(), lacking)),
            None => space.open_to_read(id),
        }
    }

    /// The dictionary objects of tables in a file.
    fn dictionary_objects(&self, id: SpaceId, path: &Path) -> Result<Vec<sdi::SdiObject>> {
        let space = self.open_space(id, path)?;
        let layout = space.layout;
        let mut scratch = Scratch::new();
        let head = sound_page(&space, PageNo(0), &mut scratch)?;
        let objects = sdi::read(&head, layout, &mut |number| {
            let page = sound_page(&space, number, &mut scratch)?;
            let page_type = FilHeader::of(&page).map(FilHeader::page_type).unwrap_or(PageType::UNKNOWN);
            if page_type == PageType::COMPRESSED && !layout.is_zip() {
                let mut whole = vec![0; layout.logical()];
                let restored = restore_compressed(&page, &mut whole, &mut scratch);
                return restored.map(|()| whole).map_err(|e| corrupt(path, "a compressed page").cause(e));
            }
            match layout.is_zip() && page_type.is_index() {
                true => index_frame(&page, layout)
                    .ok_or_else(|| corrupt(path, "a compressed page can't be decompressed")),
                false => Ok(page),
            }
        });
        let objects = objects.map_err(|e| match e {
            SdiError::Page(e) => e,
            SdiError::Broken(_) => {
                corrupt(path, "no dictionary information can be read from it").cause(BrokenSdi(e.to_string()))
            }
        })?;
        Ok(objects.into_iter().filter(|object| object.kind == sdi::TABLE).collect())
    }
}

/// Tells pages that may be all zeros from those that are lost.
struct ZeroPages<'a> {
    space: &'a OpenTablespace,
    path: &'a Path,
    /// Pages below this were initialised (`FSP_FREE_LIMIT`).
    limit: u32,
    /// The page with extent descriptors that was asked last, and its number.
    descriptors: (PageNo, Vec<u8>),
}

impl<'a> ZeroPages<'a> {
    fn new(space: &'a OpenTablespace, path: &'a Path) -> Result<ZeroPages<'a>> {
        let first = sound_page(space, PageNo(0), &mut Scratch::new())?;
        let limit = space.format.page0(&first).map_err(|e| corrupt(path, "page 0").cause(e))?.free_limit;
        Ok(ZeroPages { space, path, limit, descriptors: (PageNo(0), first) })
    }

    /// Refuses pages, all of them zeros, one of which is in use by its extent descriptor, or is one that every group of extents has.
    fn check(&mut self, pages: std::ops::Range<PageNo>) -> Result<()> {
        let layout = self.space.layout;
        // What lies behind was never used.
        for number in pages.start.0..pages.end.0.min(self.limit) {
            let group = PageNo(descriptor_page(&layout, u64::from(number)) as u32);
            let is_of_group = number - group.0 < 2;
            if !is_of_group && self.descriptors.0 != group {
                self.descriptors = (group, sound_page(self.space, group, &mut Scratch::new())?);
            }
            if is_of_group || is_used(&self.descriptors.1, &layout, u64::from(number)) {
                return Err(corrupt(self.path, &format!("page {number} is in use and all zeros")));
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BrokenSdi(String);

/// Reads a page, decrypted, and checks it.
fn sound_page(space: &OpenTablespace, number: PageNo, scratch: &mut Scratch) -> Result<Vec<u8>> {
    let mut page = vec![0; space.layout.physical()];
    if number.0 >= space.pages() || space.read(number, &mut page)? < page.len() {
        return Err(Error::new(Code::CorruptPage, format!("tablespace {} has no page {number}", space.id)));
    }
    match space.verify(number, &page, scratch) {
        Ok(_) => Ok(page),
        Err(defect) => Err(Error::new(Code::CorruptPage, format!("{}: {defect}", space.shown(number)))),
    }
}

/// Partitions that have a file, those without parts of their own.
fn leaves(table: &Table) -> impl Iterator<Item = &Partition> {
    table.partitions.iter().flat_map(|partition| match partition.subpartitions.is_empty() {
        true => std::slice::from_ref(partition),
        false => &partition.subpartitions[..],
    })
}

/// The tablespaces of a table, and which partition each holds.
fn files_of(table: &Table) -> Vec<(SpaceId, Option<&Partition>)> {
    let space = |private: &str| value(private, "space_id").and_then(|id| id.parse().ok()).map(SpaceId);
    if table.partitions.is_empty() {
        let id = table.indexes.first().and_then(|index| space(&index.se_private_data));
        return id.map(|id| (id, None)).into_iter().collect();
    }
    let of =
        |partition: &Partition| partition.indexes.first().and_then(|index| space(&index.se_private_data));
    leaves(table).filter_map(|partition| of(partition).map(|id| (id, Some(partition)))).collect()
}

/// Schema and table of a datafile, as its path spells them.
fn names_of(path: &Path) -> Option<(String, String)> {
    let schema = path.parent()?.file_name()?.to_str()?;
    let table = path.file_name()?.to_str()?.strip_suffix(".ibd")?;
    Some((schema.to_owned(), table.to_owned()))
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::new(Code::CorruptPage, format!("{}: {what}", path.display())).hint("restore the backup again")
}

fn broken(what: &str) -> Error {
    Error::new(Code::Prepare, format!("the undo logs can't be read: {what}"))
        .hint("restore the backup again; if it happens again, report it")
}

fn not_exported(what: impl std::fmt::Display, why: &str) -> Error {
    Error::new(Code::Prepare, format!("{what} can't be exported: {why}")).hint(
        "receive the backup with --prepare=server, or --import-into with --mysqld: a private server undoes what was not committed",
    )
}
