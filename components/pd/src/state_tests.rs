//! The state is on disk what it is in memory, and damage there is told, not believed.

use crate::Error;
use crate::state::{Command, LogMark, Outcome, State};
use bytes::Bytes;
use codec::{Decode as _, Encode as _};
use engine::{Cf, Engine as _, MemEngine, WriteBatch};
use raft::{ConfState, EntryId};
use types::{ClusterId, Epoch, KeyRange, LogIndex, Peer, PeerId, Region, RegionId, StoreId, Term, Timestamp};
use wire::pd::{StoreInfo, StoreMode};

fn info(id: u64, address: &str) -> StoreInfo {
    StoreInfo { id: StoreId(id), address: address.to_owned(), ..StoreInfo::default() }
}

fn commands() -> Vec<Command> {
    let region = Region {
        id: RegionId(2),
        range: KeyRange::full(),
        epoch: Epoch { conf_ver: 1, version: 1 },
        peers: vec![Peer::voter(PeerId(3), StoreId(1))],
    };
    let put = |id, address, takes_over: Option<u64>| Command::PutStore {
        store: info(id, address),
        takes_over: takes_over.map(StoreId),
        retires: takes_over.is_some(),
    };
    vec![
        Command::Init { cluster_id: ClusterId(77) },
        Command::ReserveIds { count: 100 },
        Command::Bootstrap { store: info(1, "a"), region },
        Command::ExtendTso { upper_ms: 5000 },
        put(4, "b", None),
        put(4, "c", None),
        put(5, "b", None),
        put(6, "c", Some(4)),
        put(7, "d", None),
        Command::SetMode { store_id: StoreId(5), mode: StoreMode::LeadingNone, others_min: 1 },
        Command::SetMode { store_id: StoreId(7), mode: StoreMode::Draining, others_min: 2 },
        Command::Retire { store_id: StoreId(7) },
        Command::HoldSafePoint { name: "backup".to_owned(), at: Timestamp::compose(50, 1), expires_ms: 2000 },
        Command::AdvanceGc { now_ms: 1000, life_ms: 900 },
        Command::GcResolved { round: 1 },
        Command::CreateKeyspace { name: "shop".to_owned(), gc_life_ms: 0 },
        Command::CreateKeyspace { name: "shop".to_owned(), gc_life_ms: 5 },
        Command::SetKeyspaceLife { name: "default".to_owned(), gc_life_ms: 7 },
    ]
}

/// A state that went through all commands, on an engine that holds it.
fn lived() -> (State, MemEngine) {
    let engine = MemEngine::new();
    let mut state = State::load(&engine).unwrap();
    state.found(ConfState { voters: vec![PeerId(1)], ..ConfState::default() });
    for (index, command) in (1..).zip(commands()) {
        let mut batch = WriteBatch::new();
        let outcome = state.apply(EntryId::new(Term(1), LogIndex(index)), Some(command), &mut batch);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        state.check_invariants();
        engine.write(&batch).unwrap();
    }
    (state, engine)
}

#[test]
fn a_restart_and_a_snapshot_bring_back_the_same_state() {
    let (state, engine) = lived();
    assert_eq!(State::load(&engine).unwrap(), state);
    assert!(state.stores()[&StoreId(4)].retired && state.address_holder("c") == Some(StoreId(6)));
    let other = MemEngine::new();
    let mut restored = State::load(&other).unwrap();
    let mut batch = WriteBatch::new();
    restored.restore(state.applied(), &state.image(), &mut batch).unwrap();
    other.write(&batch).unwrap();
    restored.check_invariants();
    assert_eq!(State::load(&other).unwrap(), restored);
    assert_eq!(restored.stores(), state.stores());
    assert_eq!((restored.truncated(), restored.id_bound()), (state.applied(), state.id_bound()));
    let elsewhere = EntryId::new(Term(1), LogIndex(3));
    assert!(matches!(restored.restore(elsewhere, &state.image(), &mut batch), Err(Error::Corrupt(_))));
}

#[test]
fn bounds_never_fall_and_the_clusters_id_never_changes() {
    let (mut state, _) = lived();
    let mut next = |command| {
        let at = EntryId::new(Term(2), state.applied().index.next());
        let outcome = state.apply(at, Some(command), &mut WriteBatch::new());
        (outcome, state.cluster_id(), state.tso_upper_ms())
    };
    assert_eq!(
        next(Command::ExtendTso { upper_ms: 10 }),
        (Outcome::Tso { before_ms: 5000, upper_ms: 5000 }, ClusterId(77), 5000)
    );
    assert_eq!(next(Command::Init { cluster_id: ClusterId(1) }).1, ClusterId(77));
    assert_eq!(next(Command::ReserveIds { count: 5 }).0, Outcome::Ids { first: 101, end: 106 });
}

#[test]
fn damaged_records_are_told() {
    let (_, engine) = lived();
    for key in [&b"pd/meta"[..], &[&b"pd/store/"[..], &4u64.to_be_bytes()].concat()] {
        let whole = engine.get(Cf::Default, key).unwrap().unwrap();
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, key, &whole[..whole.len() - 1]);
        engine.write(&batch).unwrap();
        assert!(matches!(State::load(&engine), Err(Error::Corrupt(_))));
        batch.clear();
        batch.put(Cf::Default, key, &whole);
        engine.write(&batch).unwrap();
        State::load(&engine).unwrap();
    }
    let mut batch = WriteBatch::new();
    let misplaced =
        engine.get(Cf::Default, &[&b"pd/store/"[..], &4u64.to_be_bytes()].concat()).unwrap().unwrap();
    batch.put(Cf::Default, b"pd/store/misplaced", &misplaced);
    engine.write(&batch).unwrap();
    assert!(matches!(State::load(&engine), Err(Error::Corrupt(_))));
}

