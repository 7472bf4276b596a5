//! The session variables that every session of ours has, whatever the server's defaults are.
//!
//! A session inherits the global values, and `init_connect` may change any of them before our first statement. Here is
//! every variable that can cut, change, reorder, delay or fail a statement of ours, with the value it gets. The
//! others concern statements that we don't make (DDL, DML, replication), logs, or costs.

use crate::base::version::ServerVersion;

/// The first version whose variables [`SETTINGS`] are.
const MYSQL8: ServerVersion = ServerVersion::new(8, 0, 0);

/// A variable and its value, as `SHOW VARIABLES` spells it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    /// Without it an answer could be wrong: an account that may not set it is refused where it has another value.
    /// Else it only costs time or memory.
    pub(super) needed: bool,
}

const fn needed(name: &'static str, value: &'static str) -> Setting {
    Setting { name, value, needed: true }
}

const fn better(name: &'static str, value: &'static str) -> Setting {
    Setting { name, value, needed: false }
}

/// No limit, for 64-bit variables.
const NO_LIMIT: &str = "18446744073709551615";

/// The first statement: names and values are read in this character set, and the literals of the next ones too, whatever
/// `skip_character_set_client_handshake`, `init_connect` or the global values say.
pub(super) const NAMES: &str = "SET NAMES utf8mb4";

/// What `SHOW VARIABLES` itself depends on: set without looking.
pub(super) const FIRST: &[Setting] = &[
    needed("sql_select_limit", NO_LIMIT),
    needed("max_execution_time", "0"),
    // It sets `sql_big_selects` as well, and that only lasts when set behind it.
    needed("max_join_size", NO_LIMIT),
    needed("sql_big_selects", "ON"),
    needed("sql_mode", ""),
];

/// What is set where it is not so.
pub(super) const SETTINGS: &[Setting] = &[
    // Rows and values that would be cut or be others.
    needed("sql_auto_is_null", "OFF"),
    needed("sql_quote_show_create", "ON"),
    needed("sql_safe_updates", "OFF"),
    needed("group_concat_max_len", "1048576"),
    needed("max_sort_length", "1024"),
    // Variables that hold paths are shown in it.
    needed("character_set_filesystem", "binary"),
    needed("time_zone", "+00:00"),
    needed("lc_messages", "en_US"),
    needed("lc_time_names", "en_US"),
    needed("div_precision_increment", "4"),
    needed("cte_max_recursion_depth", "1000"),
    needed("show_gipk_in_create_table_and_information_schema", "ON"),
    needed("terminology_use_previous", "NONE"),
    needed("resultset_metadata", "FULL"),
    needed("information_schema_stats_expiry", "0"),
    // Transactions: every statement is one of its own and sees what is there now.
    needed("autocommit", "ON"),
    needed("completion_type", "NO_CHAIN"),
    needed("transaction_isolation", "REPEATABLE-READ"),
    needed("transaction_read_only", "OFF"),
    needed("group_replication_consistency", "EVENTUAL"),
    better("gtid_next", "AUTOMATIC"),
    better("pseudo_replica_mode", "OFF"),
    better("pseudo_slave_mode", "OFF"),
    better("require_row_format", "OFF"),
    // Waiting. The session is idle while files are read, and nothing may end it then.
    needed("wait_timeout", "2147483"),
    needed("interactive_timeout", "2147483"),
    needed("net_read_timeout", "600"),
    needed("net_write_timeout", "600"),
    needed("net_retry_count", "10"),
    needed("lock_wait_timeout", "60"),
    needed("innodb_lock_wait_timeout", "50"),
    better("low_priority_updates", "OFF"),
    // How a query is carried out. The answer should be the same; errors of the optimizer are of this kind.
    needed("use_secondary_engine", "OFF"),
    needed("optimizer_prune_level", "1"),
    needed("optimizer_search_depth", "62"),
    better("optimizer_max_subgraph_pairs", "100000"),
    needed("eq_range_index_dive_limit", "200"),
    needed("range_optimizer_max_mem_size", "8388608"),
    needed("max_seeks_for_key", NO_LIMIT),
    better("optimizer_trace", "enabled=off,one_line=off"),
    better("profiling", "OFF"),
    // Memory, too little of it or too much.
    better("connection_memory_limit", NO_LIMIT),
    better("global_connection_memory_tracking", "OFF"),
    better("parser_max_mem_size", NO_LIMIT),
    needed("tmp_table_size", "16777216"),
    needed("max_heap_table_size", "16777216"),
    better("internal_tmp_mem_storage_engine", "TempTable"),
    needed("big_tables", "OFF"),
    needed("sql_buffer_result", "OFF"),
    needed("join_buffer_size", "262144"),
    needed("sort_buffer_size", "262144"),
    needed("read_buffer_size", "131072"),
    needed("read_rnd_buffer_size", "262144"),
    better("set_operations_buffer_size", "262144"),
    better("query_alloc_block_size", "8192"),
    better("range_alloc_block_size", "4096"),
    // What is told with every answer.
    needed("session_track_gtids", "OFF"),
    needed("session_track_schema", "OFF"),
    needed("session_track_state_change", "OFF"),
    needed("session_track_system_variables", ""),
    needed("session_track_transaction_info", "OFF"),
];

/// Set after them, always: what these do can't be seen from their values.
pub(super) const LAST: &[&str] = &[
    // The server's own defaults, not the global value.
    "SET SESSION optimizer_switch='default'",
    // Roles that are not active by default.
    "SET ROLE ALL",
];

/// The variables that are set on a server that calls itself `version` and `comment`. A family whose variables are not listed
/// here gets none but [`FIRST`].
pub(super) fn settings(version: &str, comment: &str) -> &'static [Setting] {
    let is_mysql = ![version, comment].iter().any(|text| text.to_ascii_lowercase().contains("mariadb"));
    match ServerVersion::parse(version) {
        Some(v) if is_mysql && v >= MYSQL8 => SETTINGS,
        _ => &[],
    }
}

impl Setting {
    /// The statement that sets it.
    pub(super) fn statement(&self) -> String {
        let number = !self.value.is_empty() && self.value.bytes().all(|b| b.is_ascii_digit());
        let quote = if number { "" } else { "'" };
        format!("SET SESSION {}={quote}{}{quote}", self.name, self.value)
    }

    /// Whether `found`, as `SHOW VARIABLES` has it, is the value.
    pub(super) fn is(&self, found: &str) -> bool {
        self.value.eq_ignore_ascii_case(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_named_twice_and_no_statement_is_long() {
        let mut names: Vec<_> = FIRST.iter().chain(SETTINGS).map(|s| s.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(FIRST.iter().chain(SETTINGS).all(|s| s.statement().len() < 200));
    }
}
