//! Sends a hot backup of a running MySQL server as one stream.

fn main() -> std::process::ExitCode {
    xbpipe::cli::xbsend::main()
}
