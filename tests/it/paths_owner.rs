//! Run as root in a folder of somebody else's, nothing is made, changed or given away outside of it, whatever he does meanwhile.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::pipe::{said, xbrecv_unprepared};
use crate::support::streams::{CNF, tablespace};
use crate::support::{Random, StreamMaker, seed};
use xbpipe::base::SpaceId;
use xbpipe::prepare::native::mark_prepared;

/// The one who is not to become root.
const NOBODY: u32 = 65534;
const CHECKPOINTS: &str =
    "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 24588\nlast_lsn = 24588\nflushed_lsn = 24588\n";

fn root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// `home`, which is nobody's, and `canary`, which is root's and has what a copy has.
struct Ground {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, Seen>,
}

type Seen = (u32, u32, u32, Vec<u8>);

impl Ground {
    fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        chown(dir.path().join("home"), Some(NOBODY), Some(NOBODY)).unwrap();
        let canary = dir.path().join("canary");
        for folder in ["data/db", "db", "empty", "#innodb_redo", "outside"] {
            fs::create_dir_all(canary.join(folder)).unwrap();
            fs::write(canary.join(folder).join("t.ibd"), b"root's").unwrap();
        }
        for file in ["ibdata1", "moving", "shadow", "xtrabackup_checkpoints"] {
            fs::write(canary.join(file), CHECKPOINTS).unwrap();
        }
        fs::set_permissions(canary.join("shadow"), fs::Permissions::from_mode(0o600)).unwrap();
        let before = seen(&canary);
        Ground { dir, before }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    #[track_caller]
    fn is_untouched(&self, what: &str) {
        let now = seen(&self.canary());
        let names = |tree: &BTreeMap<PathBuf, Seen>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.before), "{what}");
        assert!(now == self.before, "{what}: content, mode or owner has changed");
    }
}

/// Mode, owner and content of all that is below `root`, and of it.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_file() {
            content = fs::read(&path).unwrap();
        }
        found.insert(path, (meta.mode(), meta.uid(), meta.gid(), content));
    }
    found
}

/// Somebody who exchanges folders for links to the canary and back, as fast as he can. Ends with the test.
struct Exchanger(Child);

