use super::super::name::MemberName;
use super::*;
use crate::base::Lsn;

#[test]
fn checkpoints_have_the_lines_that_scripts_read() {
    let checkpoints = Checkpoints {
        backup_type: BackupType::FullBackuped,
        from_lsn: Lsn(0),
        to_lsn: Lsn(30_304_090),
        last_lsn: Lsn(30_304_100),
        flushed_lsn: Lsn(30_304_080),
    };
    let text = checkpoints.render();
    assert_eq!(
        text,
        "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 30304090\nlast_lsn = 30304100\n\
         flushed_lsn = 30304080\n"
    );
    assert_eq!(Checkpoints::parse(text.as_bytes()), Ok(checkpoints.clone()));
    // As XtraBackup 8.0 and 2.4 write it.
    let newer = format!("{text}redo_memory = 0\nredo_frames = 0\n");
    assert_eq!(Checkpoints::parse(newer.as_bytes()), Ok(checkpoints));
    let older = b"backup_type = log-applied\nfrom_lsn = 1\nto_lsn = 2\nlast_lsn = 3\ncompact = 0\n";
    let older = Checkpoints::parse(older).unwrap();
    assert_eq!((older.backup_type, older.flushed_lsn), (BackupType::LogApplied, Lsn(3)));
}

#[test]
fn broken_checkpoints_are_refused() {
    let good = "backup_type = full-prepared\nfrom_lsn = 0\nto_lsn = 2\nlast_lsn = 3\nflushed_lsn = 3\n";
    assert!(Checkpoints::parse(good.as_bytes()).is_ok());
    for (from, to, what) in [
        ("full-prepared", "full", "unknown backup_type 'full'"),
        ("to_lsn = 2", "to_lsn = 18446744073709551616", "'to_lsn' is no number: '18446744073709551616'"),
        ("flushed_lsn = 3", "flushed_lsn = -1", "'flushed_lsn' is no number: '-1'"),
        ("from_lsn = 0\n", "", "'from_lsn' is missing"),
        ("from_lsn = 0", "to_lsn = 0", "'to_lsn' comes twice"),
        ("from_lsn = 0", "from_lsn: 0", "no key and value in 'from_lsn: 0'"),
        ("from_lsn = 0", "from_lsn = \0", "has a NUL"),
    ] {
        let error = Checkpoints::parse(good.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("member xtrabackup_checkpoints: {what}"));
    }
    assert!(Checkpoints::parse(b"backup_type = \xff\n").is_err());
    let many: String = (0..2000).map(|i| format!("k{i} = 1\n")).collect();
    assert!(Checkpoints::parse(many.as_bytes()).unwrap_err().what.contains("more than"));
    let huge = vec![b'\n'; METADATA_MAX + 1];
    assert!(Checkpoints::parse(&huge).unwrap_err().what.contains("bytes long"));
}

