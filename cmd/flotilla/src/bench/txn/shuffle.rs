//! What is done to the cluster while a workload runs: regions are split and leaders moved.

use super::{Shop, plain};
use crate::clock;
use client::{Client, KeyRange, Keyspace};
use env::{Dice as _, SplitMix};
use std::time::Duration;
use types::Key;

/// From one thing to the next.
const PAUSE: Duration = Duration::from_millis(250);

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::bench) struct Shuffled {
    pub(in crate::bench) splits: u64,
    pub(in crate::bench) transfers: u64,
}

/// Shuffles for so long. What is refused, because something else is under way, is not counted.
pub(super) async fn shuffle(
    client: &Client,
    keyspace: Keyspace,
    shop: &Shop,
    duration: Duration,
) -> Shuffled {
    let begin = clock::now();
    let admin = client.admin();
    let mut dice = SplitMix::new(7).fork("shuffle");
    let mut shuffled = Shuffled::default();
    while begin.elapsed() < duration {
        if dice.chance(1, 4) {
            let border = keyspace.encode(&border(shop, &mut dice));
            shuffled.splits += u64::from(admin.split_region(vec![border]).await.is_ok());
        } else if let Ok(routes) = admin.regions(KeyRange::full(), usize::MAX).await
            && !routes.is_empty()
        {
            let route = &routes[usize::try_from(dice.below(routes.len() as u64)).unwrap_or_default()];
            let stores: Vec<_> = route.region.peers.iter().map(|peer| peer.store_id).collect();
            let to = stores[usize::try_from(dice.below(stores.len() as u64)).unwrap_or_default()];
            let leads = route.leader.is_some_and(|leader| leader.store_id == to);
            if !leads {
                shuffled.transfers += u64::from(admin.transfer_leader(route.region.id, to).await.is_ok());
            }
        }
        clock::pause(PAUSE.min(duration.saturating_sub(begin.elapsed()))).await;
    }
    shuffled
}

/// A key in the middle of what is written.
fn border(shop: &Shop, dice: &mut SplitMix) -> Key {
    match shop {
        Shop::Bank(bank) => bank.account(dice.below(bank.accounts())),
        Shop::Orders(_) => format!("bench/shop/d/{:03}/{:02}/", dice.below(4), dice.below(10)).into(),
        Shop::Lists(_) | Shop::Plain(_) => plain::key(dice.next_u64() >> 16),
    }
}
