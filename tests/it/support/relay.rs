//! A line with bad weather: a relay on this machine that delays, loses, slows down, cuts and swallows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::Random;

/// Bytes of a packet of TCP.
const PACKET: usize = 1400;

/// What the line does to whatever crosses it.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way.
    pub delay: Duration,
    /// Bytes a second, from the sender to the receiver.
    pub rate: f64,
    /// One packet in so many is lost; 0 for none. Over TCP what follows it waits until it was sent again.
    pub loss: u64,
    pub seed: u64,
}

pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
    _runtime: Runtime,
}

/// Packets on their way, in order, each with the moment of its arrival.
type Packets = mpsc::UnboundedSender<(Instant, Vec<u8>)>;

struct State {
    weather: Weather,
    /// Nothing crosses any more, and nobody is told.
    swallows: AtomicBool,
    /// Bytes that the sender gave to the line.
    sent: AtomicU64,
    /// What came to the receiver, in pieces as it came, if that is wanted.
    recorded: Mutex<Option<Vec<Vec<u8>>>>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Of UDP: the sockets towards the receiver, by sender.
    ways: Mutex<HashMap<SocketAddr, Packets>>,
    random: Mutex<Random>,
    /// Of UDP: when the line is free again.
    free: Mutex<Instant>,
}

impl Relay {
    pub fn new(carrier: &str, to: SocketAddr, weather: Weather) -> Relay {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::new(State {
            weather,
            swallows: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            recorded: Mutex::default(),
            tasks: Mutex::default(),
            ways: Mutex::default(),
            random: Mutex::new(Random::new(weather.seed)),
            free: Mutex::new(Instant::now()),
        });
        let address = match carrier {
            "tcp" => runtime.block_on(tcp(to, state.clone())),
            _ => runtime.block_on(udp(to, state.clone())),
        };
        Relay { address, state, _runtime: runtime }
    }

    /// Bytes that the sender gave to the line.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Relaxed)
    }

    /// From here on everything is written down that the receiver hears. (Who says to it what it has not heard, because
    /// it was lost, is just another way for the sender's words.)
    pub fn record(&self) {
        *self.state.recorded.lock().unwrap() = Some(Vec::new());
    }

    /// What was written down, in pieces as it came.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.state.recorded.lock().unwrap().clone().unwrap_or_default()
    }

    /// Ends all connections (TCP); what is under way is gone.
    pub fn cut(&self) {
        self.state.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
        self.state.ways.lock().unwrap().clear();
    }

    /// From here on nothing crosses, or everything does again.
    pub fn swallow(&self, all: bool) {
        self.state.swallows.store(all, Relaxed);
    }
}

impl State {
    fn swallows(&self) -> bool {
        self.swallows.load(Relaxed)
    }

    fn keep(&self, task: AbortHandle) {
        self.tasks.lock().unwrap().push(task);
    }
}

async fn tcp(to: SocketAddr, state: Arc<State>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((sender, _)) = listener.accept().await {
            if state.swallows() {
                continue;
            }
            let both = {
                let state = state.clone();
                async move {
                    let Some((sender, receiver)) = open(sender, to, &state).await else { return };
                    let (from, back) = sender.into_split();
                    let (answers, onwards) = receiver.into_split();
                    let forth = pump(from, onwards, state.clone(), true);
                    let back = pump(answers, back, state.clone(), false);
                    tokio::join!(forth, back);
                }
            };
            let task = tokio::spawn(both);
            state.keep(task.abort_handle());
        }
    });
    address
}

