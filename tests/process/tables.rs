//! The example of `docs/building-a-database.md`, on a cluster.

use crate::support::cluster::{Cluster, replicated};
use crate::support::run::Run;
use client::{TxnClient, TxnError};
use env::Dice as _;
use std::time::Duration;
use tables::{Reader, Row, Table, TableError, Value};

fn people() -> Table {
    Table { name: "people".to_owned(), columns: 3, indexes: vec![1, 2] }
}

fn person(id: i64, name: &str, born: i64) -> Row {
    vec![id.into(), name.into(), born.into()]
}

/// Rows are found by their ids and by what their indexes say, in order; those that change are found where they are now and
/// nowhere else. Many writers change the same rows at once, while a region border lies between rows and indexes: at every
/// moment that is looked at, rows and indexes agree.
#[test]
fn tables_keep_their_indexes() {
    let run = Run::begin("tables");
    run.play(Duration::from_secs(120), story(&run));
}

async fn story(run: &Run) {
    let cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(Duration::from_secs(20)).await;
    replicated(&client, 3, Duration::from_secs(45)).await;
    let (txn, table) = (client.txn(), people());

    let mut transaction = txn.begin();
    for row in [person(1, "Ada", 1815), person(2, "Grace", 1906), person(3, "Edsger", 1930)] {
        table.insert(&mut transaction, &row).await.expect("rows are new");
    }
    // What is not committed is there for who writes it, and for nobody else.
    let born = |from: i64, to: i64| (Value::from(from), Value::from(to));
    let (from, to) = born(1900, 2000);
    let own = table.rows_by(Reader::Transaction(&transaction), 2, &from, &to).await.expect("an index");
    assert_eq!(own, [person(2, "Grace", 1906), person(3, "Edsger", 1930)]);
    let before = txn.latest().await.expect("the cluster is well");
    assert_eq!(table.verify(&before).await, Ok(0));
    transaction.commit().await.expect("nobody is in the way");

    let mut transaction = txn.begin();
    table.put(&mut transaction, &person(2, "Rear Admiral Grace", 1906)).await.expect("it is there");
    table.remove(&mut transaction, &3.into()).await.expect("it is there");
    transaction.commit().await.expect("nobody is in the way");
    let snapshot = txn.latest().await.expect("the cluster is well");
    let (reader, all) = (Reader::Snapshot(&snapshot), (Value::from(""), Value::from("~")));
    let by_name = table.rows_by(reader, 1, &all.0, &all.1).await.expect("an index");
    assert_eq!(by_name, [person(1, "Ada", 1815), person(2, "Rear Admiral Grace", 1906)]);
    assert_eq!(table.rows(reader, &1.into(), &2.into()).await, Ok(vec![person(1, "Ada", 1815)]));
    assert_eq!(table.get(reader, &3.into()).await, Ok(None));
    assert_eq!(table.verify(&snapshot).await, Ok(2));

    // An id that is taken is refused, at the latest when it is committed.
    let mut transaction = txn.begin();
    table.insert(&mut transaction, &person(1, "Another", 1)).await.expect("nobody has looked yet");
    let refused = transaction.commit().await.expect_err("it is there");
    assert!(matches!(refused, client::Error::Txn(TxnError::AlreadyExists { .. })), "{refused}");

    let border = client::Keyspace::TXN.encode(b"\x02people\0i");
    client.admin().split_region(vec![border]).await.expect("it can be cut there");
    let writers = (0..6_u64).map(|number| {
        let (txn, table, mut dice) = (client.txn(), people(), run.dice(&format!("writer {number}")));
        tokio::spawn(async move {
            for _ in 0..25 {
                let (id, born) = (dice.below(10) as i64, 1800 + dice.below(200) as i64);
                let removes = dice.chance(1, 5);
                write(&txn, &table, id, born, removes).await.expect("it is begun again until it is done");
            }
        })
    });
    let mut audits = 0;
    let mut writers: Vec<_> = writers.collect();
    while let Some(writer) = writers.pop() {
        while !writer.is_finished() {
            let snapshot = txn.latest().await.expect("the cluster is well");
            table.verify(&snapshot).await.expect("rows and indexes agree");
            audits += 1;
        }
        writer.await.expect("a writer does not panic");
    }
    let snapshot = txn.latest().await.expect("the cluster is well");
    let rows = table.verify(&snapshot).await.expect("rows and indexes agree");
    run.say(format!("{rows} rows in the end; rows and indexes agreed {audits} times meanwhile"));
    assert!(audits > 0, "nobody looked meanwhile");
}

/// Whoever is overtaken begins again.
async fn write(txn: &TxnClient, table: &Table, id: i64, born: i64, removes: bool) -> Result<(), TableError> {
    txn.run(|mut attempt| async move {
        match removes {
            true => table.remove(&mut attempt, &id.into()).await,
            false => table.put(&mut attempt, &person(id, &format!("number {born}"), born)).await,
        }
    })
    .await
}