#[test]
fn binlog_info_is_read_as_peers_write_it() {
    let position = BinlogPosition { file: "binlog.000002".into(), position: 157 };
    let plain = BinlogInfo { position, gtid_executed: None };
    assert_eq!(plain.render(), "binlog.000002\t157\n");
    assert_eq!(BinlogInfo::parse(b"binlog.000002\t157"), Ok(plain.clone()));
    let with_gtid = BinlogInfo { gtid_executed: Some("a:1-5,b:7".into()), ..plain.clone() };
    assert_eq!(with_gtid.render(), "binlog.000002\t157\ta:1-5,b:7\n");
    assert_eq!(BinlogInfo::parse(b"binlog.000002\t157\ta:1-5,\nb:7\n"), Ok(with_gtid.clone()));
    let broken = BinlogInfo { gtid_executed: Some("a:1-5,\nb:7".into()), ..plain.clone() };
    assert_eq!(broken.render(), with_gtid.render());
    assert_eq!(BinlogInfo::parse(b"binlog.000002\t157\t\n"), Ok(plain));
    for bad in [
        &b""[..],
        b"\n",
        b"binlog.1",
        b"binlog.1\t",
        b"binlog.1\tx",
        b"../binlog.1\t4",
        b"\t4",
        b"b\x1b\t4",
        b"b\t4\ta\x1b",
    ] {
        assert!(BinlogInfo::parse(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn info_has_the_keys_of_the_peers_in_their_order() {
    let info = Info {
        uuid: "203deb28-07c2-11e7-b338-005056a03e27".into(),
        tool_name: "xbsend".into(),
        tool_command: "--password=... --socket=/run/x\n.sock".into(),
        tool_version: "0.1.0".into(),
        server_version: "9.7.4".into(),
        server_flavor: "MySQL Community Server - GPL".into(),
        start_time: "2026-11-22 10:00:00".into(),
        end_time: "2026-11-22 10:00:05".into(),
        lock_time: 3,
        binlog_pos: Info::binlog_pos("binlog.000002", 157, Some("a:1-5,\nb:7")),
        innodb_to_lsn: Lsn(3_254_817_596),
        format: "xbstream".into(),
        backup_size: Some(77),
        ..Info::default()
    };
    let text = info.render();
    let keys: Vec<_> = text.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    assert_eq!(
        keys.join(", "),
        "uuid, name, tool_name, tool_command, tool_version, server_version, server_flavor, start_time, end_time, \
         lock_time, binlog_pos, innodb_from_lsn, innodb_to_lsn, partial, incremental, format, compressed, \
         encrypted, backup_size"
    );
    assert!(text.contains(
        "\nbinlog_pos = filename 'binlog.000002', position '157', GTID of the last change 'a:1-5,b:7'\n"
    ));
    assert!(text.contains("\npartial = N\n"));
    let read = Info::parse(text.as_bytes()).unwrap();
    assert_eq!(read, Info { tool_command: "--password=... --socket=/run/x .sock".into(), ..info });
}

#[test]
fn info_of_a_peer_is_read() {
    let text = b"uuid = x\nname = \ntool_name = xtrabackup\ntool_command = --a=b = c\ntool_version = 2.4.5\n\
        ibbackup_version = 2.4.5\nserver_version = 5.7.16-log\nstart_time = 2017-03-13 15:52:57\n\
        end_time = 2017-03-13 15:53:20\nlock_time = 0\nbinlog_pos = \ninnodb_from_lsn = 0\n\
        innodb_to_lsn = 3254817596\npartial = N\nincremental = N\nformat = tar\ncompact = N\n\
        compressed = compressed\nencrypted = N\n";
    let info = Info::parse(text).unwrap();
    assert_eq!(info.tool_command, "--a=b = c");
    assert_eq!(info.innodb_to_lsn, Lsn(3_254_817_596));
    assert!(info.compressed && !info.encrypted && info.backup_size.is_none());
    assert!(Info::parse(b"uuid = x\n").is_err());
}

#[test]
fn cnf_values_survive_the_quoting_of_option_files() {
    let mut cnf = BackupCnf::new();
    cnf.set("innodb_page_size", 16_384)
        .set("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend")
        .set("innodb_undo_directory", "./")
        .set("log_bin", "");
    assert_eq!(
        cnf.render().split_once("\n\n").unwrap().1,
        "[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend\n\
         innodb_undo_directory=./\nlog_bin=\n"
    );
    for value in
        [" a b ", "#x", "a # b", "a\\nb", "\\", "a\"b", "it's", "\"q\"", "'", "tab\tnl\n", "ü", "a\\s"]
    {
        cnf.set("x", value);
        let read = BackupCnf::parse(cnf.render().as_bytes()).unwrap();
        assert_eq!(read.get("x"), Some(value));
        assert_eq!(read, cnf);
    }
}

#[test]
fn cnf_values_are_read_as_a_server_reads_them() {
    // The values are those that my_print_defaults of MySQL 9.7 gives for these lines.
    for (line, value) in [
        (r#"x="a \"b\" c""#, r#"a "b" c"#),
        (r#"x=""q"""#, r#""q""#),
        (r#"x="q" # x"#, "q"),
        (r#"x="a # \" b""#, r#"a # " b"#),
        ("x=a#b", "a"),
        ("x='it\\'s'", "it's"),
        (r#"x="it's # x""#, "it's # x"),
        (r"x=a\sb\\c\qd", r"a b\c\qd"),
        (r#"x="  lead""#, "  lead"),
        (r#"x=x"y""#, r#"x"y""#),
        (r#"x=""""#, "\""),
        (r"x=a\", r"a\"),
        (r#"x=""q # """#, r#"""q"#),
        ("x=it's # c", "it's # c"),
        (r#"x="q\" # \"x""#, r##"q" # "x"##),
    ] {
        let read = BackupCnf::parse(format!("[mysqld]\n{line}\n").as_bytes()).unwrap();
        assert_eq!(read.get("x"), Some(value), "{line}");
    }
}

#[test]
fn cnf_of_a_peer_is_read() {
    let text = b"# This MySQL options file was generated.\n\n; x\n[client]\nuser=x\n[ mysqld ]\n\
        innodb_checksum_algorithm=crc32\ninnodb-page-size = 8192 # bytes\nskip-name-resolve\nx='a # b' # c\n\
        innodb_page_size=4096\nno_value # c\n[other]\ninnodb_page_size=1\n";
    let cnf = BackupCnf::parse(text).unwrap();
    let options: Vec<_> = cnf.options().collect();
    assert_eq!(
        options,
        [
            ("innodb_checksum_algorithm", "crc32"),
            ("skip_name_resolve", ""),
            ("x", "a # b"),
            ("innodb_page_size", "4096"),
            ("no_value", "")
        ]
    );
    assert_eq!(cnf.get("user"), None);
    for bad in [&b"[mysqld\nx=1"[..], b"[mysqld]\n=1", b"[mysqld]\na b=1", b"[mysqld]\n!include /x"] {
        assert!(BackupCnf::parse(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn slave_info_is_statements() {
    let channel = |name: &str, position: Option<(&str, u64)>| Channel {
        name: name.into(),
        position: position.map(|(f, p)| (f.into(), p)),
    };
    let info = SlaveInfo {
        gtid_purged: Some("a:1-5,\nb:7".into()),
        channels: vec![channel("", None), channel("it's", Some(("binlog.000002", 157)))],
    };
    let text = info.render();
    assert_eq!(
        text,
        "SET GLOBAL gtid_purged='a:1-5,b:7';\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1;\n\
         CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000002', SOURCE_LOG_POS=157 FOR CHANNEL 'it''s';\n"
    );
    let read = SlaveInfo::parse(text.as_bytes()).unwrap();
    assert_eq!(read, SlaveInfo { gtid_purged: Some("a:1-5,b:7".into()), ..info });
    let peer = b"CHANGE MASTER TO MASTER_LOG_FILE='m.000001', MASTER_LOG_POS=4\n";
    assert_eq!(SlaveInfo::parse(peer).unwrap().channels, [channel("", Some(("m.000001", 4)))]);
    for bad in [
        "DROP DATABASE x;",
        "SET GLOBAL gtid_purged='a'; DROP DATABASE x;",
        "SET GLOBAL gtid_purged='a\tb';",
        "SET GLOBAL gtid_purged='a\\\tb';",
        "CHANGE MASTER TO MASTER_LOG_FILE='m",
        "CHANGE MASTER TO MASTER_LOG_FILE='m', MASTER_LOG_POS=;",
        "CHANGE MASTER TO MASTER_AUTO_POSITION=1 FOR CHANNEL x;",
    ] {
        assert!(SlaveInfo::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn tablespaces_name_their_members() {
    let name = |text: &str| MemberName::parse(text).unwrap();
    let table = ExternalTablespace::new("/ext/db/t.ibd", "db/t", TablespaceType::Tables, name("db/t.ibd"));
    let undo =
        ExternalTablespace::new("/undo/undo_001", "innodb_undo_001", TablespaceType::Undo, name("undo_001"));
    let tablespaces = Tablespaces { external: vec![table.clone(), undo.clone()] };
    let text = tablespaces.render();
    assert_eq!(
        text,
        r#"{"version":2,"external_tablespaces":[{"file_name":"/ext/db/t.ibd","tablespace_name":"db/t","tablespace_type":"TABLESPACE"},{"file_name":"/undo/undo_001","tablespace_name":"innodb_undo_001","tablespace_type":"UNDO_LOG","member":"undo_001"}]}"#
    );
    assert_eq!(Tablespaces::parse(text.as_bytes()), Ok(tablespaces));
    assert_eq!(table.member(), Ok(name("db/t.ibd")));
    assert_eq!(undo.member(), Ok(name("undo_001")));
    assert_eq!(Tablespaces::parse(br#"{"version":2,"external_tablespaces":[]}"#), Ok(Tablespaces::default()));
    // Version 1 had no types; the names of undo members from other programs end in `.ibu`.
    let old = br#"{"version":1,"external_tablespaces":[{"file_name":"/e/t.ibd","tablespace_name":"db/t"}]}"#;
    assert_eq!(Tablespaces::parse(old).unwrap().external[0].member(), Ok(name("db/t.ibd")));
    let ibu = br#"{"version":2,"external_tablespaces":[{"file_name":"/e/u","tablespace_name":"u","tablespace_type":"UNDO_LOG"}]}"#;
    assert_eq!(Tablespaces::parse(ibu).unwrap().external[0].member(), Ok(name("u.ibu")));
}

#[test]
fn hostile_tablespaces_are_refused() {
    let entry = |file: &str, name: &str, more: &str| {
        format!(
            r#"{{"version":2,"external_tablespaces":[{{"file_name":"{file}","tablespace_name":"{name}"{more}}},
            {{"file_name":"/e/o.ibd","tablespace_name":"db/o","tablespace_type":"TABLESPACE"}}]}}"#
        )
    };
    assert!(Tablespaces::parse(entry("/e/t.ibd", "db/t", "").as_bytes()).is_ok());
    for bad in [
        entry("e/t.ibd", "db/t", ""),
        entry("", "db/t", ""),
        entry(r"/e/\u001b", "db/t", ""),
        entry("/e/t.ibd", r"db\u0000", ""),
        entry("/e/t.ibd", "../t", ""),
        entry("/e/t.ibd", "db/t", r#","member":"/etc/x""#),
        entry("/e/t.ibd", "db/o", ""),
        entry("/e/t.ibd", "db/t", r#","tablespace_type":"OTHER""#),
        r#"{"version":3,"external_tablespaces":[]}"#.into(),
        r#"{"version":0,"external_tablespaces":[]}"#.into(),
        r#"{"version":2}"#.into(),
        "[".repeat(100_000),
        String::new(),
    ] {
        let error = Tablespaces::parse(bad.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

#[test]
fn datafiles_of_an_increment_are_described() {
    let meta = DeltaMeta {
        page_size: 8192,
        is_zip: true,
        space: crate::base::SpaceId(7),
        flags: Some(0x2b),
        file_size: Some(65536),
    };
    let text = meta.render();
    assert_eq!(
        text,
        "page_size = 8192\nzip_size = 8192\nspace_id = 7\nspace_flags = 43\nfile_size = 65536\n"
    );
    assert_eq!(DeltaMeta::parse(text.as_bytes()), Ok(meta));
    // As mariadb-backup and XtraBackup write it.
    let theirs = DeltaMeta::parse(b"page_size = 16384\nzip_size = 0\nspace_id = 0\n").unwrap();
    assert_eq!((theirs.is_zip, theirs.flags, theirs.file_size), (false, None, None));
    for bad in [
        "",
        "page_size = 16384\n",
        "page_size = 16385\nspace_id = 1\n",
        "page_size = 512\nspace_id = 1\n",
        "page_size = 131072\nspace_id = 1\n",
        "page_size = 16384\nspace_id = 4294967296\n",
        "page_size = 16384\nspace_id = 1\nspace_flags = 4294967296\n",
        "page_size = 16384\nspace_id = 1\nfile_size = x\n",
    ] {
        assert!(DeltaMeta::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
