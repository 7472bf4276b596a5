//! Streams made by hand: small, valid, and as a sender would write them, for tests that then do something to them.

use std::collections::BTreeMap;

use xbpipe::base::{Lsn, SpaceId};
use xbpipe::innodb::page::{SpaceFlags, build_page0, checksum};
use xbpipe::innodb::redo::{BlockWriter, Kind, RedoFlags, RedoHead};
use xbpipe::stream::digest::{BLOCK, digest};
use xbpipe::stream::frame::{end_frame, payload_frame, sparse_crc, sparse_header};
use xbpipe::stream::manifest::{FORMAT, MANIFEST, Manifest, ManifestMember};
use xbpipe::stream::metadata::{
    BINLOG_INFO, BackupType, BinlogInfo, BinlogPosition, CHECKPOINTS, Checkpoints, INFO, Info, LOGFILE,
};
use xbpipe::stream::{Demux, Event, Extent, Limits, MemberName, Piece};

/// Where the redo of these streams begins, and its checkpoint.
pub const START: u64 = 8192 * 3;
pub const CHECKPOINT: Lsn = Lsn(START + 12);
/// How many groups it has.
const GROUPS: usize = 40;
/// What servers need of their options.
pub const CNF: &str = "[mysqld]\ninnodb_page_size=16384\nlog_bin=binlog\n";
const PAGE: usize = 16384;
/// The binary log's position, and its GTID set.
const POSITION: u64 = 157;
const GTIDS: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001:1-5";
const BEGAN: &str = "2026-11-22T10:00:00Z";
const ENDED: &str = "2026-11-22T10:00:01Z";

/// A stream under construction.
#[derive(Clone, Default)]
pub struct StreamMaker {
    pub bytes: Vec<u8>,
    /// What the manifest will say.
    pub members: Vec<ManifestMember>,
    /// What a receiver must have, by name.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Offsets of all frames.
    pub borders: Vec<usize>,
}

impl StreamMaker {
    pub fn new() -> StreamMaker {
        StreamMaker::default()
    }

    /// A whole backup of two tables, one of them with holes, of other files, and redo that says nothing.
    pub fn small() -> StreamMaker {
        StreamMaker::small_with(CNF)
    }

    /// The same with other options.
    pub fn small_with(cnf: &str) -> StreamMaker {
        let mut stream = StreamMaker::new();
        stream.add("backup-my.cnf", cnf.as_bytes());
        stream.add("ibdata1", &tablespace(SpaceId::SYSTEM, 3));
        stream.add("mysql.ibd", &tablespace(SpaceId::DICTIONARY, 2));
        stream.add("undo_001", &tablespace(SpaceId(0xFFFF_FFEF), 2));
        stream.add("undo_002", &tablespace(SpaceId(0xFFFF_FFEE), 2));
        let mut sparse = tablespace(SpaceId(9), 1);
        sparse.resize(2 * BLOCK + PAGE, 0);
        sparse[BLOCK + 32768..BLOCK + 40000].copy_from_slice(&noise(40000 - 32768, 3));
        stream.add_sparse("db/holes.ibd", &sparse);
        stream.add("db/t with space.CSV", b"1,2,3\n");
        stream.add("empty/db.opt", b"");
        stream.add_redo();
        stream.add_positions(redo_end(GROUPS));
        stream
    }

    /// What no server starts without, redo that says nothing, and the binary log.
    pub fn add_required(&mut self) -> &mut Self {
        self.add("ibdata1", &tablespace(SpaceId::SYSTEM, 3));
        self.add("mysql.ibd", &tablespace(SpaceId::DICTIONARY, 2));
        self.add("undo_001", &tablespace(SpaceId(0xFFFF_FFEF), 2));
        self.add("undo_002", &tablespace(SpaceId(0xFFFF_FFEE), 2));
        self.add_redo();
        self.add_positions(redo_end(GROUPS))
    }

