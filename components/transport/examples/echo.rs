//! What a request and its reply cost on one connection, both ends together: `cargo run --release --example echo`.
//!
//! The service answers at once, either on the connection's task or from a thread of its own (as the workers of a store
//! do), so that what is seen is framing, hand-over, wake-ups and system calls.
#![expect(
    clippy::disallowed_methods,
    reason = "an example is a driver: it measures with the clock, on its own threads"
)]

use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use transport::{
    Channel, Counters, Identity, Request, RequestBody, Server, Service, Settings, Target, hold_wakes, listen,
};
use types::{ClusterId, Epoch, RegionId, StoreId};
use wire::kv::{KvCommand, KvReply, KvRequest, KvResponse};
use wire::store::{SnapshotKey, SnapshotPiece, StoreBatch};

const IDENTITY: Identity = Identity { cluster_id: ClusterId(1), store_id: StoreId(1) };

struct Echo {
    worker: Option<mpsc::Sender<Vec<Request>>>,
}

fn answer(request: Request) {
    let RequestBody::Kv(KvRequest { command: KvCommand::Get { key }, .. }) = request.body else {
        unreachable!("only gets are asked here")
    };
    request.responder.respond_kv(&KvResponse::Ok(KvReply::Value(Some(key))));
}

impl Service for Echo {
    fn identity(&self) -> Identity {
        IDENTITY
    }

    fn requests(&self, batch: &mut Vec<Request>) {
        match &self.worker {
            Some(worker) => worker.send(std::mem::take(batch)).expect("the worker outlives the server"),
            None => batch.drain(..).for_each(answer),
        }
    }

    fn store_batches(&self, batches: &mut Vec<StoreBatch>) {
        batches.clear();
    }

    fn snapshot_piece(&self, _piece: SnapshotPiece, receipt: transport::Receipt) {
        receipt.refuse("there is nothing to hold it");
    }

    fn snapshot_lost(&self, _key: SnapshotKey) {}
}

/// CPU time of this process so far, all threads.
fn cpu() -> Duration {
    let mut usage = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the clock of the process's CPU time has no safe door in std")]
    // SAFETY: `usage` is a valid timespec, which the call fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut usage) };
    assert_eq!(result, 0, "the clock exists");
    Duration::new(usage.tv_sec as u64, usage.tv_nsec as u32)
}

async fn run(channel: &Channel, in_flight: usize, count: usize, value: usize) {
    let request = KvRequest {
        region_id: RegionId(7),
        epoch: Epoch { conf_ver: 1, version: 1 },
        command: KvCommand::Get { key: Bytes::from(vec![b'x'; value]) },
    };
    let connection = channel.connection().await.expect("the server listens");
    let mut callers = Vec::new();
    for _ in 0..in_flight {
        let (connection, request) = (connection.clone(), request.clone());
        callers.push(tokio::spawn(async move {
            for _ in 0..count / in_flight {
                connection.kv(&request, Duration::from_secs(5)).await.expect("it is answered");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("no caller panics");
    }
}

fn main() {
    println!(
        "{:>8} {:>9} {:>9} {:>10} {:>12} {:>11} {:>11}",
        "answers", "in flight", "threads", "req/s", "CPU µs/req", "req/read", "req/write"
    );
    for threads in [1, 2] {
        for own_thread in [false, true] {
            for in_flight in [1, 16, 64, 256] {
                let mut runtime = match threads {
                    1 => tokio::runtime::Builder::new_current_thread(),
                    _ => tokio::runtime::Builder::new_multi_thread(),
                };
                if threads > 1 {
                    runtime.worker_threads(threads);
                }
                let runtime = runtime.enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let worker = own_thread.then(|| {
                        let (sender, receiver) = mpsc::channel::<Vec<Request>>();
                        std::thread::spawn(move || {
                            while let Ok(first) = receiver.recv() {
                                // A turn: all that is there is answered, and woken for once.
                                hold_wakes(|| {
                                    first.into_iter().for_each(answer);
                                    receiver.try_iter().flatten().for_each(answer);
                                });
                            }
                        });
                        sender
                    });
                    let counters = Arc::new(Counters::default());
                    let server =
                        Server::new(Arc::new(Echo { worker }), Settings::default(), Arc::clone(&counters));
                    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a socket");
                    let address = listener.local_addr().expect("it is bound").to_string();
                    server.accept(listener);
                    let channel =
                        Channel::new(Target::any(address), IDENTITY, Settings::default(), Arc::default());
                    run(&channel, in_flight, 2_000, 128).await;
                    let count = if in_flight == 1 { 20_000 } else { 200_000 };
                    let (cpu_before, begun) = (cpu(), Instant::now());
                    let (reads, writes) = (counters.reads(), counters.writes());
                    run(&channel, in_flight, count, 128).await;
                    let (cpu_used, took) = (cpu() - cpu_before, begun.elapsed());
                    println!(
                        "{:>8} {in_flight:>9} {threads:>9} {:>10.0} {:>12.2} {:>11.1} {:>11.1}",
                        if own_thread { "thread" } else { "at once" },
                        count as f64 / took.as_secs_f64(),
                        cpu_used.as_secs_f64() * 1e6 / count as f64,
                        count as f64 / (counters.reads() - reads) as f64,
                        count as f64 / (counters.writes() - writes) as f64,
                    );
                    server.stop(Duration::from_secs(1)).await;
                });
            }
        }
    }
}
