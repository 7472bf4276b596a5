//! Keeps the unauthenticated peers: connections that have not yet shown who they are, several hundred at a
//! time, for a short time each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio::task::AbortHandle;

use super::random;
use crate::session::Standing;
use crate::session::receiver::ConnectionId;

/// Maximum number of unauthenticated connections. With a thousand new ones a second, each still has at least
/// a third of a second: a round trip over a long distance.
const STRANGERS_MAX: u64 = 384;
/// Divisor: they may use at most a third of the files that this process may open.
const SHARE_OF_FILES: u64 = 3;

/// The network that an address belongs to, which one party usually holds: one IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Network(u128);

impl Network {
    fn of(address: SocketAddr) -> Network {
        match address.ip().to_canonical() {
            // No IPv6 network has these bits, with the upper half empty.
            IpAddr::V4(v4) => Network(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Network(v6.to_bits() >> 64 << 64),
        }
    }
}

#[derive(Debug)]
struct UnauthenticatedPeer {
    id: ConnectionId,
    network: Network,
    standing: Standing,
    task: AbortHandle,
}

/// The unauthenticated connections. When there is one too many, another is dropped to make room: never one
/// that has proved that it holds the ticket while there are others; then one of the network that has the most
/// connections; among these one that has sent nothing; else one at random. So neither many connections nor
/// long-lasting ones can keep the legitimate sender out.
#[derive(Debug)]
pub(super) struct UnauthenticatedPeers {
    all: Mutex<Vec<UnauthenticatedPeer>>,
    max: usize,
}

impl Default for UnauthenticatedPeers {
    fn default() -> UnauthenticatedPeers {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let max = (files / SHARE_OF_FILES).clamp(1, STRANGERS_MAX) as usize;
        UnauthenticatedPeers { all: Mutex::default(), max }
    }
}

impl UnauthenticatedPeers {
    /// Adds a connection; returns whether another one was dropped for it.
    pub(super) fn come(
        &self,
        id: ConnectionId,
        from: SocketAddr,
        start: impl FnOnce() -> AbortHandle,
    ) -> bool {
        let mut all = self.lock();
        all.retain(|stranger| !stranger.task.is_finished());
        let full = all.len() >= self.max;
        if full && let Some(out) = victim(&all, draw()) {
            all.swap_remove(out).task.abort();
        }
        let (network, standing) = (Network::of(from), Standing::Silent);
        // The lock is still held: anything that the new connection shows at once finds it in the list.
        all.push(UnauthenticatedPeer { id, network, standing, task: start() });
        full
    }

    /// Records that a connection has shown something about itself.
    pub(super) fn shows(&self, id: ConnectionId, standing: Standing) {
        if let Some(stranger) = self.lock().iter_mut().find(|stranger| stranger.id == id) {
            stranger.standing = stranger.standing.max(standing);
        }
    }

    /// Removes a connection that has authenticated.
    pub(super) fn go(&self, id: ConnectionId) {
        self.lock().retain(|stranger| stranger.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UnauthenticatedPeer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a number that nobody can predict.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    // If this fails, the first of the candidates is dropped: less fair, but harmless.
    let _ = random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Chooses the connection to drop.
fn victim(all: &[UnauthenticatedPeer], random: u64) -> Option<usize> {
    let worst = all.iter().map(|s| s.standing).min()?;
    // Having sent something counts only within one network; having proved something counts in all.
    let limit = worst.max(Standing::Spoke);
    let open = || all.iter().enumerate().filter(move |(_, s)| s.standing <= limit);
    let mut places: HashMap<Network, usize> = HashMap::new();
    for (_, stranger) in open() {
        *places.entry(stranger.network).or_default() += 1;
    }
    let most = *places.values().max()?;
    let crowd = || open().filter(|(_, s)| places.get(&s.network) == Some(&most));
    let least = crowd().map(|(_, s)| s.standing).min()?;
    let chosen: Vec<usize> = crowd().filter(|(_, s)| s.standing == least).map(|(n, _)| n).collect();
    chosen.get((random % chosen.len().max(1) as u64) as usize).copied()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const MAX: usize = 384;
    const A_SECOND: usize = 1000;
    const FLOODS: usize = 30;
    const HONEST: ConnectionId = 0;

    /// A task that never ends and does nothing.
    fn task(runtime: &tokio::runtime::Runtime) -> AbortHandle {
        runtime.spawn(std::future::pending::<()>()).abort_handle()
    }

    fn from(address: u32) -> SocketAddr {
        (Ipv4Addr::from(address), 1).into()
    }

    /// Returns in how many of [`FLOODS`] floods the legitimate connection remains after `ms` milliseconds,
    /// having shown `standing` as soon as it came.
    fn survives(networks: u32, flood: Standing, same: bool, standing: Standing, ms: usize) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let survived = |_: &usize| {
            let unauthenticated = UnauthenticatedPeers { all: Mutex::default(), max: MAX };
            let flood_one = |n: usize| {
                let id = n as u64 + 1;
                unauthenticated.come(id, from(n as u32 % networks), || task(&runtime));
                unauthenticated.shows(id, flood);
            };
            (0..MAX).for_each(flood_one);
            unauthenticated.come(HONEST, from(if same { 0 } else { u32::MAX }), || task(&runtime));
            unauthenticated.shows(HONEST, standing);
            (MAX..MAX + ms * A_SECOND / 1000).for_each(flood_one);
            assert!(unauthenticated.lock().len() <= MAX);
            unauthenticated.lock().iter().any(|s| s.id == HONEST)
        };
        (0..FLOODS).filter(survived).count()
    }

    #[test]
    fn the_honest_one_stands_in_a_flood() {
        use Standing::{Invited, Sender, Silent, Spoke};
        // From a network of its own, the legitimate connection remains whatever the others do.
        assert_eq!(survives(1, Silent, false, Silent, 1000), FLOODS);
        assert_eq!(survives(100, Spoke, false, Silent, 1000), FLOODS);
        // From a network that the flood uses too, it remains once it has shown more than they have.
        assert_eq!(survives(1, Silent, true, Spoke, 1000), FLOODS);
        assert_eq!(survives(1, Spoke, true, Invited, 1000), FLOODS);
        // The same holds if the flood comes from as many networks as there are places.
        assert_eq!(survives(u32::MAX, Silent, false, Spoke, 1000), FLOODS);
        assert_eq!(survives(u32::MAX, Spoke, false, Invited, 1000), FLOODS);
        assert_eq!(survives(u32::MAX, Invited, false, Sender, 1000), FLOODS);
        // If nothing distinguishes them, chance decides: e^-(300/384) of the cases remain.
        let luck = survives(u32::MAX, Spoke, false, Spoke, 300);
        assert!((4..26).contains(&luck), "{luck} of {FLOODS}");
    }

    #[test]
    fn networks_are_told_apart() {
        let v6 = |text: &str| Network::of((text.parse::<Ipv6Addr>().unwrap(), 1).into());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:0:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:10.0.0.1"), Network::of(from(0x0a00_0001)));
        assert_ne!(Network::of(from(1)), Network::of(from(2)));
    }
}
