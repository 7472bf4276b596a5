//! All integration tests, in one crate: one module for each thing that is tried, on real servers where it needs one.
//!
//! `scripts/test --only NAME` runs those whose name has `NAME` in it; names begin with the module's (`judge::random_workloads`).

mod support;

mod bench;
mod chain;
mod chain_hostile;
mod codec;
mod copy_binlog;
mod copy_encrypted;
mod copy_layers;
mod copy_layouts;
mod copy_moving_server;
mod copy_while_writing;
mod cut_layers;
mod demo;
mod discovery;
mod discovery_busy;
mod export;
mod family_mariadb;
mod hostile;
mod import;
mod innodb_apply;
mod innodb_real;
mod judge;
mod judge_chain;
mod layers;
mod liveness;
mod mbstream;
mod memory;
mod native_exact;
mod native_folder;
mod network;
mod network_flood;
mod network_hostile_receiver;
mod network_hostile_sender;
mod network_server;
mod network_unauthenticated;
mod partial;
mod paths;
mod paths_owner;
mod receive_hostile;
mod receive_prepare;
mod receive_server;
mod receive_target;
mod secrets;
mod send_connects;
mod send_hostile_server;
mod send_privileges;
mod send_refuses;
mod send_session;
mod send_slow_network;
mod send_throttle;
mod servers;
mod stream;
mod unused;
