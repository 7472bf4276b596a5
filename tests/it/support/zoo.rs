//! The zoo: a source with one of everything that a backup must bring across (zoo.sql says what).

use std::path::{Path, PathBuf};

use super::server::Server;

/// ```ignore
/// let outside = tempfile::tempdir().unwrap();
/// let zoo = Zoo::new(outside.path());
/// let server = Server::start(Kind::Mysql97, &zoo.options());
/// zoo.load(&server);
/// ```
pub struct Zoo {
    outside: PathBuf,
    page_size: u32,
    /// Rows in most tables.
    pub rows: u32,
    /// Rows of the same seed are the same.
    pub seed: u32,
    options: Vec<String>,
}

impl Zoo {
    /// With pages of 16 KiB. `outside` is an empty folder for the datafiles that live out of the datadir.
    pub fn new(outside: &Path) -> Zoo {
        Zoo::with_page_size(outside, 16384)
    }

    pub fn with_page_size(outside: &Path, page_size: u32) -> Zoo {
        // The server compares paths, so it gets the one that has no links in it.
        let outside = outside.canonicalize().unwrap();
        let options = vec![
            format!("--innodb-directories={}", outside.display()),
            format!("--innodb-page-size={page_size}"),
            "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend".to_owned(),
        ];
        Zoo { outside, page_size, rows: 1000, seed: 1, options }
    }

    /// What its server must be started with. The system tablespace has two files.
    pub fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    /// Makes everything. May be done once per server.
    pub fn load(&self, server: &Server) {
        server.run_script(&self.sql());
    }

    /// The whole script, as the command line client reads it.
    pub fn sql(&self) -> String {
        let mut wanted = true;
        let mut sql = String::new();
        for line in include_str!("zoo.sql").lines() {
            match line.strip_prefix("-- if ") {
                Some(condition) => wanted = self.holds(condition),
                None if line == "-- end" => wanted = true,
                None if wanted => sql.extend([line, "\n"]),
                None => {}
            }
        }
        sql.replace("{rows}", &self.rows.to_string())
            .replace("{seed}", &self.seed.to_string())
            .replace("{outside}", self.outside.to_str().unwrap())
    }

    fn holds(&self, condition: &str) -> bool {
        match condition {
            "compressed" => self.page_size <= 16384,
            "compressed_8" => (8192..=16384).contains(&self.page_size),
            "compressed_16" => self.page_size == 16384,
            // A page must shrink by at least one block of the filesystem, which has 4 KiB.
            "page_compression" => self.page_size > 4096,
            other => panic!("zoo.sql asks for an unknown condition: {other}"),
        }
    }
}
