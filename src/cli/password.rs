//! Passwords: asked for on the terminal, or taken off the command line before anybody can read it there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use clap::Command;

use crate::base::{Code, Error, Result};

/// Longest password that is read from a descriptor.
const PASSWORD_MAX: u64 = 64 << 10;
const LONG: &str = "--password=";

/// Starts this program again without what is secret in its arguments: the process list shows arguments to everybody,
/// and a process can't change its own without unsafe code. Each secret goes through a pipe, whose number the hidden option
/// beside it tells.
///
/// # Errors
/// Only returns where the program could not be started again.
pub fn wipe(typed: &[OsString], secrets: &[(&str, &str)]) -> Result<()> {
    let failed =
        |e: std::io::Error| Error::io(Code::Internal, "can't hide what is secret from the process list", e);
    let mut rest = revealed(typed).split_off(1);
    let mut pipes = Vec::new();
    for (option, secret) in secrets {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        // A pipe takes so much without anybody who reads.
        if secret.len() as u64 > 4096 {
            return Err(Error::new(Code::Usage, "what is secret on the command line is too long"));
        }
        File::from(write).write_all(secret.as_bytes()).map_err(failed)?;
        fcntl_setfd(&read, FdFlags::empty()).map_err(|e| failed(e.into()))?;
        rest.push(format!("{option}={}", read.as_raw_fd()).into());
        pipes.push(read);
    }
    let program = std::env::current_exe().map_err(failed)?;
    let name = typed.first().cloned().unwrap_or_else(|| "xbsend".into());
    Err(failed(std::process::Command::new(program).arg0(name).args(rest).exec()))
}

