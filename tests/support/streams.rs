//! Streams made by hand: small, valid, and as a sender would write them, for tests that then do something to them.

use std::collections::BTreeMap;

use xbpipe::base::Lsn;
use xbpipe::base::format::Format;
use xbpipe::innodb::redo::{BlockWriter, RedoFlags, RedoHead};
use xbpipe::stream::digest::{BLOCK, digest};
use xbpipe::stream::frame::{end_frame, payload_frame, sparse_crc, sparse_header};
use xbpipe::stream::manifest::{FORMAT, MANIFEST, Manifest, ManifestMember};
use xbpipe::stream::{Demux, Event, Extent, Limits, MemberName, Piece};

/// Where the redo of these streams begins.
const START: u64 = 8192 * 3;

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

    /// A stream with two tables, one of them with holes, other files, and redo that says nothing.
    pub fn small() -> StreamMaker {
        let mut stream = StreamMaker::new();
        stream.add("backup-my.cnf", b"[mysqld]\ninnodb_page_size=16384\n");
        stream.add("ibdata1", &noise(40_000, 1));
        let mut sparse = vec![0; 2 * BLOCK + 16384];
        sparse[16384..20000].copy_from_slice(&noise(20000 - 16384, 2));
        sparse[BLOCK + 32768..BLOCK + 40000].copy_from_slice(&noise(40000 - 32768, 3));
        stream.add_sparse("db/holes.ibd", &sparse);
        stream.add("db/t with space.CSV", b"1,2,3\n");
        stream.add("empty/db.opt", b"");
        stream.add_redo();
        stream.add("xtrabackup_binlog_info", b"binlog.000001\t157\n");
        stream
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

    /// A stream of these members, with this manifest but for its list of members.
    pub fn put_together(contents: &BTreeMap<String, Vec<u8>>, manifest: Manifest) -> Vec<u8> {
        // What says how the others are to be taken comes first.
        const FIRST: [&str; 2] = ["backup-my.cnf", "xtrabackup_tablespaces"];
        let mut stream = StreamMaker::new();
        for name in FIRST {
            if let Some(content) = contents.get(name) {
                stream.add(name, content);
            }
        }
        for (name, content) in contents.iter().filter(|(name, _)| !FIRST.contains(&name.as_str())) {
            stream.add_sparse(name, content);
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
        let redo = redo(40);
        // In pieces of any length, as it comes.
        let (first, second) = redo.split_at(2048);
        self.chunk("xtrabackup_logfile", 0, first);
        self.chunk("xtrabackup_logfile", 2048, second);
        self.end("xtrabackup_logfile", &redo)
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
            started: "2026-11-22T10:00:00Z".into(),
            ended: "2026-11-22T10:00:01Z".into(),
            checkpoint_lsn: Lsn(START + 12),
            end_lsn: redo_end(40),
            binlog: None,
            gtid_executed: None,
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

fn log(groups: usize) -> (Vec<[u8; 512]>, Lsn) {
    // MLOG_DUMMY_RECORD: a record that stands alone.
    const DUMMY: u8 = 32;
    let mut writer = BlockWriter::new(Lsn(START));
    (0..groups).for_each(|_| writer.push_group(&[DUMMY; 50]));
    writer.finish()
}

/// A redo file's header and blocks with these groups, and the LSN of their end.
pub fn redo_of(groups: &[Vec<u8>]) -> (Vec<u8>, Lsn) {
    let mut writer = BlockWriter::new(Lsn(START));
    groups.iter().for_each(|group| writer.push_group(group));
    let (blocks, end) = writer.finish();
    (redo_file(&blocks), end)
}

fn redo_end(groups: usize) -> Lsn {
    log(groups).1
}

/// A redo file's header and blocks.
fn redo(groups: usize) -> Vec<u8> {
    redo_file(&log(groups).0)
}

fn redo_file(blocks: &[[u8; 512]]) -> Vec<u8> {
    let head = RedoHead {
        uuid: 7,
        start_lsn: Lsn(START),
        creator: "MySQL 9.7.4".into(),
        flags: RedoFlags(0),
        checkpoints: [Some(Lsn(START + 12)), None],
        encryption: None,
    };
    let mut bytes = head.build(Format::MySql8).to_vec();
    bytes.extend_from_slice(blocks.as_flattened());
    bytes
}
