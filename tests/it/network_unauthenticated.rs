//! Who has no business on a line gets nowhere, and keeps nobody else from it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::network::{CARRIERS, connect, line_address, listen, options, to, transfer};
use crate::support::relay::{Relay, Weather};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use xbpipe::base::Code;
use xbpipe::session::Ticket;
use xbpipe::session::ticket::Token;
use xbpipe::transport::address::NetworkAddress;
use xbpipe::transport::network::{Certificates, Incoming, NetworkOptions};

#[test]
fn strangers_get_nowhere_and_the_right_one_through() {
    for carrier in CARRIERS {
        let options = options(1000, 5);
        let incoming = listen(carrier, &options);
        let right = to(&incoming, incoming.local);
        let other = listen(carrier, &options);
        // A ticket of another receiver, of its certificate and of this one's with another token.
        let wrong_pin = NetworkAddress { secret: to(&other, other.local).secret, ..right.clone() };
        let e = connect(&wrong_pin, &options).err().unwrap();
        assert_eq!(e.code, Code::LineRefused, "{carrier}: {e}");
        let mut secret = right.secret.clone().unwrap();
        secret.replace_range(60..64, "AAAA");
        let wrong_token = NetworkAddress { secret: Some(secret), ..right.clone() };
        let e = connect(&wrong_token, &options).err().unwrap();
        assert_eq!(e.code, Code::LineRefused, "{carrier}: {e}");
        assert!(e.to_string().contains("not the one that it printed"), "{e}");
        let outgoing = connect(&right, &options).unwrap();
        // The ticket is used now.
        let e = connect(&right, &options).err().unwrap();
        assert!(e.code == Code::LineRefused && e.to_string().contains("was used"), "{carrier}: {e}");
        let (sent, received, _) = transfer(&outgoing, &incoming, 1 << 20, || {});
        sent.unwrap();
        assert_eq!(received.unwrap(), 1 << 20);
    }
}

/// More than stand at the door at a time.
const LORIS: usize = 60;

#[test]
fn who_says_nothing_over_tcp_is_sent_away() {
    let options = options(1000, 5);
    let incoming = listen("tcp", &options);
    let slow: Vec<_> = (0..LORIS).map(|_| TcpStream::connect(incoming.local).unwrap()).collect();
    for (n, mut stream) in slow.iter().enumerate() {
        // Some begin a handshake, some talk nonsense; those that were too many are gone already.
        let _ = match n % 3 {
            0 => stream.write_all(b"\x16\x03\x01\x02\x00\x01"),
            1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n"),
            _ => Ok(()),
        };
    }
    the_right_one_gets_through(&incoming, &options);
    let deadline = Instant::now() + options.patience.handshake + Duration::from_secs(10);
    for mut stream in slow {
        stream
            .set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(MOMENT)))
            .unwrap();
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
    }
}

#[test]
fn who_says_nothing_over_quic_is_sent_away() {
    let options = options(1000, 5);
    let incoming = listen("quic", &options);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Packets that begin no handshake.
    let nonsense = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..1000usize {
        let bytes: Vec<u8> = (0..1200).map(|i| (i * n + n) as u8 | 0xC0).collect();
        nonsense.send_to(&bytes, incoming.local).unwrap();
    }
    // Handshakes that are completed, and then a greeting that never ends, or never begins.
    let endpoint = runtime.block_on(async { quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap() });
    let slow: Vec<_> =
        (0..LORIS).filter_map(|n| runtime.block_on(shake_hands(&endpoint, incoming.local, n))).collect();
    assert!(slow.len() >= LORIS / 2, "only {} of {LORIS} handshakes", slow.len());
    the_right_one_gets_through(&incoming, &options);
    let all = async {
        for (connection, _) in &slow {
            connection.closed().await;
        }
    };
    let patience = options.patience.handshake + Duration::from_secs(10);
    runtime
        .block_on(async { tokio::time::timeout(patience, all).await })
        .expect("some still stand at the door");
}

const MOMENT: Duration = Duration::from_millis(1);

