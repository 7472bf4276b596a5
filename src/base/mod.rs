//! What every layer shares: typed ids, the user-facing error, the server format in hand, progress counters.

pub mod error;
pub mod format;
pub mod ids;
pub mod progress;

pub use error::{Code, Error, Result};
pub use ids::{Lsn, PageNo, SpaceId};
