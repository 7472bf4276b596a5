//! Reads and writes the manifest: the last member of the stream, which lists what the stream must have held.
//!
//! It is JSON, one object. `format` is [`FORMAT`]; a reader refuses any other format, and ignores keys that
//! it does not know. The manifest does not list itself. No text in it has control characters, so that it can
//! be shown as it is.
//!
//! Its own bytes are protected by the crc of its chunks. It proves that a stream is complete and undamaged,
//! not who wrote it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::metadata::{BinlogPosition, one_line};
use super::name::MemberName;
use crate::base::{self, Code, Lsn};

/// Name of the member; nothing follows its end.
pub const MANIFEST: &str = "xbpipe_manifest";
/// Version of the format that is written and read here.
pub const FORMAT: u32 = 1;
/// Maximum size in bytes of a manifest that is accepted: about two million members.
pub const MANIFEST_MAX: usize = 256 << 20;

/// The manifest of a stream: its members, and facts about the backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// Name of the program that wrote the stream.
    pub tool: String,
    /// Version of that program.
    pub tool_version: String,
    /// `VERSION()` of the source.
    pub server_version: String,
    /// `@@server_uuid` of the source.
    pub server_uuid: String,
    /// `@@innodb_page_size` of the source.
    pub page_size: u32,
    /// Time when the backup began, RFC 3339.
    pub started: String,
    /// Time when its last data was read, RFC 3339.
    pub ended: String,
    /// LSN at which recovery begins.
    #[serde(with = "lsn")]
    pub checkpoint_lsn: Lsn,
    /// LSN that recovery must reach.
    #[serde(with = "lsn")]
    pub end_lsn: Lsn,
    /// Position in the binary log that belongs to `end_lsn`, if the source writes a binary log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog: Option<BinlogPosition>,
    /// `gtid_executed` that belongs to `end_lsn`, if the source has GTIDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gtid_executed: Option<String>,
    /// Number that all files of the source's redo log share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redo_uuid: Option<u32>,
    /// Time at which the server was started, in seconds since 1970, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_started: Option<u64>,
    /// Which tables were chosen, in one text; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// Tablespaces of tables that were not chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What the backup builds on; `None` for a full one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<Increment>,
    /// Identity of the increment whose state a merged backup has: increments that build on that one fit this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<Digest>,
    /// All other members.
    pub members: Vec<ManifestMember>,
}

/// What an increment says of its base, in the manifest and in a member before all data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Increment {
    /// Pages whose LSN is lower are not in the increment.
    #[serde(with = "lsn")]
    pub from_lsn: Lsn,
    /// Identity of the base; `None` if only an LSN was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// A tablespace that a partial backup does not have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its id.
    pub space: u32,
    /// Schema of its table.
    pub schema: String,
    /// Name of its table.
    pub table: String,
}

/// A member as it must have arrived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestMember {
    /// Name of the member.
    pub name: MemberName,
    /// Size of the member in bytes, holes included.
    pub size: u64,
    /// Digest of its content, holes read as zeros.
    pub digest: Digest,
}

/// The members that arrived: size and digest of each.
pub type Received = BTreeMap<MemberName, (u64, Digest)>;

impl Manifest {
    /// Returns the content of the member. A GTID set, which servers break into lines, becomes one line.
    pub fn encode(&self) -> Vec<u8> {
        let gtid_executed = self.gtid_executed.as_deref().map(one_line);
        let manifest = Manifest { gtid_executed, ..self.clone() };
        let mut json = serde_json::to_vec_pretty(&manifest).expect("no map keys and no failing types");
        json.push(b'\n');
        json
    }