    /// The binary log, and what is said of it and of the redo, which ends there.
    pub fn add_positions(&mut self, end: Lsn) -> &mut Self {
        self.add("binlog.000001", &noise(POSITION as usize, 6));
        self.add("binlog.index", b"./binlog.000001\n");
        let info = BinlogInfo { position: position(), gtid_executed: Some(GTIDS.into()) };
        self.add(BINLOG_INFO, info.render().as_bytes());
        self.add(CHECKPOINTS, checkpoints(end).render().as_bytes());
        self.add(INFO, info_of(end).render().as_bytes())
    }

    /// What a sender wrote, taken apart: every member's content, and the manifest.
    pub fn take_apart(stream: &[u8]) -> (BTreeMap<String, Vec<u8>>, Manifest) {
        let mut demux = Demux::new(Limits::default()).checking();
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut rest = stream;
        while !rest.is_empty() {
            rest = &rest[demux.feed(rest)..];
            while let Some(event) = demux.poll().unwrap() {
                match event {
                    Event::Chunk(chunk) => {
                        let content = contents.entry(chunk.member.to_string()).or_default();
                        for (_, piece) in chunk.pieces() {
                            match piece {
                                Piece::Hole(n) => content.resize(content.len() + n as usize, 0),
                                Piece::Data(bytes) => content.extend_from_slice(bytes),
                            }
                        }
                    }
                    Event::End { member, .. } => {
                        contents.entry(member.to_string()).or_default();
                    }
                }
            }
        }
        demux.finish().unwrap();
        let manifest = Manifest::parse(&contents.remove(MANIFEST).unwrap()).unwrap();
        (contents, manifest)
    }

    /// Has the metadata members say what the manifest says.
    pub fn agree(contents: &mut BTreeMap<String, Vec<u8>>, manifest: &Manifest) {
        let end = manifest.end_lsn;
        let mut checkpoints = Checkpoints::parse(&contents[CHECKPOINTS]).unwrap();
        checkpoints.last_lsn = end;
        checkpoints.to_lsn = checkpoints.to_lsn.min(end);
        checkpoints.flushed_lsn = checkpoints.flushed_lsn.min(end);
        contents.insert(CHECKPOINTS.into(), checkpoints.render().into());
        let gtid_executed = manifest.gtid_executed.clone();
        let mut info = Info::parse(&contents[INFO]).unwrap();
        info.innodb_to_lsn = end;
        if let Some(position) = manifest.binlog.clone() {
            info.binlog_pos = Info::binlog_pos(&position.file, position.position, gtid_executed.as_deref());
            contents.insert(BINLOG_INFO.into(), BinlogInfo { position, gtid_executed }.render().into());
        }
        contents.insert(INFO.into(), info.render().into());
    }

    /// A stream of these members, with this manifest but for its list of members; the members that say the same say what
    /// it says.
    pub fn put_together(contents: &BTreeMap<String, Vec<u8>>, manifest: Manifest) -> Vec<u8> {
        let mut contents = contents.clone();
        StreamMaker::agree(&mut contents, &manifest);
        StreamMaker::assembled(&contents, manifest)
    }

    /// The same, whatever the members say.
    pub fn assembled(contents: &BTreeMap<String, Vec<u8>>, manifest: Manifest) -> Vec<u8> {
        // What says how the others are to be taken comes first.
        const FIRST: [&str; 3] = ["backup-my.cnf", "xbpipe_increment", "xtrabackup_tablespaces"];
        let first = FIRST.into_iter().filter(|name| contents.contains_key(*name));
        let rest = contents.keys().map(String::as_str).filter(|name| !FIRST.contains(name));
        let names: Vec<&str> = first.chain(rest).collect();
        StreamMaker::in_order(&names, contents, manifest)
    }

    /// The same, with the members in this order.
    pub fn in_order(names: &[&str], contents: &BTreeMap<String, Vec<u8>>, manifest: Manifest) -> Vec<u8> {
        let mut stream = StreamMaker::new();
        for name in names {
            stream.add_sparse(name, &contents[*name]);
        }
        let manifest = Manifest { members: stream.members.clone(), ..manifest };
        stream.finish_with(&manifest.encode()).bytes
    }

    /// A whole member, in chunks of a block.
    pub fn add(&mut self, name: &str, content: &[u8]) -> &mut Self {
        for (n, chunk) in content.chunks(BLOCK).enumerate() {
            self.chunk(name, (n * BLOCK) as u64, chunk);
        }
        self.end(name, content)
    }

