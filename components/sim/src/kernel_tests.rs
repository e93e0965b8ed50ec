//! The kernel alone: order on streams, faults, and equal runs for equal seeds.

use super::*;
use crate::trace::TraceMode;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Number(u64);

impl Packet for Number {
    fn fold(&self, hash: &mut TraceHash) {
        hash.fold(self.0);
    }
    fn summary(&self) -> String {
        format!("number {}", self.0)
    }
    fn garble(&self, _dice: &mut SplitMix) -> String {
        "it is told apart".to_owned()
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn world(seed: u64, network: NetworkConfig) -> Kernel<Number> {
    let mut kernel = Kernel::new(seed, network, Trace::new(TraceMode::Off, None));
    kernel.add(A, &MachineConfig::default());
    kernel.add(B, &MachineConfig::default());
    kernel
}

/// Runs dry; returns what arrived at `B` and how many ends learnt of a broken connection.
fn drain(kernel: &mut Kernel<Number>) -> (Vec<u64>, usize) {
    let (mut arrived, mut broken) = (Vec::new(), 0);
    while let Some(occurrence) = kernel.advance() {
        match occurrence {
            Occurrence::Arrived { to: B, packet, .. } => arrived.push(packet.0),
            Occurrence::Disconnected { .. } => broken += 1,
            _ => {}
        }
    }
    (arrived, broken)
}

fn unruly() -> NetworkConfig {
    NetworkConfig {
        loss_per_mille: 200,
        duplicate_per_mille: 200,
        late_per_mille: 100,
        late_max: Duration::from_secs(60),
        break_per_100k: 2_000,
        ..NetworkConfig::default()
    }
}

#[test]
fn a_stream_keeps_its_order_and_loses_a_suffix_when_it_breaks() {
    for seed in 0..200 {
        let mut kernel = world(seed, unruly());
        let connections: Vec<_> = (0..50).map(|n| kernel.send(A, B, Lane::Stream(0), Number(n))).collect();
        assert!(connections.iter().all(|id| *id == connections[0]), "the sender has learnt of no break yet");
        let (arrived, broken) = drain(&mut kernel);
        assert!(arrived.iter().copied().eq(0..arrived.len() as u64), "seed {seed}: {arrived:?}");
        assert!(broken == 2 || (broken == 0 && arrived.len() == 50), "seed {seed}: {broken}, {arrived:?}");
    }
}

#[test]
fn datagrams_are_lost_doubled_and_overtaken() {
    let mut kernel = world(3, unruly());
    for n in 0..200 {
        kernel.send(A, B, Lane::Datagram, Number(n));
    }
    let (arrived, _) = drain(&mut kernel);
    let distinct: std::collections::BTreeSet<_> = arrived.iter().collect();
    assert!(distinct.len() < 200 && distinct.len() < arrived.len() && !arrived.is_sorted());
    assert!(kernel.now() > SimTime::from_millis(1000), "some are very late");
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let hash = |seed| {
        let mut kernel = world(seed, unruly());
        for n in 0..50 {
            kernel.send(A, B, Lane::Datagram, Number(n));
            kernel.wake_after(A, Duration::from_millis(n % 3), n);
        }
        drain(&mut kernel);
        kernel.trace().hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_cut_link_passes_nothing_and_a_stream_waits_for_it_or_breaks() {
    let mut kernel = world(5, NetworkConfig::default());
    kernel.set_cut(A, B, true);
    kernel.send(A, B, Lane::Datagram, Number(1));
    kernel.send(A, B, Lane::Stream(0), Number(2));
    kernel.mark_at(SimTime::from_millis(100), 0);
    while !matches!(kernel.advance(), Some(Occurrence::Marked { .. })) {}
    kernel.set_cut(A, B, false);
    assert_eq!(drain(&mut kernel), (vec![2], 0), "a short cut is waited for");

    kernel.set_cut(A, B, true);
    kernel.send(A, B, Lane::Stream(0), Number(3));
    assert_eq!(drain(&mut kernel), (vec![], 2), "a long one is not");
}

#[test]
fn a_frozen_node_finds_everything_in_order_when_it_thaws() {
    let mut kernel = world(7, NetworkConfig::default());
    kernel.freeze(B, Duration::from_secs(2));
    for n in 0..30 {
        kernel.send(A, B, Lane::Stream(0), Number(n));
    }
    let before = kernel.mono(B);
    let mut arrived = Vec::new();
    while let Some(occurrence) = kernel.advance() {
        if let Occurrence::Arrived { packet, .. } = occurrence {
            assert!(kernel.mono(B).since(before) >= Duration::from_secs(2), "its clock went on, it did not");
            arrived.push(packet.0);
            if packet.0 == 10 {
                // What comes while it catches up waits for its turn.
                kernel.send(A, B, Lane::Stream(0), Number(30));
                kernel.freeze(B, Duration::from_secs(1));
            }
        }
    }
    assert!(arrived.iter().copied().eq(0..31), "{arrived:?}");
}

#[test]
fn a_crash_forgets_wake_ups_and_breaks_connections() {
    let mut kernel = world(9, NetworkConfig::default());
    kernel.wake_after(B, Duration::from_secs(1), 7);
    let first = kernel.send(A, B, Lane::Stream(0), Number(1));
    kernel.crash(B, CrashKind::Power);
    kernel.restart(B);
    let mut disconnected = Vec::new();
    while let Some(occurrence) = kernel.advance() {
        match occurrence {
            Occurrence::Disconnected { node, connection, .. } => disconnected.push((node, Some(connection))),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(disconnected, [(A, first)], "the new process knows nothing of the old connection");
    let second = kernel.send(A, B, Lane::Stream(0), Number(2));
    assert_ne!(first, second);
    assert_eq!(drain(&mut kernel), (vec![2], 0));
}

#[test]
fn a_process_that_is_down_refuses() {
    let mut kernel = world(11, NetworkConfig::default());
    kernel.crash(B, CrashKind::Process);
    kernel.send(A, B, Lane::Stream(0), Number(1));
    kernel.send(A, B, Lane::Datagram, Number(2));
    assert_eq!(drain(&mut kernel), (vec![], 1), "the sender alone is there to learn of it");
}

#[test]
fn a_process_that_dies_before_it_learns_of_a_break_leaves_no_trace_of_it() {
    // The next process once went on sending into the broken connection of the one before, for ever.
    let mut kernel = world(13, NetworkConfig::default());
    let first = kernel.send(A, B, Lane::Stream(0), Number(1));
    kernel.reset_connections(A);
    kernel.crash(A, CrashKind::Process);
    kernel.restart(A);
    assert_ne!(kernel.send(A, B, Lane::Stream(0), Number(2)), first);
    assert_eq!(drain(&mut kernel).0, [2]);
}

#[test]
fn a_connection_that_was_refused_is_nothing_to_the_process_that_starts_later() {
    // It once sent into that connection for ever, without an error (seed 25: a learner that nobody spoke to).
    let mut kernel = world(17, NetworkConfig::default());
    kernel.crash(B, CrashKind::Process);
    let refused = kernel.send(A, B, Lane::Stream(0), Number(1));
    assert_eq!(drain(&mut kernel), (vec![], 1));
    kernel.restart(B);
    assert_ne!(kernel.send(B, A, Lane::Stream(0), Number(2)), refused);
    assert!(matches!(kernel.advance(), Some(Occurrence::Arrived { to: A, .. })));
}

#[test]
fn a_timer_waits_for_its_clock_when_that_is_slowed() {
    // A node that found itself woken too early once waited for ever.
    let mut kernel = world(15, NetworkConfig::default());
    let before = kernel.mono(B);
    kernel.wake_after(B, Duration::from_secs(10), 1);
    kernel.clock_mut(B).set_drift(SimTime::ZERO, -40_000);
    assert!(matches!(kernel.advance(), Some(Occurrence::Woken { node: B, token: 1 })));
    assert!(kernel.mono(B).since(before) >= Duration::from_secs(10));
}

#[test]
fn a_gate_holds_repeats_loses_and_watches() {
    let mut kernel = world(1, NetworkConfig::default());
    let all = kernel.set_gate(|_, _, _| Passage::Watch);
    let held = kernel.set_gate(|_, to, number: &Number| match number.0 {
        0..3 if to == B => Passage::Hold,
        3 => Passage::Repeat,
        4 => Passage::Lose,
        _ => Passage::Ignore,
    });
    for n in 0..7 {
        kernel.send(A, B, Lane::Stream(0), Number(n));
    }
    assert_eq!(drain(&mut kernel).0, [3, 5, 6]);
    assert_eq!((kernel.seen_at(all), kernel.seen_at(held)), (7, 5));
    assert!(kernel.held_at(held).map(|number| number.0).eq(0..4));
    kernel.open_gate(held, false);
    assert_eq!(drain(&mut kernel).0, [0, 1, 2, 3]);
    // What is let go finds the link as it is by then.
    let held = kernel.set_gate(|_, _, _| Passage::Hold);
    kernel.send(A, B, Lane::Datagram, Number(7));
    assert!(drain(&mut kernel).0.is_empty());
    kernel.set_cut(A, B, true);
    kernel.open_gate(held, false);
    assert!(drain(&mut kernel).0.is_empty());
}

#[test]
fn what_was_under_way_may_come_out_of_a_broken_connection_but_never_after_its_end_is_known() {
    let network = NetworkConfig { straggle_per_mille: 1_000, notice_max: Duration::from_secs(5), ..unruly() };
    let mut stragglers = 0;
    for seed in 0..100 {
        let mut kernel = world(seed, network.clone());
        let connection = kernel.send(A, B, Lane::Stream(0), Number(0));
        let is_first = matches!(kernel.advance(), Some(Occurrence::Arrived { packet: Number(0), .. }));
        (1..50).for_each(|n| {
            kernel.send(A, B, Lane::Stream(0), Number(n));
        });
        let (mut arrived, mut is_known) = (u64::from(is_first), false);
        while let Some(occurrence) = kernel.advance() {
            match occurrence {
                Occurrence::Arrived { packet, connection: on, .. } => {
                    assert!(!is_known && on == connection, "seed {seed}: {packet:?} after the end");
                    assert_eq!(packet.0, arrived, "seed {seed}: the order is kept");
                    arrived += 1;
                }
                Occurrence::Disconnected { node, carried, .. } => {
                    is_known |= node == B;
                    assert!(carried || arrived == 0, "seed {seed}: what has not carried has brought nothing");
                }
                _ => {}
            }
        }
        stragglers += kernel.network_counts().stragglers;
    }
    assert!(stragglers > 100, "{stragglers}");
}

#[test]
fn a_damaged_message_does_not_arrive_and_ends_its_connection() {
    let network = NetworkConfig { garble_per_100k: 5_000, ..NetworkConfig::default() };
    let mut kernel = world(4, network);
    for n in 0..200 {
        kernel.send(A, B, Lane::Datagram, Number(n));
    }
    let (arrived, _) = drain(&mut kernel);
    let garbled = usize::try_from(kernel.network_counts().garbled).unwrap();
    assert!(garbled > 3 && arrived.len() == 200 - garbled, "{garbled}");
    for n in 0..200 {
        kernel.send(A, B, Lane::Stream(0), Number(n));
    }
    let (arrived, broken) = drain(&mut kernel);
    assert!(arrived.len() < 200 && broken == 2, "{arrived:?}, {broken}");
}

#[test]
fn a_message_may_be_minutes_old_and_of_a_process_that_is_gone() {
    let late =
        NetworkConfig { late_per_mille: 500, late_max: Duration::from_secs(300), ..NetworkConfig::default() };
    let mut kernel = world(6, late);
    for n in 0..100 {
        kernel.send(A, B, Lane::Datagram, Number(n));
    }
    kernel.mark_at(SimTime::from_millis(1_000), 0);
    while !matches!(kernel.advance(), Some(Occurrence::Marked { .. })) {}
    kernel.crash(A, CrashKind::Process);
    kernel.restart(A);
    drain(&mut kernel);
    let counts = kernel.network_counts();
    assert!(counts.old > 20 && counts.of_earlier_lives >= counts.old, "{counts:?}");
}