/// A connection that takes any certificate for good and has said almost nothing; none where it was sent away before that.
async fn shake_hands(
    endpoint: &quinn::Endpoint,
    to: SocketAddr,
    n: usize,
) -> Option<(quinn::Connection, Option<quinn::SendStream>)> {
    let connection = endpoint.connect_with(credulous(), to, "xbpipe").unwrap().await.ok()?;
    if n.is_multiple_of(2) {
        return Some((connection, None));
    }
    let (mut write, _read) = connection.open_bi().await.ok()?;
    // A control frame of 100 bytes, of which one comes.
    write.write_all(&[1, 100, 0, 0, 0, 8]).await.ok()?;
    Some((connection, Some(write)))
}

fn the_right_one_gets_through(incoming: &Incoming, options: &NetworkOptions) {
    let begun = Instant::now();
    let outgoing = connect(&to(incoming, incoming.local), options).unwrap();
    let (sent, received, facts) = transfer(&outgoing, incoming, 4 << 20, || {});
    sent.unwrap();
    assert_eq!(received.unwrap(), 4 << 20);
    assert_eq!(facts.reconnects, 0);
    eprintln!("the right one was done after {:?}", begun.elapsed());
}

/// Takes any certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn credulous() -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xbpipe/1".to_vec()];
    quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap()))
}

/// Everything that the right sender has said, said once more by somebody else: while the session lasts, and after it.
#[test]
fn a_recorded_conversation_is_of_no_use() {
    for carrier in CARRIERS {
        let options = options(1000, 5);
        let incoming = listen(carrier, &options);
        let weather = Weather { delay: MOMENT, rate: 4e6, loss: 0, seed: 1 };
        let relay = Relay::new(carrier, incoming.local, weather);
        relay.record();
        let outgoing = connect(&to(&incoming, relay.address), &options).unwrap();
        let (sent, received, facts) = transfer(&outgoing, &incoming, 4 << 20, || {
            sleep(Duration::from_millis(400));
            replay(carrier, &relay.recorded(), incoming.local);
        });
        sent.unwrap();
        assert_eq!(received.unwrap(), 4 << 20, "{carrier}");
        assert_eq!((facts.reconnects, incoming.facts().reconnects), (0, 0), "{carrier}");
        let all = relay.recorded();
        assert!(all.iter().map(Vec::len).sum::<usize>() > 4 << 20);
        replay(carrier, &all, incoming.local);
        assert_eq!(incoming.facts().reconnects, 0, "{carrier}");
    }
}

/// Says it, and looks at what is answered: no more than a stranger hears.
fn replay(carrier: &str, pieces: &[Vec<u8>], to: SocketAddr) {
    assert!(pieces.len() > 10, "hardly anything was recorded");
    let mut answer = Vec::new();
    if carrier == "tcp" {
        let mut stream = TcpStream::connect(to).unwrap();
        // It is sent away at the first record that the keys of this handshake don't open.
        let refused = pieces.iter().any(|piece| stream.write_all(piece).is_err());
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
        // The receiver's part of a handshake and an alert at most.
        assert!(answer.len() < 4096, "{} bytes were answered, {refused}", answer.len());
    } else {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for piece in pieces {
            socket.send_to(piece, to).unwrap();
        }
        let mut buffer = [0; 2048];
        while let Ok((n, _)) = socket.recv_from(&mut buffer) {
            answer.extend_from_slice(&buffer[..n]);
        }
        // A demand to answer from its own address, or that its proof is another's; never more than was said.
        let said: usize = pieces.iter().map(Vec::len).sum();
        assert!(answer.len() < said / 16, "{} bytes were answered to {said}", answer.len());
    }
}