#[test]
fn commands_keep_their_encoding() {
    // A log outlives the version that wrote it: these bytes must be read for ever.
    let golden: [(Command, &[u8]); 3] = [
        (Command::Init { cluster_id: ClusterId(300) }, &[1, 2, 0xac, 2]),
        (Command::ReserveIds { count: 5 }, &[4, 1, 5]),
        (Command::ExtendTso { upper_ms: 128 }, &[5, 2, 0x80, 1]),
    ];
    for (command, bytes) in golden {
        assert_eq!(&command.to_bytes()[..], bytes);
        assert_eq!(Command::from_bytes(&Bytes::from_static(bytes)), Ok(command));
    }
    for command in commands() {
        let bytes = command.to_bytes();
        assert_eq!(Command::from_bytes(&bytes), Ok(command));
        for len in 0..bytes.len() {
            assert!(Command::from_bytes(&bytes.slice(..len)).is_err(), "a cut at {len} is noticed");
        }
    }
}

#[test]
fn a_store_drains_only_while_enough_others_serve_and_its_id_ends_only_while_it_drains() {
    let (mut state, _) = lived();
    let mut next = |command| {
        let at = EntryId::new(Term(2), state.applied().index.next());
        let outcome = state.apply(at, Some(command), &mut WriteBatch::new());
        state.check_invariants();
        (outcome, state.clone())
    };
    let set = |id, mode, others_min| Command::SetMode { store_id: StoreId(id), mode, others_min };
    let refusal = |outcome| match outcome {
        Outcome::Refused(wire::pd::PdError::InvalidRequest { message }) => message,
        other => panic!("{other:?}"),
    };
    // 1 and 6 serve, 5 leads nothing, 4 and 7 have ended.
    let message = refusal(next(set(1, StoreMode::Draining, 2)).0);
    assert!(message.contains("1 other stores") && message.contains("2 are needed"), "{message}");
    assert!(refusal(next(set(7, StoreMode::Serving, 0)).0).contains("has ended"));
    assert!(refusal(next(set(9, StoreMode::Draining, 0)).0).contains("no store 9"));
    let retire = || Command::Retire { store_id: StoreId(5) };
    assert!(!next(retire()).1.stores()[&StoreId(5)].retired, "it does not drain");
    assert_eq!(next(set(5, StoreMode::Draining, 2)).0, Outcome::Done);
    // It introduces itself again, and drains on.
    let put = |id| Command::PutStore { store: info(id, "e"), takes_over: None, retires: false };
    assert_eq!(next(put(5)).1.stores()[&StoreId(5)].mode, StoreMode::Draining);
    assert_eq!(next(set(5, StoreMode::Serving, 0)).0, Outcome::Done);
    assert!(!next(retire()).1.stores()[&StoreId(5)].retired, "it was called back");
    assert_eq!(next(set(5, StoreMode::Draining, 2)).0, Outcome::Done);
    let (_, state) = next(retire());
    assert!(state.stores()[&StoreId(5)].retired && state.address_holder("e").is_none());
    assert!(matches!(next(put(5)).0, Outcome::Refused(wire::pd::PdError::StoreRejected { .. })));
}

#[test]
fn a_store_is_taken_back_only_with_a_disk_that_has_forgotten_nothing() {
    let (mut state, _) = lived();
    let mut next = |command| {
        let at = EntryId::new(Term(2), state.applied().index.next());
        state.apply(at, Some(command), &mut WriteBatch::new())
    };
    let put = |starts, log_mark| Command::PutStore {
        store: StoreInfo { starts, log_mark, ..info(8, "f") },
        takes_over: None,
        retires: false,
    };
    let refusal = |outcome| match outcome {
        Outcome::Refused(wire::pd::PdError::StoreRejected { message }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(put(1, 0)), Outcome::Done);
    assert_eq!(next(put(2, 40)), Outcome::Done);
    assert_eq!(next(put(2, 40)), Outcome::Done, "the answer was lost, so it is asked again");
    let message = refusal(next(put(1, 40)));
    assert!(message.contains("is older than") && message.contains("start 1 of it"), "{message}");
    // It has told of more writes since; an image of the same run that lacks some of them is known by that.
    let marks = |log_mark| Command::Marks { marks: vec![LogMark { store_id: StoreId(8), log_mark }] };
    assert_eq!((next(marks(90)), next(marks(70))), (Outcome::Done, Outcome::Done));
    let message = refusal(next(put(3, 89)));
    assert!(message.contains("after 89 writes") && message.contains("90 writes are known"), "{message}");
    assert_eq!(next(put(3, 90)), Outcome::Done);
    assert!(refusal(next(put(2, 89))).contains("is older than"), "however often it is tried");
    // Who does not count is not kept out by counts, but for one who did.
    assert_eq!(
        next(Command::PutStore { store: info(5, "b"), takes_over: None, retires: false }),
        Outcome::Done
    );
    refusal(next(put(0, 90)));
}
