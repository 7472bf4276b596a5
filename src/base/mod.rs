//! Holds what every layer shares: typed ids, the user-facing error, server versions, progress counters, the
//! stop request, threads and locks, the limit on memory that a stream can use, read buffers, and CRC-32C. It also
//! escapes text of other parties, for display and for pasting.

pub mod budget;
pub mod buffer;
pub mod confined;
pub mod crc32c;
pub mod error;
pub mod gtid;
pub mod ids;
pub mod nofollow;
pub mod progress;
pub mod quote;
pub mod read;
pub mod show;
pub mod stop;
pub mod sync;
pub mod threads;
pub mod ticket_lock;
pub mod version;

pub use budget::{Budget, Charge, OverBudget};
pub use buffer::PageBuffer;
pub use confined::Confined;
pub use error::{Code, Error, Result};
pub use ids::{Lsn, PageNo, SpaceId};
pub use stop::Stop;