/// The beginning of a connection as on a long way: the sender speaks one round trip after it has called, and the receiver
/// sees it come when the first that it says is there too.
async fn open(mut sender: TcpStream, to: SocketAddr, state: &State) -> Option<(TcpStream, TcpStream)> {
    sleep(2 * state.weather.delay).await;
    let mut first = vec![0; 16 << 10];
    let n = sender.read(&mut first).await.ok().filter(|n| *n > 0)?;
    state.count(n);
    state.note(&first[..n]);
    sleep(state.weather.delay).await;
    while state.swallows() {
        sleep(Duration::from_millis(10)).await;
    }
    let mut receiver = TcpStream::connect(to).await.ok()?;
    receiver.write_all(&first[..n]).await.ok()?;
    Some((sender, receiver))
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<State>,
    forth: bool,
) {
    let (put, mut take) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async {
        let mut buffer = vec![0; 16 << 10];
        let mut free = Instant::now();
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            while state.swallows() {
                sleep(Duration::from_millis(10)).await;
            }
            if forth {
                state.count(n);
                state.note(&buffer[..n]);
                free = free.max(Instant::now()) + Duration::from_secs_f64(n as f64 / state.weather.rate);
                if free > Instant::now() + Duration::from_millis(2) {
                    sleep_until(free).await;
                }
            }
            let packets = n.div_ceil(PACKET);
            let sent_again = match (0..packets).any(|_| state.loses()) {
                true => 2 * state.weather.delay,
                false => Duration::ZERO,
            };
            let _ = put.send((Instant::now() + state.weather.delay + sent_again, buffer[..n].to_vec()));
        }
        drop(put);
    };
    let write = async {
        while let Some((due, bytes)) = take.recv().await {
            sleep_until(due).await;
            while state.swallows() {
                sleep(Duration::from_millis(10)).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

async fn udp(to: SocketAddr, state: Arc<State>) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        while let Ok((n, sender)) = front.recv_from(&mut buffer).await {
            state.count(n);
            let known = state.ways.lock().unwrap().get(&sender).cloned();
            let way = match known {
                Some(way) => way,
                None => {
                    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    socket.connect(to).await.unwrap();
                    let way = deliver(socket.clone(), Onwards::To(state.clone()));
                    state.ways.lock().unwrap().insert(sender, way.clone());
                    let back = deliver(front.clone(), Onwards::Back(sender));
                    let task = tokio::spawn(answers(socket, back, state.clone()));
                    state.keep(task.abort_handle());
                    way
                }
            };
            let Some(due) = state.due(n) else { continue };
            let _ = way.send((due, buffer[..n].to_vec()));
        }
    });
    address
}

/// Where packets go.
enum Onwards {
    /// To the receiver, by a socket of its own for each sender.
    To(Arc<State>),
    /// To this sender.
    Back(SocketAddr),
}

/// A line keeps the order of its packets.
fn deliver(socket: Arc<UdpSocket>, onwards: Onwards) -> Packets {
    let (put, mut take) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, packet)) = take.recv().await {
            sleep_until(due).await;
            match &onwards {
                Onwards::To(state) => {
                    if socket.send(&packet).await.is_ok() {
                        state.note(&packet);
                    }
                }
                Onwards::Back(sender) => {
                    let _ = socket.send_to(&packet, sender).await;
                }
            }
        }
    });
    put
}

async fn answers(way: Arc<UdpSocket>, back: Packets, state: Arc<State>) {
    let mut buffer = vec![0; 65536];
    loop {
        // A receiver that is gone says so; that is no reason to end.
        let Ok(n) = way.recv(&mut buffer).await else { continue };
        if state.swallows() || state.loses() {
            continue;
        }
        let _ = back.send((Instant::now() + state.weather.delay, buffer[..n].to_vec()));
    }
}

impl State {
    fn count(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    fn note(&self, bytes: &[u8]) {
        if let Some(pieces) = &mut *self.recorded.lock().unwrap() {
            pieces.push(bytes.to_vec());
        }
    }

    fn loses(&self) -> bool {
        self.weather.loss > 0 && self.random.lock().unwrap().one_in(self.weather.loss)
    }

    /// When a packet arrives; `None` if it does not. A line that is busy keeps packets for 50 ms at most.
    fn due(&self, n: usize) -> Option<Instant> {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap();
        if self.swallows() || self.loses() || *free > now + Duration::from_millis(50) {
            return None;
        }
        *free = (*free).max(now) + Duration::from_secs_f64(n as f64 / self.weather.rate);
        Some(*free + self.weather.delay)
    }
}
