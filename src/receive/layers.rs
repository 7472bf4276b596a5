//! What is around the stream, by its first bytes.

use crate::base::{Code, Error, Result};
use crate::stream::frame::MAGIC;
use crate::transport::Inlet;

/// As many bytes as any of the magics has.
const HEAD_LEN: usize = 32;

/// First bytes of what is not an xbstream, what it is, and what to put before xbrecv.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (b"age-encryption.org/v1", "encrypted with age", "age -d -i KEYFILE"),
    (b"-----BEGIN AGE ENCRYPT", "encrypted with age", "age -d -i KEYFILE"),
    (b"\x28\xB5\x2F\xFD", "compressed with zstd", "zstd -d"),
    (b"\x04\x22\x4D\x18", "compressed with lz4", "lz4 -d"),
    (b"\x1F\x8B", "compressed with gzip", "gzip -d"),
    (b"\xFD7zXZ\x00", "compressed with xz", "xz -d"),
];

/// The first bytes of the stream, which must be those of an xbstream.
///
/// # Errors
/// [`Code::StreamTruncated`] where nothing comes, [`Code::StreamCorrupt`] with the way out for anything else.
pub(super) fn first_bytes(inlet: &mut dyn Inlet) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD_LEN];
    let mut filled = 0;
    while filled < head.len() {
        match inlet.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    check(&head)?;
    Ok(head)
}

fn check(head: &[u8]) -> Result<()> {
    if head.is_empty() {
        return Err(Error::new(Code::StreamTruncated, "nothing came on standard input")
            .hint("the sender failed before it sent anything: look at its messages"));
    }
    let begins = |magic: &[u8]| head.starts_with(magic) || magic.starts_with(head);
    if begins(&MAGIC) {
        return Ok(());
    }
    match OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        Some((_, what, tool)) => Err(Error::new(
            Code::StreamCorrupt,
            format!("the stream is {what}, which is not undone here yet"),
        )
        .hint(format!("put the tool in front: {tool} | xbrecv DIR"))),
        None => Err(Error::new(
            Code::StreamCorrupt,
            format!(
                "this is no xbstream (it begins with '{}')",
                head[..head.len().min(MAGIC.len())].escape_ascii()
            ),
        )
        .hint("xbrecv reads what xbsend writes, or mbstream -c and xbstream -c with --allow-no-manifest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_with_their_tool() {
        for (head, tool) in [
            (&b"age-encryption.org/v1\n-> X25519"[..], "age -d"),
            (b"\x28\xB5\x2F\xFD\x04\x58\x61\x00", "zstd -d"),
            (b"\x04\x22\x4D\x18\x64\x40\xA7\x00", "lz4 -d"),
        ] {
            let e = check(head).unwrap_err();
            assert_eq!(e.code, Code::StreamCorrupt);
            assert!(e.hint.unwrap().contains(tool));
        }
    }

    #[test]
    fn only_xbstreams_pass() {
        check(b"XBSTCK01\0P").unwrap();
        // Cut short: the demuxer says where.
        check(b"XBST").unwrap();
        assert_eq!(check(b"").unwrap_err().code, Code::StreamTruncated);
        assert_eq!(check(b"CREATE TABLE t").unwrap_err().code, Code::StreamCorrupt);
    }
}