/// Reads what [`wipe`] put into its pipe.
pub fn from_fd(fd: i32) -> Result<String> {
    let failed = |e: std::io::Error| {
        Error::io(Code::Usage, format!("can't read what is secret from descriptor {fd}"), e)
    };
    let mut text = String::new();
    let file = File::open(format!("/proc/self/fd/{fd}")).map_err(failed)?;
    // The writing end was closed before the program was started again, so this ends.
    file.take(PASSWORD_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Asks on the terminal, without echo.
pub fn ask() -> Result<String> {
    let failed = |e: std::io::Error| Error::io(Code::Usage, "can't ask for the password", e);
    let tty = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    if !tty.is_terminal() {
        return Err(Error::new(Code::Usage, "there is no terminal to ask for the password on")
            .hint("put it into the [xbsend] group of an option file"));
    }
    let before = tcgetattr(&tty).map_err(|e| failed(e.into()))?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    (&tty).write_all(b"Enter password: ").map_err(failed)?;
    tcsetattr(&tty, OptionalActions::Flush, &quiet).map_err(|e| failed(e.into()))?;
    let mut line = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(&tty), &mut line);
    tcsetattr(&tty, OptionalActions::Flush, &before).map_err(|e| failed(e.into()))?;
    (&tty).write_all(b"\n").map_err(failed)?;
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Spells short options out that stand in one word, as `-vpTEXT`, each as a word of its own; and the mysql client's `-pTEXT` as
/// `--password=TEXT`, so that there is one way only to give a password.
pub fn spell_out(command: &Command, typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut only_names = false;
    for (n, word) in typed.enumerate() {
        only_names |= word == "--";
        match word.to_str().and_then(|w| w.strip_prefix('-')) {
            Some(letters) if n > 0 && !only_names && !letters.starts_with('-') => {
                match single(command, letters) {
                    Some(singles) => words.extend(singles.into_iter().map(OsString::from)),
                    // The parser says what is wrong with it.
                    None => words.push(word),
                }
            }
            _ => words.push(word),
        }
    }
    words
}

/// The options of `letters`; `None` where one of them is none.
fn single(command: &Command, letters: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        if letter == 'p' {
            let text = rest.strip_prefix('=').unwrap_or(rest);
            words.push(if rest.is_empty() { "-p".into() } else { format!("{LONG}{text}") });
            return Some(words);
        }
        let help = matches!(letter, 'h' | 'V');
        let argument = command.get_arguments().find(|a| a.get_short() == Some(letter));
        let takes_value = argument.is_some_and(|a| a.get_action().takes_values());
        if argument.is_none() && !help {
            return None;
        }
        if takes_value {
            words.push(format!("-{letter}{rest}"));
            return Some(words);
        }
        words.push(format!("-{letter}"));
    }
    (!words.is_empty()).then_some(words)
}

/// The command line as text, with nothing secret in it.
pub fn without(typed: &[OsString]) -> String {
    let shown = revealed(typed);
    shown.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The words that anybody may see: no password, and an address without its ticket.
fn revealed(typed: &[OsString]) -> Vec<OsString> {
    let mut shown: Vec<OsString> = Vec::with_capacity(typed.len());
    for word in typed {
        let text = word.to_string_lossy();
        if [LONG, "--password-fd", "--to-fd"].iter().any(|secret| text.starts_with(secret)) {
            continue;
        }
        let address = text.starts_with("--to=") || shown.last().is_some_and(|before| before == "--to");
        match text.split_once('#').filter(|_| address) {
            Some((open, _)) => shown.push(open.into()),
            None => shown.push(word.clone()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::{Arg, ArgAction};

    fn command() -> Command {
        let value = |name: &'static str, short| Arg::new(name).short(short).long(name);
        Command::new("xbsend").args([
            value("user", 'u'),
            value("socket", 'S'),
            value("verbose", 'v').action(ArgAction::Count),
            value("quiet", 'q').action(ArgAction::SetTrue),
            value("password", 'p').num_args(0..=1).require_equals(true).default_missing_value(""),
        ])
    }

    fn spelled(typed: &[&str]) -> Vec<OsString> {
        spell_out(&command(), typed.iter().map(OsString::from))
    }

    #[test]
    fn nothing_secret_is_shown() {
        let typed =
            ["xbsend", "--user=u", "--password=secret", "-psecret", "-p=secret", "--password-fd=7", "-p"];
        let typed = spelled(&typed);
        assert_eq!(typed[2..5], ["--password=secret"; 3]);
        assert_eq!(without(&typed), "xbsend --user=u -p");
        let typed =
            ["xbsend", "--to", "quic://h:1/#s3cret", "--to=tcp://h:1/#s3cret", "--to-fd=9", "-S", "/a#b"];
        assert_eq!(without(&typed.map(OsString::from)), "xbsend --to quic://h:1/ --to=tcp://h:1/ -S /a#b");
    }

    #[test]
    fn every_way_to_spell_a_password_hides_it() {
        let (mut passed, secret) = (0, "s3cret");
        let flags = ["", "v", "q", "vv", "vq", "qvv"];
        let others: [&[&str]; 5] = [&[], &["-v"], &["-uu"], &["-vu", "u"], &["--socket", "-"]];
        for (before, after) in others.iter().flat_map(|b| others.iter().map(move |a| (b, a))) {
            let mut ways: Vec<String> = vec![format!("--password={secret}")];
            ways.extend(flags.iter().flat_map(|f| [format!("-{f}p={secret}"), format!("-{f}p{secret}")]));
            for way in ways {
                let typed = [&["xbsend"], *before, &[&*way], *after].concat();
                let typed = spelled(&typed);
                let parsed = command().args_override_self(true).try_get_matches_from(&typed);
                // What the parser takes for a password must be the password, and not be shown.
                let parsed = parsed.unwrap_or_else(|e| panic!("{typed:?}: {e}"));
                assert_eq!(
                    parsed.get_one::<String>("password").map(String::as_str),
                    Some(secret),
                    "{typed:?}"
                );
                assert!(!without(&typed).contains(secret), "{typed:?}");
                assert!(!spelled(&["xbsend", &without(&typed)]).iter().any(|w| w == secret));
                passed += 1;
            }
        }
        assert_eq!(passed, 25 * 13);
    }

    #[test]
    fn words_that_are_no_options_stay() {
        for word in ["-", "-3", "-x", "-vx", "--user=-psecret", "name"] {
            assert_eq!(spelled(&["xbsend", word])[1], word);
        }
        assert_eq!(spelled(&["xbsend", "--", "-vv"])[2], "-vv");
        assert_eq!(spelled(&["-vv", "-up"])[..], ["-vv", "-up"]);
    }
}