    /// The same with runs of 4 KiB of zeros as holes.
    pub fn add_sparse(&mut self, name: &str, content: &[u8]) -> &mut Self {
        for (n, block) in content.chunks(BLOCK).enumerate() {
            let mut map: Vec<Extent> = Vec::new();
            let mut payload = Vec::new();
            for piece in block.chunks(4096) {
                let len = piece.len() as u32;
                let hole = piece.iter().all(|b| *b == 0);
                match map.last_mut() {
                    Some(last) if hole && last.len == 0 => last.skip += len,
                    Some(last) if !hole => last.len += len,
                    _ if hole => map.push(Extent { skip: len, len: 0 }),
                    _ => map.push(Extent { skip: 0, len }),
                }
                if !hole {
                    payload.extend_from_slice(piece);
                }
            }
            self.borders.push(self.bytes.len());
            let crc = sparse_crc(&map, [&*payload]);
            self.bytes.extend(sparse_header(&member(name), (n * BLOCK) as u64, crc, &map, payload.len()));
            self.bytes.extend(payload);
        }
        self.end(name, content)
    }

    /// Redo of a few records that mean nothing.
    pub fn add_redo(&mut self) -> &mut Self {
        let (redo, _) = redo_of(&nothing(GROUPS));
        // In pieces of any length, as it comes.
        let (first, second) = redo.split_at(2048);
        self.chunk(LOGFILE, 0, first);
        self.chunk(LOGFILE, 2048, second);
        self.end(LOGFILE, &redo)
    }

    /// One frame of payload.
    pub fn chunk(&mut self, name: &str, offset: u64, payload: &[u8]) -> &mut Self {
        self.frame(payload_frame(&member(name), offset, payload))
    }

    /// Ends a member with this content.
    pub fn end(&mut self, name: &str, content: &[u8]) -> &mut Self {
        let size = content.len() as u64;
        self.members.push(ManifestMember { name: member(name), size, digest: digest(content) });
        self.contents.insert(name.to_owned(), content.to_vec());
        self.frame(end_frame(&member(name)))
    }

    /// Any bytes.
    pub fn frame(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.borders.push(self.bytes.len());
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    pub fn manifest(&self) -> Manifest {
        Manifest {
            format: FORMAT,
            tool: "test".into(),
            tool_version: "0".into(),
            server_version: "9.7.4".into(),
            server_uuid: "0a14a6b2-e660-11f1-a95e-02fc00000001".into(),
            page_size: 16384,
            started: BEGAN.into(),
            ended: ENDED.into(),
            checkpoint_lsn: CHECKPOINT,
            end_lsn: redo_end(GROUPS),
            binlog: Some(position()),
            gtid_executed: Some(GTIDS.into()),
            redo_uuid: None,
            server_started: None,
            selection: None,
            left_out: vec![],
            increment: None,
            stands_for: None,
            members: self.members.clone(),
        }
    }

    /// The stream with its manifest.
    pub fn finish(&self) -> StreamMaker {
        self.finish_with(&self.manifest().encode())
    }

    /// The stream with this text as manifest.
    pub fn finish_with(&self, text: &[u8]) -> StreamMaker {
        let mut whole = self.clone();
        whole.chunk(MANIFEST, 0, text);
        whole.frame(end_frame(&member(MANIFEST)));
        whole
    }
}

pub fn member(name: &str) -> MemberName {
    MemberName::parse(name).unwrap()
}

/// Bytes that are not zero for long.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = super::Random::new(seed);
    (0..len).map(|_| random.next() as u8).collect()
}

/// A tablespace of so many pages, each of them sound.
pub fn tablespace(space: SpaceId, pages: u32) -> Vec<u8> {
    const TABLE: u32 = 0x4021;
    const SHARED: u32 = 0x4800;
    let flags = match space {
        SpaceId::DICTIONARY => SHARED,
        space if space == SpaceId::SYSTEM || space.is_undo() => 0,
        _ => TABLE,
    };
    let mut bytes = build_page0(space, SpaceFlags(flags), pages).unwrap();
    for number in 1..pages {
        bytes.extend(page(space, number, CHECKPOINT.0 - 1));
    }
    bytes
}

