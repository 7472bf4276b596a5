//! Prints the records of MySQL redo files as readable lines, one a record.
//!
//! ```text
//! cargo run --example redodump -- [--from LSN | --all] [--stats] FILE…
//! ```
//!
//! FILE is `#ib_redoN`, or the `xtrabackup_logfile` of a backup. Several files of one log are put in order. Reading
//! starts at the newest checkpoint; `--all` starts with the oldest file, `--from` at an LSN. Records of one
//! mini-transaction stand between `{` and `}`. `--stats` prints how many records of each type there are, and their
//! bytes, in place of the records.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::process::ExitCode;

use xbpipe::base::Lsn;
use xbpipe::innodb::redo::{
    BLOCK_LEN, Fed, HEAD_LEN, Kind, MiniTransaction, RedoFile, RedoHead, Scanner, newest_checkpoint,
};

type Failure = Box<dyn std::error::Error>;

struct Options {
    from: Option<u64>,
    all: bool,
    stats: bool,
    files: Vec<String>,
}

fn main() -> ExitCode {
    match options().and_then(|o| run(&o)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("redodump: {e}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { from: None, all: false, stats: false, files: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--all" => options.all = true,
            "--stats" => options.stats = true,
            "--from" => options.from = Some(arguments.next().ok_or("--from needs an LSN")?.parse()?),
            option if option.starts_with("--") => return Err(format!("unknown option {option}").into()),
            _ => options.files.push(argument),
        }
    }
    if options.files.is_empty() {
        return Err("usage: redodump [--from LSN | --all] [--stats] FILE...".into());
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut files = open(&options.files)?;
    files.sort_by_key(|(_, file)| file.head.start_lsn);
    let start = match options.from {
        Some(lsn) => Lsn(lsn),
        None if options.all => files[0].1.head.start_lsn,
        None => newest_checkpoint(files.iter().map(|(_, f)| f)).ok_or("no checkpoint in these files")?,
    };
    let mut scanner = Scanner::new(start);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut stats = BTreeMap::<Kind, (u64, u64)>::new();
    for (handle, file) in &mut files {
        let Some(offset) = file.offset_of(scanner.next_block()) else { continue };
        handle.seek(SeekFrom::Start(offset))?;
        let mut block = [0; BLOCK_LEN];
        while file.offset_of(scanner.next_block()).is_some() {
            handle.read_exact(&mut block)?;
            let fed = scanner.feed(&block)?;
            while let Some(group) = scanner.poll()? {
                if options.stats {
                    count(&group, &mut stats);
                } else {
                    print(&group, &mut out)?;
                }
            }
            if fed != Fed::Full {
                break;
            }
        }
    }
    for (kind, (records, bytes)) in stats {
        writeln!(out, "{:<26}{records:>12}{bytes:>15}", kind.name())?;
    }
    out.flush()?;
    let end = scanner.recovered_lsn().ok_or("no record starts in these files after the checkpoint")?;
    eprintln!("redo from LSN {start} to {end}");
    Ok(())
}

fn open(names: &[String]) -> Result<Vec<(BufReader<File>, RedoFile)>, Failure> {
    let open = |name: &String| -> Result<_, Failure> {
        let mut handle = BufReader::with_capacity(1 << 20, File::open(name)?);
        let mut head = [0; HEAD_LEN];
        handle.read_exact(&mut head)?;
        let head = RedoHead::read(&head)?;
        let len = handle.get_ref().metadata()?.len();
        Ok((handle, RedoFile { head, len }))
    };
    names.iter().map(|name| open(name).map_err(|e| format!("{name}: {e}").into())).collect()
}

fn print(group: &MiniTransaction<'_>, out: &mut impl Write) -> io::Result<()> {
    let several = group.outline().any(|(kind, ..)| kind == Kind::MultiRecEnd);
    if several {
        writeln!(out, "{{")?;
    }
    for record in group.records() {
        writeln!(out, "{record}")?;
    }
    if several { writeln!(out, "}} {}", group.end_lsn) } else { Ok(()) }
}

fn count(group: &MiniTransaction<'_>, stats: &mut BTreeMap<Kind, (u64, u64)>) {
    for record in group.records() {
        let (records, bytes) = stats.entry(record.kind).or_default();
        *records += 1;
        *bytes += record.bytes.len() as u64;
    }
}
