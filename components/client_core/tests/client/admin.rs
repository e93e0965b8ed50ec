//! Regions and stores through the client.

use crate::cluster::{Cluster, Fate, STORES};
use crate::world::World;
use client_core::{Cluster as ClusterInfo, Error, InvalidArgument, Keyspace, Options};
use types::{ClusterId, Key, KeyRange, LogIndex, RegionId, StoreId};
use wire::pd::{Order, StoreMode};

fn key(raw: &str) -> Key {
    Keyspace::RAW.encode(raw.as_bytes())
}

#[test]
fn the_cluster_its_stores_and_its_regions_are_listed() {
    let world = World::new(1);
    let cluster = Cluster::new(&world, &["b", "c"]);
    let admin = cluster.core(Options::default()).admin();
    world.run(async move {
        assert_eq!(admin.cluster().await, Ok(ClusterInfo { id: ClusterId(7), bootstrapped: true }));
        assert_eq!(admin.stores().await.unwrap().len() as u64, STORES);
        assert_eq!(admin.operators().await, Ok(vec![]));
        assert!(!admin.timestamp().await.unwrap().0 > 0);
        assert_eq!(admin.regions(KeyRange::full(), 10).await.unwrap().len(), 3);
        assert_eq!(admin.regions(KeyRange::full(), 2).await.unwrap().len(), 2);
        let middle = admin.regions(KeyRange::new(key("b"), key("c")), 10).await.unwrap();
        assert_eq!(middle.len(), 1);
        let same = admin.region(middle[0].region.id).await.unwrap();
        assert_eq!(same.as_ref(), Some(&middle[0]));
        assert_eq!(admin.region_at(key("b1")).await.unwrap(), same);
        assert_eq!(admin.region(RegionId(999)).await, Ok(None));
        let reversed = admin.regions(KeyRange::new("b", "a"), 10).await;
        assert_eq!(reversed, Err(InvalidArgument::RangeReversed.into()));
    });
}

#[test]
fn regions_are_cut_at_keys_that_are_no_borders_yet() {
    let world = World::new(2);
    let cluster = Cluster::new(&world, &["m"]);
    let core = cluster.core(Options::default());
    world.run(async move {
        let admin = core.admin();
        let made = admin.split_region([key("z"), key("c"), key("m"), key("f"), key("c")]).await.unwrap();
        assert_eq!(made.len(), 5, "three parts of the lower region, two of the upper");
        let borders: Vec<Key> = made.iter().map(|region| region.range.start.clone()).collect();
        assert_eq!(borders, [Key::new(), key("c"), key("f"), key("m"), key("z")]);
        assert_eq!(admin.split_region([key("c")]).await, Ok(vec![]), "it is a border already");
        assert_eq!(admin.split_region([""]).await, Err(InvalidArgument::SplitAtEmptyKey.into()));
        core.raw().batch_put([("a", "1"), ("d", "2"), ("zz", "3")]).await.unwrap();
    });
}

#[test]
fn members_are_changed_and_logs_are_cut_for_people() {
    let world = World::new(5);
    let cluster = Cluster::new(&world, &[]);
    let admin = cluster.core(Options::default()).admin();
    world.run(async move {
        let region_id = admin.region_at("").await.unwrap().unwrap().region.id;
        let order = Order::AddPeer { to_store: StoreId(4) };
        let begun = admin.add_operator(region_id, order).await.unwrap();
        assert_eq!((begun.region_id, begun.why), (region_id, format!("{order:?}")));
        assert_eq!(admin.cancel_operator(region_id).await, Ok(()));
        assert_eq!(admin.set_store_mode(StoreId(4), StoreMode::Draining).await, Ok(()));
        assert_eq!(admin.compact_log(region_id).await, Ok(LogIndex(7)));
        let unknown = RegionId(999);
        assert_eq!(admin.compact_log(unknown).await, Err(Error::NoSuchRegion { region_id: unknown }));
    });
}

#[test]
fn leadership_is_handed_over() {
    let world = World::new(3);
    let cluster = Cluster::new(&world, &[]);
    let core = cluster.core(Options::default());
    world.run({
        let cluster = cluster.clone();
        async move {
            let admin = core.admin();
            admin.transfer_leader(RegionId(2), StoreId(3)).await.unwrap();
            assert_eq!(cluster.state.lock().regions[&Key::new()].leader, Some(StoreId(3)));
            core.raw().put("k", "v").await.unwrap();
            // Back again, now that the cache names the old leader; and the outcome may be lost.
            admin.transfer_leader(RegionId(2), StoreId(1)).await.unwrap();
            cluster.state.lock().fates.push_back(Fate::Pass);
            cluster.state.lock().fates.push_back(Fate::AnswerLost);
            let result = admin.transfer_leader(RegionId(2), StoreId(2)).await;
            assert!(matches!(result, Err(Error::Undetermined { .. })), "it gave {result:?}");
            assert_eq!(
                admin.transfer_leader(RegionId(77), StoreId(1)).await,
                Err(Error::NoSuchRegion { region_id: RegionId(77) })
            );
            let nobody = admin.transfer_leader(RegionId(2), StoreId(4)).await;
            assert!(matches!(nobody, Err(Error::InvalidArgument(_))), "it gave {nobody:?}");
        }
    });
}