impl Exchanger {
    fn start(home: &Path, canary: &Path) -> Exchanger {
        const LOOP: &str = r#"
            while :; do
                for d in "$1"/.*xbrecv-* "$1"/t/.xbrecv-* "$1"/t "$1"/new "$1"/t/db; do
                    [ -d "$d" ] && [ ! -L "$d" ] || continue
                    mv "$d/data" "$d/was" && { ln -s "$2" "$d/data"; sleep 0.002; rm -f "$d/data"; mv "$d/was" "$d/data"; }
                    mv "$d" "$1/stolen" && { ln -s "$2" "$d"; sleep 0.002; rm -f "$d"; mv "$1/stolen" "$d"; }
                done
            done 2>/dev/null"#;
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", LOOP, "sh"]);
        Exchanger(command.arg(home).arg(canary).spawn().unwrap())
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stream() -> StreamMaker {
    let mut stream = StreamMaker::new();
    stream.add("backup-my.cnf", CNF.as_bytes());
    stream.add(
        "xtrabackup_tablespaces",
        br#"{"version":2,"external_tablespaces":[{"file_name":"/ext/db/o.ibd","tablespace_name":"db/o"}]}"#,
    );
    stream.add("db/o.ibd", &tablespace(SpaceId(9), 18));
    for n in 0..30 {
        stream.add(&format!("db{}/t{n}.ibd", n % 5), &tablespace(SpaceId(100 + n as u32), 3));
    }
    stream.add("db/t.ibd", &tablespace(SpaceId(10), 3));
    stream.add_required();
    stream.finish()
}

/// Gives the stream slowly; the receiver may fail before its end.
fn give_slowly(child: &mut Child, bytes: &[u8], pieces: usize) {
    let mut input = child.stdin.take().unwrap();
    for piece in bytes.chunks(bytes.len() / pieces + 1) {
        if input.write_all(piece).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn staging_is_nobodys_to_exchange() {
    if !root() {
        return;
    }
    let rounds = std::env::var("XBPIPE_ROUNDS").map_or(6, |n| n.parse().unwrap());
    const PIECES: usize = 40;
    let mut random = Random::new(seed());
    let stream = stream();
    let mut whole = 0;
    for round in 0..rounds {
        let ground = Ground::new();
        let (target, new) = (ground.home().join("t"), ground.home().join("new"));
        for dir in [&target, &new] {
            fs::create_dir(dir).unwrap();
            chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = xbrecv_unprepared(&target);
        command.arg(format!("--map=/ext={}", new.display()));
        if round % 2 == 0 {
            // Staged inside the target, whose owner may rename what is in it.
            command.current_dir(&target);
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // From a moment on that lies anywhere in the stream or behind it.
        let (home, canary) = (ground.home(), ground.canary());
        let wait = Duration::from_millis(random.below(PIECES as u64 * 11));
        let exchanger = std::thread::spawn(move || {
            std::thread::sleep(wait);
            Exchanger::start(&home, &canary)
        });
        give_slowly(&mut child, &stream.bytes, PIECES);
        let said = said(child);
        drop(exchanger.join().unwrap());
        whole += u32::from(said.status == Some(0));
        assert!(!said.words.contains("panic"), "{}", said.words);
        ground.is_untouched(&format!("round {round}: {}", said.words));
    }
    eprintln!("{whole} of {rounds} copies were taken in spite of it");
}

/// Everything that the receiver or a prepare makes under a name of its own, or opens, as a link.
#[test]
fn links_in_a_folder_that_is_prepared_are_not_followed() {
    if !root() {
        return;
    }
    let stream = stream();
    let links = [
        ("xtrabackup_checkpoints.new", "shadow"),
        ("xtrabackup_checkpoints", "xtrabackup_checkpoints"),
        ("xtrabackup_logfile", "shadow"),
        ("xtrabackup_info", "shadow"),
        ("backup-my.cnf", "shadow"),
        ("ibdata1", "ibdata1"),
        ("db", "db"),
        ("db/t.ibd", "db/t.ibd"),
        ("#innodb_redo", "#innodb_redo"),
        ("#innodb_redo.new", "#innodb_redo"),
        ("#innodb_redo.applied", "#innodb_redo"),
        ("#xbrecv-journal-0", "shadow"),
        ("#xbrecv-redo-records", "shadow"),
        ("#xbrecv-aside-5", "shadow"),
        ("undo_001", "shadow"),
    ];
    for (name, to) in links {
        let ground = Ground::new();
        let folder = ground.home().join("folder");
        for (member, content) in &stream.contents {
            let path = folder.join(member);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
        }
        let link = folder.join(name);
        if link.is_dir() {
            fs::remove_dir_all(&link).unwrap();
        }
        let _ = fs::remove_file(&link);
        symlink(ground.canary().join(to), &link).unwrap();
        for path in seen(&folder).into_keys() {
            std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["prepare", "--progress=none", "--map=/ext=."]).arg(&folder).stderr(Stdio::piped());
        let words = said(command.spawn().unwrap()).words;
        assert!(!words.contains("panic"), "{name}: {words}");
        // The last step of every prepare.
        let _ = mark_prepared(&folder);
        ground.is_untouched(name);
        if name == "xtrabackup_checkpoints.new" {
            let text = fs::read_to_string(folder.join("xtrabackup_checkpoints")).unwrap();
            assert!(text.contains("full-prepared"), "{text}");
            assert_eq!(fs::metadata(folder.join("xtrabackup_checkpoints")).unwrap().uid(), NOBODY);
        }
    }
}

#[test]
fn hidden_folders_are_roots_until_all_is_written() {
    if !root() {
        return;
    }
    let ground = Ground::new();
    let target = ground.home().join("t");
    fs::create_dir(&target).unwrap();
    chown(&target, Some(NOBODY), Some(NOBODY)).unwrap();
    let stream = stream();
    let mut child = xbrecv_unprepared(&target).arg("--map=/ext=.").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&stream.bytes[..stream.bytes.len() / 2]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let hidden: Vec<_> = fs::read_dir(ground.home())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".xbrecv-"))
        .collect();
    assert_eq!(hidden.len(), 1);
    for (path, (mode, uid, ..)) in seen(&hidden[0]) {
        assert_eq!(uid, 0, "{}", path.display());
        assert!(path != hidden[0] || mode & 0o777 == 0o700, "{mode:o}");
    }
    input.write_all(&stream.bytes[stream.bytes.len() / 2..]).unwrap();
    drop(input);
    said(child).ok();
    for (path, (_, uid, gid, _)) in seen(&target) {
        assert_eq!((uid, gid), (NOBODY, NOBODY), "{}", path.display());
    }
}