/// An authority and what it has signed, as PEM files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Authority {
        std::fs::create_dir(folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), pem("CERTIFICATE", issuer.der())).unwrap();
        Authority { issuer, folder: folder.to_owned() }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for a host, and its key.
    fn sign(&self, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str| self.folder.join(format!("{host}.{what}"));
        std::fs::write(file("cert"), pem("CERTIFICATE", cert.der())).unwrap();
        std::fs::write(file("key"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        (file("cert"), file("key"))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn with(of: (PathBuf, PathBuf), ca: PathBuf) -> NetworkOptions {
    let (cert, key) = of;
    NetworkOptions { certificates: Some(Certificates { cert, key, ca, peer_name: None }), ..options(1000, 5) }
}

#[test]
fn certificates_of_ones_own_are_verified_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    for carrier in CARRIERS {
        let listening = with(ours.sign("127.0.0.1"), ours.ca());
        let incoming = listen(carrier, &listening);
        assert!(!incoming.invitation().contains('#'), "there is no ticket");
        let address = to(&incoming, incoming.local);
        let refused = |options: &NetworkOptions, address: &NetworkAddress, what: &str| {
            let e = connect(address, options).err().unwrap_or_else(|| panic!("{carrier}: {what} was let in"));
            assert_eq!(e.code, Code::LineRefused, "{carrier}: {what}: {e}");
            assert!(e.to_string().contains("is not who it should be"), "{carrier}: {what}: {e}");
            e
        };
        // The receiver's certificate comes from another authority than the sender believes.
        let e = refused(&with(ours.sign("source"), theirs.ca()), &address, "a wrong authority");
        assert!(e.hint.unwrap().contains("--tls-ca"));
        // The sender's comes from another one than the receiver believes.
        refused(&with(theirs.sign("source"), ours.ca()), &address, "a stranger's certificate");
        // It has none at all: with a ticket for the receiver's certificate.
        let der = CertificateDer::from_pem_file(&listening.certificates.as_ref().unwrap().cert).unwrap();
        let ticket = Ticket { fingerprint: Sha256::digest(&der).into(), token: Token([0; 16]) };
        let with_ticket = NetworkAddress { secret: Some(ticket.reveal()), ..address.clone() };
        refused(&options(1000, 5), &with_ticket, "nobody's certificate");
        // And the right one gets through, after all of them.
        let sending = with(ours.sign("source"), ours.ca());
        the_right_one_gets_through(&incoming, &sending);

        // A certificate for another host is no proof of being this one.
        let incoming = listen(carrier, &with(ours.sign("elsewhere"), ours.ca()));
        refused(&sending, &to(&incoming, incoming.local), "another host");
    }
}

/// With a name, nobody else of the same authority is the other side: the sender for its receiver, the receiver for its sender.
#[test]
fn a_name_tells_apart_those_of_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    let named = |of: &Authority, host: &str, peer: Option<&str>| {
        let mut options = with(of.sign(host), ours.ca());
        let certificates = options.certificates.as_mut().unwrap();
        certificates.peer_name = peer.map(str::to_owned);
        options
    };
    for carrier in CARRIERS {
        for (receiver, sender) in [("replica.example", "source.example"), ("10.0.0.1", "::1")] {
            let incoming = listen(carrier, &named(&ours, receiver, Some(sender)));
            let address = to(&incoming, incoming.local);
            let refused = |options: &NetworkOptions, what: &str| {
                let e = connect(&address, options)
                    .err()
                    .unwrap_or_else(|| panic!("{carrier}: {what} was let in"));
                assert_eq!(e.code, Code::LineRefused, "{carrier}: {what}: {e}");
            };
            refused(&named(&ours, "elsewhere.example", Some(receiver)), "another sender of the authority");
            refused(&named(&ours, receiver, Some(receiver)), "the receiver's own certificate");
            refused(&named(&theirs, sender, Some(receiver)), "the name from another authority");
            // The other way round: the receiver is not the one that this sender means.
            refused(&named(&ours, sender, Some("other.example")), "another receiver");
            refused(&named(&ours, sender, None), "a receiver that is not the host");
            the_right_one_gets_through(&incoming, &named(&ours, sender, Some(receiver)));
        }
        let e = Incoming::listen(
            &line_address(&format!("{carrier}://127.0.0.1:0")),
            &named(&ours, "127.0.0.1", Some("not a name")),
            Arc::default(),
            Arc::new(xbpipe::base::Stop::new().unwrap()),
        );
        assert_eq!(e.err().unwrap().code, Code::Usage);
    }
}
