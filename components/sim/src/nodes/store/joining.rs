//! A store on its way into its cluster.

use super::{Phase, Purpose, StoreNode};
use crate::check::Broken;
use crate::client::address_of;
use crate::cluster::World;
use crate::nodes::pd_calls::Ended;
use env::Dice;
use std::time::Duration;
use store::{Event, Join, JoinStep, Store, StoreIdent};
use wire::pd::{PdError, StoreInfo};
use wire::store::DiskState;

impl StoreNode {
    pub(super) fn begin_join(&mut self, world: &mut World<'_>) {
        let info = StoreInfo { address: address_of(world.node()), ..StoreInfo::default() };
        let begun = Join::new(self.engine.clone(), info);
        let Some((join, step)) = self.survive(begun) else { return };
        self.process().phase = Phase::Joining(Some(join));
        self.join_step(world, step);
    }

    fn join_step(&mut self, world: &mut World<'_>, step: JoinStep) {
        match step {
            JoinStep::Ask(request) => self.process().calls.ask(world, Purpose::Join, request),
            JoinStep::Joined(ident) => self.open(world, ident),
            // Whoever looks after it does what it says.
            JoinStep::Refused(why)
                if why.contains("is retired") || (self.is_restored && why.contains("is older than")) =>
            {
                self.is_to_be_wiped = true;
                self.stops.get_or_insert(format!("may not join: {why}"));
            }
            // Only a disk that was changed for another one gives a reason.
            JoinStep::Refused(why) if !self.shelf.is_empty() && !why.contains("is older than") => {
                self.stops.get_or_insert(format!("may not join: {why}"));
            }
            JoinStep::Refused(why) => panic!("store {} may not join: {why}", world.node()),
        }
    }

    fn open(&mut self, world: &mut World<'_>, ident: StoreIdent) {
        world.note(|| format!("runs as store {}", ident.store_id));
        if self.is_restored {
            let facts = format!(
                "store {} takes part with an image of its disk from before its last words",
                ident.store_id
            );
            self.sight.saw(Err(Broken { invariant: "INV-STORE-17 (an older disk is refused)", facts }));
        }
        {
            let (mut book, node) = (self.book.lock(), world.node());
            // Who greets the store that was here before is told that this is another one.
            book.retain(|_, at| *at != node);
            book.insert(ident.store_id, node);
        }
        let seed = world.dice().next_u64();
        let store = Store::open(self.engine.clone(), self.config.clone(), ident, seed, world.mono());
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                assert!(self.engine.poisoned().is_some(), "store {} cannot open: {error}", ident.store_id);
                self.stops.get_or_insert(error);
                return;
            }
        };
        self.process().phase = Phase::Running(store);
        self.tell_space(world);
    }

    pub(super) fn tell_space(&mut self, world: &mut World<'_>) {
        let available_bytes = if self.space == DiskState::Ok { 1 << 39 } else { 1 << 20 };
        self.event(world, Event::Disk { capacity_bytes: 1 << 40, available_bytes, state: self.space });
    }

    pub(super) fn on_pd_answer(&mut self, world: &mut World<'_>, (purpose, answer): Ended<Purpose>) {
        match purpose {
            Purpose::Call(call) => self.event(world, Event::PdAnswer { call: *call, answer }),
            Purpose::Join => {
                let Phase::Joining(join) = &mut self.process().phase else {
                    unreachable!("only a store that joins asks to join");
                };
                let joining = join.take();
                match answer {
                    // Nobody there who could say: once more from the beginning, which is always safe.
                    None
                    | Some(Err(
                        PdError::NotLeader { .. } | PdError::ServerIsBusy { .. } | PdError::NotBootstrapped,
                    )) => {
                        self.process().join_at = world.mono() + Duration::from_millis(300);
                    }
                    Some(answer) => {
                        let mut joining = joining.expect("an answer follows its question");
                        let step = joining.on_answer(answer);
                        let Some(step) = self.survive(step) else { return };
                        if let Phase::Joining(join) = &mut self.process().phase {
                            *join = Some(joining);
                        }
                        self.join_step(world, step);
                    }
                }
            }
        }
    }
}
