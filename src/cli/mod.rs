//! The command line: options, option files, messages and progress.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod arguments;
mod folder_report;
mod keys;
mod network;
mod next;
pub mod option_files;
pub mod password;
pub mod progress;
pub mod report;
mod schemes;
mod secrets;
mod selection;
pub mod signals;
pub mod xbrecv;
mod xbrecv_export;
mod xbrecv_import;
mod xbrecv_info;
mod xbrecv_merge;
mod xbrecv_prepare;
pub mod xbsend;
mod xbsend_summary;
