//! The way between processes, which can be cut: proxies in front of stores and the placement driver.
//!
//! Who comes is told by the door (one for each side of clients, one for each store's way to the placement driver) or by the
//! greeting, for stores that call each other. A cut is of a direction between two places. It is silent (bytes wait, and
//! arrive late when it heals, as TCP would have it) or it resets connections. **When [`Network::cut`] has returned, no
//! byte passes any more.**

use bytes::{Buf as _, BytesMut};
use codec::Decode as _;
use codec::frame::take_frame;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wire::FrameKind;
use wire::hello::{ConnectionRole, Hello};

/// Somebody who sends or receives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// A store, by its number in the cluster.
    Store(usize),
    /// The placement driver.
    Pd,
    /// Clients, by the side that they are on.
    Side(&'static str),
    /// Who did not say.
    Stranger,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(number) => write!(f, "store {number}"),
            Self::Pd => f.write_str("the placement driver"),
            Self::Side(name) => write!(f, "clients of side {name}"),
            Self::Stranger => f.write_str("a stranger"),
        }
    }
}

/// What a cut does to connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Bytes wait until it is healed.
    Silent,
    /// Connections are closed, and new ones too.
    Reset,
}

/// Who comes through a door.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Comes {
    /// Always the same.
    One(Place),
    /// Stores, which say their ids; and others.
    AsTheySay,
}

/// All doors, and what is cut.
#[derive(Clone)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held for reading while a byte is handed over.
    cuts: RwLock<BTreeMap<(Place, Place), Cut>>,
    changed: watch::Sender<()>,
    /// Store ids, as they are learned, by number.
    stores: RwLock<BTreeMap<u64, usize>>,
    bytes_held_back: AtomicU64,
    connections_refused: AtomicU64,
    connections: AtomicU64,
}

/// One connection's ends.
#[derive(Clone, Copy)]
struct Link {
    from: Origin,
    to: Place,
}

#[derive(Clone, Copy)]
enum Origin {
    Known(Place),
    /// A store, whose number may be learned later.
    StoreId(u64),
}

impl Network {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            cuts: RwLock::default(),
            changed: watch::Sender::new(()),
            stores: RwLock::default(),
            bytes_held_back: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The store with this id is number `number`.
    pub(crate) fn name_store(&self, store_id: u64, number: usize) {
        self.shared.stores.write().insert(store_id, number);
    }

    /// Opens a door to `to`, which listens (or will) at `target`, and gives its address.
    pub(crate) async fn door(&self, comes: Comes, to: Place, target: &str) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::ports::free())).await;
        let listener = listener.expect("the port was free");
        let address = listener.local_addr().expect("bound").to_string();
        let (shared, target) = (Arc::clone(&self.shared), target.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(Arc::clone(&shared), stream, comes, to, target.clone()));
            }
        });
        address
    }

    /// Cuts all ways between any of `these` and any of `those`, in both directions.
    pub(crate) fn cut(&self, how: Cut, these: &[Place], those: &[Place]) {
        let pairs: BTreeSet<(Place, Place)> = these
            .iter()
            .flat_map(|one| those.iter().flat_map(|other| [(*one, *other), (*other, *one)]))
            .collect();
        self.shared.cuts.write().extend(pairs.into_iter().map(|way| (way, how)));
        self.shared.changed.send_replace(());
    }

    /// Opens all ways.
    pub(crate) fn heal(&self) {
        self.shared.cuts.write().clear();
        self.shared.changed.send_replace(());
    }

    /// How many connections came through, how many were refused, and how many pieces had to wait, because of cuts.
    pub(crate) fn effect(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        (read(&shared.connections), read(&shared.connections_refused), read(&shared.bytes_held_back))
    }
}

impl Shared {
    fn place(&self, origin: Origin) -> Place {
        match origin {
            Origin::Known(place) => place,
            Origin::StoreId(id) => {
                self.stores.read().get(&id).map_or(Place::Stranger, |number| Place::Store(*number))
            }
        }
    }

    fn way(&self, link: Link, forward: bool) -> (Place, Place) {
        let from = self.place(link.from);
        if forward { (from, link.to) } else { (link.to, from) }
    }
}

async fn attend(shared: Arc<Shared>, mut stream: TcpStream, comes: Comes, to: Place, target: String) {
    let mut first = BytesMut::new();
    let from = match comes {
        Comes::One(place) => Origin::Known(place),
        Comes::AsTheySay => match greeting(&mut stream, &mut first).await {
            Ok(origin) => origin,
            Err(_) => return,
        },
    };
    let link = Link { from, to };
    let cut = shared.cuts.read().get(&shared.way(link, true)).copied();
    if cut == Some(Cut::Reset) {
        shared.connections_refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Nobody there: the stream is dropped, and so closed.
    let Ok(onward) = TcpStream::connect(&target).await else { return };
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let (_, _) = (stream.set_nodelay(true), onward.set_nodelay(true));
    let (read_here, write_here) = stream.into_split();
    let (read_there, write_there) = onward.into_split();
    tokio::select! {
        _ = pump(&shared, link, true, first, read_here, write_there) => {}
        _ = pump(&shared, link, false, BytesMut::new(), read_there, write_here) => {}
    }
}

/// Reads what the other side says first, and tells who it is. What was read stays in `first`.
async fn greeting(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Origin> {
    const FRAME_SIZE_MAX: usize = 4 << 10;
    loop {
        // On a copy: all of it is passed on.
        match take_frame(&mut first.clone(), FRAME_SIZE_MAX) {
            Ok(None) => {}
            Ok(Some(frame)) if frame.head.kind == FrameKind::Hello as u8 => {
                let hello = Hello::from_bytes(&frame.payload);
                return Ok(match hello {
                    Ok(hello) if hello.role != ConnectionRole::Client => {
                        Origin::StoreId(hello.store_id.get())
                    }
                    _ => Origin::Known(Place::Stranger),
                });
            }
            _ => return Ok(Origin::Known(Place::Stranger)),
        }
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Passes bytes on, in one direction, while the way is open.
async fn pump(
    shared: &Shared,
    link: Link,
    forward: bool,
    mut piece: BytesMut,
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
) -> io::Result<()> {
    let mut changed = shared.changed.subscribe();
    loop {
        while piece.has_remaining() {
            to.writable().await?;
            changed.mark_unchanged();
            let cut = {
                let cuts = shared.cuts.read();
                let cut = cuts.get(&shared.way(link, forward)).copied();
                if cut.is_none() {
                    match to.try_write(&piece) {
                        Ok(written) => piece.advance(written),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                cut
            };
            match cut {
                None => {}
                Some(Cut::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
                Some(Cut::Silent) => {
                    shared.bytes_held_back.fetch_add(1, Ordering::Relaxed);
                    changed.changed().await.map_err(io::Error::other)?;
                }
            }
        }
        piece.clear();
        piece.reserve(64 << 10);
        tokio::select! {
            read = from.read_buf(&mut piece) => {
                if read? == 0 {
                    // The end of a stream is news, too: it waits like any byte.
                    while shared.cuts.read().get(&shared.way(link, forward)) == Some(&Cut::Silent) {
                        changed.changed().await.map_err(io::Error::other)?;
                    }
                    return Ok(());
                }
            }
            change = changed.changed() => {
                change.map_err(io::Error::other)?;
                let cut = shared.cuts.read().get(&shared.way(link, forward)).copied();
                if cut == Some(Cut::Reset) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
        }
    }
}
