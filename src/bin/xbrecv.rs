//! Receives a hot backup of a MySQL server and makes a datadir of it.

fn main() -> std::process::ExitCode {
    xbpipe::cli::xbrecv::main()
}