/// A sound page of noise.
pub fn page(space: SpaceId, number: u32, lsn: u64) -> Vec<u8> {
    const INDEX: [u8; 2] = [0x45, 0xBF];
    let mut page = noise(PAGE, u64::from(space.0) + u64::from(number));
    page[..38].fill(0);
    page[4..8].copy_from_slice(&number.to_be_bytes());
    page[16..24].copy_from_slice(&lsn.to_be_bytes());
    page[24..26].copy_from_slice(&INDEX);
    page[34..38].copy_from_slice(&space.0.to_be_bytes());
    checksum::stamp(&mut page, false);
    page
}

fn position() -> BinlogPosition {
    BinlogPosition { file: "binlog.000001".into(), position: POSITION }
}

/// What stands in `xtrabackup_checkpoints` where redo ends there.
pub fn checkpoints(end: Lsn) -> Checkpoints {
    let backup_type = BackupType::FullBackuped;
    Checkpoints { backup_type, from_lsn: Lsn(0), to_lsn: CHECKPOINT, last_lsn: end, flushed_lsn: end }
}

/// What stands in `xtrabackup_info`.
pub fn info_of(end: Lsn) -> Info {
    Info {
        uuid: "1b25b7c3-e660-11f1-a95e-02fc00000001".into(),
        tool_name: "test".into(),
        tool_version: "0".into(),
        server_version: "9.7.4".into(),
        start_time: BEGAN.into(),
        end_time: ENDED.into(),
        binlog_pos: Info::binlog_pos(&position().file, POSITION, Some(GTIDS)),
        innodb_to_lsn: end,
        format: "xbstream".into(),
        ..Info::default()
    }
}

/// Groups of records that mean nothing.
pub fn nothing(groups: usize) -> Vec<Vec<u8>> {
    // MLOG_DUMMY_RECORD: a record that stands alone.
    const DUMMY: u8 = 32;
    vec![vec![DUMMY; 50]; groups]
}

fn redo_end(groups: usize) -> Lsn {
    redo_of(&nothing(groups)).1
}

/// A redo file's header and blocks with these groups, and the LSN of their end.
pub fn redo_of(groups: &[Vec<u8>]) -> (Vec<u8>, Lsn) {
    let mut writer = BlockWriter::new(Lsn(START));
    groups.iter().for_each(|group| writer.push_group(group));
    let (blocks, end) = writer.finish();
    let mut bytes = redo_head().build().to_vec();
    bytes.extend_from_slice(blocks.as_flattened());
    (bytes, end)
}

/// The header of that file.
pub fn redo_head() -> RedoHead {
    RedoHead {
        uuid: 7,
        start_lsn: Lsn(START),
        creator: "MySQL 9.7.4".into(),
        flags: RedoFlags(0),
        checkpoints: [Some(CHECKPOINT), None],
        encryption: None,
    }
}

/// The bit of a record's kind that makes it a group (`MLOG_SINGLE_REC_FLAG`).
pub const SINGLE_RECORD: u8 = 0x80;

/// Number in the form that redo has for space ids and page numbers.
pub fn compressed(n: u32) -> Vec<u8> {
    match n {
        0..0x80 => vec![n as u8],
        0x80..0x4000 => (n as u16 | 0x8000).to_be_bytes().to_vec(),
        0x4000..0x20_0000 => (n | 0xC0_0000).to_be_bytes()[1..].to_vec(),
        0x20_0000..0x1000_0000 => (n | 0xE000_0000).to_be_bytes().to_vec(),
        _ => [&[0xF0][..], &n.to_be_bytes()].concat(),
    }
}

/// A record.
pub fn record(kind: Kind, space: u32, page: u32, body: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], &compressed(space), &compressed(page), body].concat()
}

/// A record that is a group of its own.
pub fn single(kind: Kind, space: u32, page: u32, body: &[u8]) -> Vec<u8> {
    let mut record = record(kind, space, page, body);
    record[0] |= SINGLE_RECORD;
    record
}
