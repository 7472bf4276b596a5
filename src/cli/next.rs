//! The lines that a summary offers for pasting: the copy's first server, and how it becomes a replica.
//!
//! Words in them come from the stream and are quoted ([`quote`]).

use std::path::Path;

use crate::base::quote;
use crate::stream::metadata::BinlogPosition;

/// Starts a server on the copy. `log_bin` is the base name of a binary log whose last part came along and is needed; `folders` are
/// those outside the copy that hold tablespaces.
pub(super) fn server(dir: &Path, log_bin: Option<&str>, folders: &[&Path]) -> String {
    let mut words = format!("mysqld {}", quote::shell_option("datadir", dir));
    if let Some(base) = log_bin {
        // Its two-phase recovery needs the last part of the source's binary log, which lies in the copy.
        words += &format!(" {}", quote::shell_option("log-bin", base));
    }
    if !folders.is_empty() {
        let mut list = std::ffi::OsString::new();
        for (n, folder) in folders.iter().enumerate() {
            if n > 0 {
                list.push(";");
            }
            list.push(folder);
        }
        words += &format!(" {}", quote::shell_option("innodb-directories", list));
    }
    words
}

/// Makes that server a replica of the one that was backed up. Where that one was a replica itself, the copy has its channels, and
/// its relay logs did not come along: they are taken away first, which changes nothing where there are none.
pub(super) fn replica(by_gtid: bool, position: Option<&BinlogPosition>) -> Option<String> {
    let position = match (by_gtid, position) {
        (true, _) => "SOURCE_AUTO_POSITION=1".to_owned(),
        (false, Some(p)) => {
            format!("SOURCE_LOG_FILE={}, SOURCE_LOG_POS={}", quote::sql_text(&p.file), p.position)
        }
        (false, None) => return None,
    };
    Some(format!(
        "RESET REPLICA ALL; CHANGE REPLICATION SOURCE TO SOURCE_HOST='…', SOURCE_USER='…', SOURCE_PASSWORD='…', {position}; \
         START REPLICA"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_quoted() {
        let line = server(Path::new("/c opy"), Some("b$(touch x)"), &[Path::new("/a"), Path::new("/b'c")]);
        assert_eq!(
            line,
            r"mysqld --datadir='/c opy' --log-bin='b$(touch x)' --innodb-directories='/a;/b'\''c'"
        );
        assert_eq!(server(Path::new("/copy"), None, &[]), "mysqld --datadir=/copy");
        let position = BinlogPosition { file: "b', SOURCE_HOST='evil".into(), position: 4 };
        let line = replica(false, Some(&position)).unwrap();
        assert!(line.contains("SOURCE_LOG_FILE='b'', SOURCE_HOST=''evil', SOURCE_LOG_POS=4"), "{line}");
        assert!(replica(true, None).unwrap().starts_with("RESET REPLICA ALL; "));
        assert!(replica(false, None).is_none());
    }
}