    /// Reads the content of the member, which may come from an untrusted source.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MANIFEST_MAX {
            return Err(ManifestError::TooLarge(json.len()));
        }
        // The format is checked first: another one may have other fields.
        let Head { format } = serde_json::from_slice(json).map_err(ManifestError::json)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(ManifestError::json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Compares the manifest with the members that arrived, except the manifest itself. The error is the
    /// first difference in the order of the names.
    pub fn verify(&self, received: &Received) -> Result<(), ManifestError> {
        let promised: BTreeMap<_, _> = self.members.iter().map(|m| (&m.name, m)).collect();
        let arrived = received.keys().filter(|name| name.as_str() != MANIFEST);
        let names: BTreeSet<_> = promised.keys().copied().chain(arrived).collect();
        for name in names {
            let (Some(promised), Some(&(size, digest))) = (promised.get(name), received.get(name)) else {
                return Err(match promised.contains_key(name) {
                    true => ManifestError::Missing(name.clone()),
                    false => ManifestError::Extra(name.clone()),
                });
            };
            if promised.size != size {
                return Err(ManifestError::Size {
                    name: name.clone(),
                    promised: promised.size,
                    received: size,
                });
            }
            if promised.digest != digest {
                return Err(ManifestError::Content(name.clone()));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Self { tool, tool_version, server_version, server_uuid, started, ended, .. } = self;
        let binlog = self.binlog.as_ref().map(|b| &b.file);
        let texts = [tool, tool_version, server_version, server_uuid, started, ended];
        let names = self.left_out.iter().flat_map(|one| [&one.schema, &one.table]);
        if texts
            .into_iter()
            .chain(names)
            .chain(&self.selection)
            .chain(binlog)
            .chain(&self.gtid_executed)
            .any(|t| t.contains(char::is_control))
        {
            return Err(ManifestError::Invalid("a text has control characters"));
        }
        if !(self.page_size.is_power_of_two() && PAGE_SIZES.contains(&self.page_size)) {
            return Err(ManifestError::Invalid("page_size is none that InnoDB has"));
        }
        if self.increment.as_ref().is_some_and(|i| i.from_lsn > self.end_lsn) {
            return Err(ManifestError::Invalid("end_lsn lies before the increment's from_lsn"));
        }
        if self.checkpoint_lsn > self.end_lsn {
            return Err(ManifestError::Invalid("end_lsn lies before checkpoint_lsn"));
        }
        let mut names = BTreeSet::new();
        for member in &self.members {
            if member.name == MANIFEST {
                return Err(ManifestError::Invalid("the manifest lists itself"));
            }
            if !names.insert(&member.name) {
                return Err(ManifestError::Twice(member.name.clone()));
            }
        }
        Ok(())
    }
}

/// `UNIV_PAGE_SIZE_MIN` and `UNIV_PAGE_SIZE_MAX` of the server.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 4096..=65_536;

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Reads and writes LSNs as plain numbers.
pub(super) mod lsn {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::base::Lsn;

    pub(in super::super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(lsn.0)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        u64::deserialize(deserializer).map(Lsn)
    }
}

/// Defects of a manifest, and differences between it and the members that arrived.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The manifest is larger than [`MANIFEST_MAX`].
    #[error("the manifest is {0} bytes long, more than {MANIFEST_MAX}")]
    TooLarge(usize),
    /// The format is unknown.
    #[error("the manifest has format {0}, only {FORMAT} is known")]
    Format(u32),
    /// The content is not JSON, or lacks required fields.
    #[error("the manifest can't be read: {0}")]
    Json(String),
    /// A value is impossible.
    #[error("the manifest is invalid: {0}")]
    Invalid(&'static str),
    /// A member is listed twice.
    #[error("the manifest lists member {0} twice")]
    Twice(MemberName),
    /// A member did not arrive.
    #[error("member {0} of the manifest did not arrive")]
    Missing(MemberName),
    /// A member is not listed.
    #[error("member {0} arrived but is not in the manifest")]
    Extra(MemberName),
    /// A member has another size.
    #[error("member {name} has {received} bytes, by the manifest {promised}")]
    Size {
        /// Name of the member.
        name: MemberName,
        /// Size according to the manifest.
        promised: u64,
        /// Size as it arrived.
        received: u64,
    },
    /// A member has the right size, but another content.
    #[error("member {0} differs from its digest in the manifest")]
    Content(MemberName),
}

impl ManifestError {
    fn json(error: serde_json::Error) -> Self {
        // The message may quote the input.
        const SHOWN_MAX: usize = 300;
        let shown: String = error.to_string().chars().take(SHOWN_MAX).collect();
        ManifestError::Json(shown.escape_debug().to_string())
    }

    /// Returns the code that a user sees.
    pub fn code(&self) -> Code {
        match self {
            Self::Json(_) | Self::Invalid(_) | Self::Twice(_) => Code::StreamCorrupt,
            Self::TooLarge(_) | Self::Format(_) => Code::StreamRefused,
            Self::Missing(_) | Self::Extra(_) | Self::Size { .. } | Self::Content(_) => {
                Code::ManifestMismatch
            }
        }
    }
}

impl From<ManifestError> for base::Error {
    fn from(e: ManifestError) -> Self {
        let error = base::Error::new(e.code(), e.to_string());
        match e {
            ManifestError::Format(_) => {
                error.hint("use the xbrecv of the release whose xbsend wrote the stream")
            }
            _ if error.code == Code::ManifestMismatch => {
                error.hint("the stream is not what the sender wrote: take the backup again")
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::digest;
    use super::*;

    fn member(name: &str, content: &[u8]) -> ManifestMember {
        let name = MemberName::parse(name).unwrap();
        ManifestMember { name, size: content.len() as u64, digest: digest(content) }
    }

    fn manifest() -> Manifest {
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
            end_lsn: Lsn(u64::MAX),
            binlog: Some(BinlogPosition { file: "binlog.000002".into(), position: 157 }),
            gtid_executed: Some("203deb28-07c2-11e7-b338-005056a03e27:1-5".into()),
            redo_uuid: Some(9),
            server_started: None,
            selection: None,
            left_out: vec![],
            increment: None,
            stands_for: None,
            members: vec![member("ibdata1", b"abc"), member("db/t.ibd", b"de")],
        }
    }

    fn received() -> Received {
        manifest().members.into_iter().map(|m| (m.name, (m.size, m.digest))).collect()
    }

    /// Parses the manifest's JSON after one change.
    fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Manifest, ManifestError> {
        let mut json = serde_json::from_slice(&manifest().encode()).unwrap();
        change(&mut json);
        Manifest::parse(&serde_json::to_vec(&json).unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let all = manifest();
        assert_eq!(Manifest::parse(&all.encode()), Ok(all.clone()));
        let least = Manifest { binlog: None, gtid_executed: None, redo_uuid: None, members: vec![], ..all };
        let json = String::from_utf8(least.encode()).unwrap();
        assert!(!json.contains("binlog") && !json.contains("gtid"), "{json}");
        assert_eq!(Manifest::parse(json.as_bytes()), Ok(least));
    }

    #[test]
    fn a_gtid_set_becomes_one_line() {
        let lines = Manifest { gtid_executed: Some("a:1-2,\nb:3".into()), ..manifest() };
        assert_eq!(Manifest::parse(&lines.encode()).unwrap().gtid_executed.unwrap(), "a:1-2,b:3");
    }

    #[test]
    fn newer_keys_are_ignored_and_newer_formats_are_not() {
        assert_eq!(changed(|json| json["later"] = "x".into()), Ok(manifest()));
        let error = changed(|json| json["format"] = 2.into()).unwrap_err();
        assert_eq!(error, ManifestError::Format(2));
        let error = base::Error::from(error);
        assert_eq!(error.code, Code::StreamRefused);
        assert!(error.hint.is_some());
        // The format is checked before fields that another format may not have.
        assert_eq!(Manifest::parse(b"{\"format\":3}"), Err(ManifestError::Format(3)));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        for json in [&b""[..], b"{", b"[]", b"null", b"{}", b"\xff", b"{\"format\":1}", &[b'['; 100_000]] {
            assert!(matches!(Manifest::parse(json), Err(ManifestError::Json(_))));
        }
        let json_errors: [fn(&mut serde_json::Value); 6] = [
            |json| json["members"][0]["name"] = "../x".into(),
            |json| json["members"][0]["name"] = "/etc/passwd".into(),
            |json| json["members"][0]["size"] = (-1).into(),
            |json| json["members"][0]["digest"] = "md5:00".into(),
            |json| json["end_lsn"] = "1".into(),
            |json| json["binlog"]["position"] = 1.5.into(),
        ];
        for change in json_errors {
            assert!(matches!(changed(change), Err(ManifestError::Json(_))));
        }
        let invalid: [fn(&mut serde_json::Value); 8] = [
            |json| json["tool"] = "\x1b[2J".into(),
            |json| json["server_version"] = "9.7.4\n".into(),
            |json| json["gtid_executed"] = "a\r".into(),
            |json| json["binlog"]["file"] = "a\0".into(),
            |json| json["page_size"] = 16_000.into(),
            |json| json["page_size"] = 2048.into(),
            |json| json["checkpoint_lsn"] = u64::MAX.into(),
            |json| json["members"][0]["name"] = MANIFEST.into(),
        ];
        for (i, change) in invalid.into_iter().enumerate() {
            let outcome = changed(|json| {
                json["end_lsn"] = 2000.into();
                change(json);
            });
            assert!(matches!(outcome, Err(ManifestError::Invalid(_))), "{i}: {outcome:?}");
        }
        let twice = changed(|json| json["members"][0]["name"] = "db/t.ibd".into()).unwrap_err();
        assert_eq!(twice, ManifestError::Twice(MemberName::parse("db/t.ibd").unwrap()));
        let huge = vec![b' '; MANIFEST_MAX + 1];
        assert_eq!(Manifest::parse(&huge), Err(ManifestError::TooLarge(MANIFEST_MAX + 1)));
    }

    #[test]
    fn the_first_difference_is_named() {
        let manifest = manifest();
        let name = |text: &str| MemberName::parse(text).unwrap();
        manifest.verify(&received()).unwrap();
        let verify = |change: &dyn Fn(&mut Received)| {
            let mut received = received();
            change(&mut received);
            manifest.verify(&received)
        };
        assert_eq!(verify(&|r| _ = r.insert(name(MANIFEST), (0, digest(b"")))), Ok(()));
        assert_eq!(verify(&|r| _ = r.remove("ibdata1")), Err(ManifestError::Missing(name("ibdata1"))));
        assert_eq!(verify(&|r| r.clear()), Err(ManifestError::Missing(name("db/t.ibd"))));
        assert_eq!(
            verify(&|r| _ = r.insert(name("a"), (0, digest(b"")))),
            Err(ManifestError::Extra(name("a")))
        );
        assert_eq!(
            verify(&|r| r.get_mut("ibdata1").unwrap().0 = 4),
            Err(ManifestError::Size { name: name("ibdata1"), promised: 3, received: 4 })
        );
        let content = verify(&|r| r.get_mut("ibdata1").unwrap().1 = digest(b"abd")).unwrap_err();
        assert_eq!(content, ManifestError::Content(name("ibdata1")));
        let error = base::Error::from(content);
        assert_eq!(error.code, Code::ManifestMismatch);
        assert_eq!(error.to_string(), "member ibdata1 differs from its digest in the manifest");
    }
}
