//! Makes streams as a sender would, frame by frame.

use xbpipe::base::Lsn;
use xbpipe::stream::digest::digest;
use xbpipe::stream::frame::{end_frame, payload_frame, sparse_crc, sparse_header};
use xbpipe::stream::manifest::{FORMAT, MANIFEST};
use xbpipe::stream::metadata::BinlogPosition;
use xbpipe::stream::{Extent, Manifest, ManifestMember, MemberName};

pub(crate) fn name(text: &str) -> MemberName {
    MemberName::parse(text).unwrap()
}

/// A run of a member's content that becomes one frame.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    Dense(usize),
    /// A sparse frame with these holes and data runs.
    Sparse(Vec<Extent>),
}

/// The frame of `content` from `offset` on that `cut` describes, and where it ends.
pub(crate) fn frame(member: &MemberName, content: &[u8], offset: usize, cut: &Cut) -> (Vec<u8>, usize) {
    match cut {
        Cut::Dense(len) => {
            let end = offset + len;
            (payload_frame(member, offset as u64, &content[offset..end]), end)
        }
        Cut::Sparse(map) => {
            let mut payload = Vec::new();
            let mut at = offset;
            for extent in map {
                assert!(content[at..at + extent.skip as usize].iter().all(|b| *b == 0));
                at += extent.skip as usize;
                payload.extend_from_slice(&content[at..at + extent.len as usize]);
                at += extent.len as usize;
            }
            let crc = sparse_crc(map, [&*payload]);
            let mut frame = sparse_header(member, offset as u64, crc, map, payload.len());
            frame.extend_from_slice(&payload);
            (frame, at)
        }
    }
}

/// A manifest of `members`.
pub(crate) fn manifest(members: &[(MemberName, Vec<u8>)]) -> Manifest {
    let listed = |(name, content): &(MemberName, Vec<u8>)| ManifestMember {
        name: name.clone(),
        size: content.len() as u64,
        digest: digest(content),
    };
    Manifest {
        format: FORMAT,
        tool: "xbsend".into(),
        tool_version: "0.1.0".into(),
        server_version: "9.7.4".into(),
        server_uuid: "203deb28-07c2-11e7-b338-005056a03e27".into(),
        page_size: 16_384,
        started: "2026-11-22T10:00:00Z".into(),
        ended: "2026-11-22T10:00:05Z".into(),
        checkpoint_lsn: Lsn(1000),
        end_lsn: Lsn(2000),
        binlog: Some(BinlogPosition { file: "binlog.000002".into(), position: 157 }),
        gtid_executed: None,
        redo_uuid: None,
        server_started: None,
        selection: None,
        left_out: vec![],
        increment: None,
        stands_for: None,
        members: members.iter().map(listed).collect(),
    }
}

/// The manifest as the last two frames.
pub(crate) fn manifest_frames(members: &[(MemberName, Vec<u8>)]) -> Vec<Vec<u8>> {
    let json = manifest(members).encode();
    vec![payload_frame(&name(MANIFEST), 0, &json), end_frame(&name(MANIFEST))]
}

/// A small whole stream as frames: interleaved members, holes at start, middle and end, an empty member, redo, manifest.
pub(crate) fn small_stream() -> Vec<Vec<u8>> {
    let hole = |skip, len| Extent { skip, len };
    let mut table = vec![0; 40];
    table[10..14].copy_from_slice(b"page");
    table[20..25].copy_from_slice(b"pages");
    let members = [
        (name("backup-my.cnf"), b"[mysqld]\n".to_vec()),
        (name("ibdata1"), b"system tablespace".to_vec()),
        (name("db/t.ibd"), table),
        (name("xtrabackup_logfile"), b"redo and more redo".to_vec()),
        (name("db/empty.CSV"), Vec::new()),
    ];
    let [cnf, system, table, redo, empty] = &members;
    let cut = |(name, content): &(MemberName, Vec<u8>), offset, cut| frame(name, content, offset, &cut).0;
    let end = |(name, _): &(MemberName, Vec<u8>)| end_frame(name);
    let mut frames = vec![
        cut(cnf, 0, Cut::Dense(9)),
        end(cnf),
        cut(system, 0, Cut::Dense(7)),
        cut(table, 0, Cut::Sparse(vec![hole(10, 4), hole(6, 1)])),
        cut(redo, 0, Cut::Dense(5)),
        cut(system, 7, Cut::Dense(10)),
        cut(table, 21, Cut::Dense(2)),
        end(system),
        cut(table, 23, Cut::Sparse(vec![hole(0, 2), hole(15, 0)])),
        end(table),
        end(empty),
        cut(redo, 5, Cut::Dense(13)),
        end(redo),
    ];
    frames.extend(manifest_frames(&members));
    frames
}
