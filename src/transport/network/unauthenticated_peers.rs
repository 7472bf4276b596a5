//! Unauthenticated peers: connections that have not shown who they are, several hundred at a time, for a short time each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio::task::AbortHandle;

use super::random;
use crate::session::Standing;
use crate::session::receiver::ConnectionId;

/// So many at a time: a thousand new ones a second leave each a third of a second at least, a round trip on a long way.
const STRANGERS_MAX: u64 = 384;
/// They take at most one in so many of the files that this process may open.
const SHARE_OF_FILES: u64 = 3;

/// The network that an address belongs to, which one party usually holds: one address of IPv4, a /64 of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Network(u128);

impl Network {
    fn of(address: SocketAddr) -> Network {
        match address.ip().to_canonical() {
            // No IPv6 network has just these bits, with the upper half empty.
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

/// The unauthenticated connections. One too many takes the place of another: never of one that has proved that it holds the
/// ticket while there are others; of the network that holds most places; of one that has said nothing; at random.
/// So neither many connections nor patient ones keep the right one out.
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
    /// Somebody comes; whether somebody else had to go.
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
        // Under the lock: what it shows at once finds it here.
        all.push(UnauthenticatedPeer { id, network, standing, task: start() });
        full
    }

    /// Somebody has shown something.
    pub(super) fn shows(&self, id: ConnectionId, standing: Standing) {
        if let Some(stranger) = self.lock().iter_mut().find(|stranger| stranger.id == id) {
            stranger.standing = stranger.standing.max(standing);
        }
    }

    /// Somebody is no stranger any more.
    pub(super) fn go(&self, id: ConnectionId) {
        self.lock().retain(|stranger| stranger.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UnauthenticatedPeer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that nobody can foresee.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    // Without it the first of those who may be chosen goes: not so fair, no more.
    let _ = random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Picks the connection that has to go.
fn victim(all: &[UnauthenticatedPeer], random: u64) -> Option<usize> {
    let worst = all.iter().map(|s| s.standing).min()?;
    // Who has said something differs from who has not only within one network; who has proved something, everywhere.
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

    /// A task that does nothing, for ever.
    fn task(runtime: &tokio::runtime::Runtime) -> AbortHandle {
        runtime.spawn(std::future::pending::<()>()).abort_handle()
    }

    fn from(address: u32) -> SocketAddr {
        (Ipv4Addr::from(address), 1).into()
    }

    /// In how many of [`FLOODS`] floods the honest one still stands after `ms`, having shown `standing` as soon as it came.
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
        // From a network of its own: whatever the others do.
        assert_eq!(survives(1, Silent, false, Silent, 1000), FLOODS);
        assert_eq!(survives(100, Spoke, false, Silent, 1000), FLOODS);
        // From a network of the flood's: once it has said more than they.
        assert_eq!(survives(1, Silent, true, Spoke, 1000), FLOODS);
        assert_eq!(survives(1, Spoke, true, Invited, 1000), FLOODS);
        // From as many networks as there are places: the same.
        assert_eq!(survives(u32::MAX, Silent, false, Spoke, 1000), FLOODS);
        assert_eq!(survives(u32::MAX, Spoke, false, Invited, 1000), FLOODS);
        assert_eq!(survives(u32::MAX, Invited, false, Sender, 1000), FLOODS);
        // Where nothing tells them apart, chance does: e^-(300/384) of them.
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
