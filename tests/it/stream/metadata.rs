//! Manifest and metadata members: what is written is read, and noise gives errors.

use proptest::prelude::*;
use xbpipe::base::Lsn;
use xbpipe::stream::Manifest;
use xbpipe::stream::digest::Digest;
use xbpipe::stream::manifest::ManifestMember;
use xbpipe::stream::metadata::*;

use crate::stream::packer::{manifest, name};

/// A text that may stand in a line.
fn line() -> impl Strategy<Value = String> {
    "[^\\p{C}]{0,30}".prop_map(|text| text.trim().to_owned())
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<u128>().prop_map(|n| format!("xxh3-128-1m:{n:032x}").parse().unwrap())
}

fn members() -> impl Strategy<Value = Vec<ManifestMember>> {
    prop::collection::vec((any::<u64>(), digest()), 0..20).prop_map(|rows| {
        let listed = |(i, (size, digest))| ManifestMember { name: name(&format!("db/t{i}")), size, digest };
        rows.into_iter().enumerate().map(listed).collect()
    })
}

proptest! {
    #[test]
    fn manifests(
        tool_version in line(),
        server_version in line(),
        gtid_executed in prop::option::of(line()),
        binlog in prop::option::of(("[a-z.]{1,9}", any::<u64>())),
        page_size in prop::sample::select(vec![4096, 8192, 16_384, 32_768, 65_536]),
        a in lsn(),
        b in lsn(),
        members in members(),
    ) {
        let written = Manifest {
            tool_version,
            server_version,
            gtid_executed,
            binlog: binlog.map(|(file, position)| BinlogPosition { file, position }),
            page_size,
            checkpoint_lsn: a.min(b),
            end_lsn: a.max(b),
            members,
            ..manifest(&[])
        };
        prop_assert_eq!(Manifest::parse(&written.encode()), Ok(written));
    }

    #[test]
    fn checkpoints(from_lsn in lsn(), to_lsn in lsn(), last_lsn in lsn(), flushed_lsn in lsn()) {
        let backup_type = BackupType::Incremental;
        let written = Checkpoints { backup_type, from_lsn, to_lsn, last_lsn, flushed_lsn };
        prop_assert_eq!(Checkpoints::parse(written.render().as_bytes()), Ok(written));
    }

    #[test]
    fn binlog_infos(file in "[a-z][a-z.0-9-]{0,20}", position in any::<u64>(), gtid in prop::option::of("[a-f0-9:,-]{1,60}")) {
        let position = BinlogPosition { file, position };
        let written = BinlogInfo { position, gtid_executed: gtid };
        prop_assert_eq!(BinlogInfo::parse(written.render().as_bytes()), Ok(written));
    }

    #[test]
    fn infos(texts in prop::collection::vec(line(), 10), flags in any::<[bool; 4]>(), lsns in any::<[u64; 2]>(), size in any::<Option<u64>>()) {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        let written = Info {
            uuid: next(),
            name: next(),
            tool_name: next(),
            tool_command: next(),
            tool_version: next(),
            server_version: next(),
            server_flavor: next(),
            start_time: next(),
            end_time: next(),
            lock_time: lsns[0],
            binlog_pos: Info::binlog_pos("binlog.1", lsns[1], size.map(|_| "a:1")),
            innodb_from_lsn: Lsn(lsns[0]),
            innodb_to_lsn: Lsn(lsns[1]),
            partial: flags[0],
            incremental: flags[1],
            format: next(),
            compressed: flags[2],
            encrypted: flags[3],
            backup_size: size,
        };
        prop_assert_eq!(Info::parse(written.render().as_bytes()), Ok(written));
    }

    #[test]
    fn option_files(options in prop::collection::btree_map("[a-z_]{1,20}", "[^\\x00]{0,30}", 0..10)) {
        let mut written = BackupCnf::new();
        for (name, value) in &options {
            written.set(name, value);
        }
        prop_assert_eq!(BackupCnf::parse(written.render().as_bytes()), Ok(written));
    }

    #[test]
    fn slave_infos(
        gtid_purged in prop::option::of("[a-f0-9:,-]{0,60}"),
        channels in prop::collection::vec((line(), prop::option::of((line(), any::<u64>()))), 0..4),
    ) {
        let channels = channels.into_iter().map(|(name, position)| Channel { name, position }).collect();
        let written = SlaveInfo { gtid_purged, channels };
        prop_assert_eq!(SlaveInfo::parse(written.render().as_bytes()), Ok(written));
    }

    #[test]
    fn tablespaces(rows in prop::collection::vec((line(), line(), any::<bool>()), 0..5)) {
        let external = rows
            .into_iter()
            .enumerate()
            .map(|(i, (file, space, undo))| {
                let kind = if undo { TablespaceType::Undo } else { TablespaceType::Tables };
                ExternalTablespace::new(format!("/{file}"), space, kind, name(&format!("db/t{i}.ibd")))
            })
            .collect();
        let written = Tablespaces { external };
        prop_assert_eq!(Tablespaces::parse(written.render().as_bytes()), Ok(written));
    }

    /// Damaged members give an error or a value, and never a panic; an error can be shown on a terminal.
    #[test]
    fn damaged_members(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        which in 0..7usize,
    ) {
        let mut content = samples()[which].clone();
        for (at, byte) in edits {
            let at = at.index(content.len());
            content[at] = byte;
        }
        for error in errors(&content) {
            prop_assert!(!error.contains(char::is_control), "{}", error);
        }
    }
}

fn samples() -> Vec<Vec<u8>> {
    let mut cnf = BackupCnf::new();
    cnf.set("innodb_page_size", 16_384).set("x", "a # \"b\" \\");
    let position = BinlogPosition { file: "binlog.1".into(), position: 4 };
    let info = Info { server_version: "9.7.4".into(), ..Info::default() };
    let channels = vec![Channel { name: "c".into(), position: Some(("b.1".into(), 4)) }];
    let external = vec![ExternalTablespace::new("/e/u", "u", TablespaceType::Undo, name("undo_001"))];
    vec![
        manifest(&[(name("ibdata1"), b"x".to_vec())]).encode(),
        b"backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 2\nflushed_lsn = 3\n".to_vec(),
        BinlogInfo { position, gtid_executed: Some("a:1".into()) }.render().into(),
        info.render().into(),
        cnf.render().into(),
        SlaveInfo { gtid_purged: Some("a:1".into()), channels }.render().into(),
        Tablespaces { external }.render().into(),
    ]
}

/// What every parser says against `content`.
fn errors(content: &[u8]) -> Vec<String> {
    [
        Manifest::parse(content).err().map(|e| e.to_string()),
        Checkpoints::parse(content).err().map(|e| e.to_string()),
        BinlogInfo::parse(content).err().map(|e| e.to_string()),
        Info::parse(content).err().map(|e| e.to_string()),
        BackupCnf::parse(content).err().map(|e| e.to_string()),
        SlaveInfo::parse(content).err().map(|e| e.to_string()),
        Tablespaces::parse(content).err().map(|e| e.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn samples_are_read_by_their_parsers() {
    let samples = samples();
    assert!(Manifest::parse(&samples[0]).is_ok());
    assert!(Checkpoints::parse(&samples[1]).is_ok());
    assert!(BinlogInfo::parse(&samples[2]).is_ok());
    assert!(Info::parse(&samples[3]).is_ok());
    assert!(BackupCnf::parse(&samples[4]).is_ok());
    assert!(SlaveInfo::parse(&samples[5]).is_ok());
    assert!(Tablespaces::parse(&samples[6]).is_ok());
}
