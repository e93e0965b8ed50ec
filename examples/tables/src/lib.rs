//! Tables with secondary indexes, on ordered keys and transactions: an example of what is built on Flotilla, walked through in
//! `docs/building-a-database.md`.
//!
//! ```text
//! NAME 'r' id                →  the row               one per row, in order of id
//! NAME 'i' column value id   →  nothing               one per row and index, in order of value
//! ```
//!
//! What it keeps true: of each row there is exactly one entry in each index, with the value that the row has, at every
//! timestamp ([`Table::verify`]); because a row and its entries are written in one transaction. It knows no SQL, no types but two,
//! and no schema that changes. Start with [`Table`].

mod order;

use client::{Error, Key, KeyRange, KvPair, Scan, ScanOptions, Snapshot, Transaction};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use std::fmt;

pub use order::Value;

/// A row: one value for each column, the first of which is its id.
pub type Row = Vec<Value>;

/// A table, which is only a way to name keys: it exists as soon as it has rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Tells it apart from others.
    pub name: String,
    /// How many columns it has.
    pub columns: usize,
    /// Columns that can be searched by, other than the first.
    pub indexes: Vec<usize>,
}

/// Why something cannot be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableError {
    /// The cluster says so.
    Client(Error),
    /// The row has not as many values as the table has columns, or the column no index.
    Shape(String),
    /// What lies under a key is no row of this table.
    Damaged(Key),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Shape(what) => f.write_str(what),
            Self::Damaged(key) => write!(f, "what lies under {key:?} is no row of this table"),
        }
    }
}

impl std::error::Error for TableError {}

impl From<Error> for TableError {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

/// Who reads: a transaction, which sees what it has written itself, or a snapshot.
#[derive(Clone, Copy)]
pub enum Reader<'a> {
    /// Inside of a transaction.
    Transaction(&'a Transaction),
    /// As of a timestamp.
    Snapshot(&'a Snapshot),
}

impl Reader<'_> {
    async fn get(self, key: Key) -> Result<Option<client::Bytes>, Error> {
        match self {
            Self::Transaction(transaction) => transaction.get(key).await,
            Self::Snapshot(snapshot) => snapshot.get(key).await,
        }
    }

    fn scan(self, range: KeyRange) -> Result<Scan, Error> {
        match self {
            Self::Transaction(transaction) => transaction.scan(range, ScanOptions::default()),
            Self::Snapshot(snapshot) => snapshot.scan(range, ScanOptions::default()),
        }
    }
}

impl Table {
    /// Adds a row whose id is new.
    ///
    /// # Errors
    /// [`TableError`]; that there is such a row already may come only with the commit.
    pub async fn insert(&self, transaction: &mut Transaction, row: &Row) -> Result<(), TableError> {
        self.check(row)?;
        transaction.insert(self.row_key(&row[0]), order::write_all(row)).await?;
        for column in &self.indexes {
            transaction.put(self.entry_key(*column, row), "").await?;
        }
        Ok(())
    }

    /// Sets a row, whether or not there was one with this id: what its indexes said before is removed.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn put(&self, transaction: &mut Transaction, row: &Row) -> Result<(), TableError> {
        self.check(row)?;
        self.remove(transaction, &row[0]).await?;
        transaction.put(self.row_key(&row[0]), order::write_all(row)).await?;
        for column in &self.indexes {
            transaction.put(self.entry_key(*column, row), "").await?;
        }
        Ok(())
    }

    /// Removes a row, if there is one with this id.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn remove(&self, transaction: &mut Transaction, id: &Value) -> Result<(), TableError> {
        let Some(row) = self.get(Reader::Transaction(transaction), id).await? else { return Ok(()) };
        transaction.delete(self.row_key(id)).await?;
        for column in &self.indexes {
            transaction.delete(self.entry_key(*column, &row)).await?;
        }
        Ok(())
    }

    /// The row with this id.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn get(&self, reader: Reader<'_>, id: &Value) -> Result<Option<Row>, TableError> {
        let key = self.row_key(id);
        match reader.get(key.clone()).await? {
            Some(bytes) => self.row(&key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Rows in order of their ids, from one up to another, which is left out.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn rows(&self, reader: Reader<'_>, from: &Value, to: &Value) -> Result<Vec<Row>, TableError> {
        let mut scan = reader.scan(KeyRange::new(self.row_key(from), self.row_key(to)))?;
        let mut rows = Vec::new();
        while let Some(KvPair { key, value, .. }) = scan.next().await.transpose()? {
            rows.push(self.row(&key, &value)?);
        }
        Ok(rows)
    }

    /// Rows in order of a column that has an index, from one value up to another, which is left out.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn rows_by(
        &self,
        reader: Reader<'_>,
        column: usize,
        from: &Value,
        to: &Value,
    ) -> Result<Vec<Row>, TableError> {
        if !self.indexes.contains(&column) {
            return Err(TableError::Shape(format!("column {column} has no index")));
        }
        let range = KeyRange::new(self.index_key(column, from), self.index_key(column, to));
        let mut scan = reader.scan(range)?;
        let mut rows = Vec::new();
        while let Some(KvPair { key, .. }) = scan.next().await.transpose()? {
            let (_, id) = self.entry(&key)?;
            // One transaction wrote both, and one timestamp sees both.
            let row = self.get(reader, &id).await?.ok_or(TableError::Damaged(key))?;
            rows.push(row);
        }
        Ok(rows)
    }

    /// Compares all rows with all entries of indexes; returns how many rows there are.
    ///
    /// # Errors
    /// [`TableError::Damaged`] with a key that the other side does not know.
    pub async fn verify(&self, snapshot: &Snapshot) -> Result<usize, TableError> {
        let mut expected = BTreeSet::new();
        let reader = Reader::Snapshot(snapshot);
        let mut scan = reader.scan(KeyRange::prefix(self.prefix(b'r')))?;
        let mut count = 0;
        while let Some(KvPair { key, value, .. }) = scan.next().await.transpose()? {
            let row = self.row(&key, &value)?;
            expected.extend(self.indexes.iter().map(|column| self.entry_key(*column, &row)));
            count += 1;
        }
        let mut scan = reader.scan(KeyRange::prefix(self.prefix(b'i')))?;
        while let Some(KvPair { key, .. }) = scan.next().await.transpose()? {
            if !expected.remove(&key) {
                return Err(TableError::Damaged(key));
            }
        }
        expected.pop_first().map_or(Ok(count), |missing| Err(TableError::Damaged(missing)))
    }

    fn check(&self, row: &Row) -> Result<(), TableError> {
        let message = || format!("a row of {} has {} values, not {}", self.name, self.columns, row.len());
        if row.len() == self.columns { Ok(()) } else { Err(TableError::Shape(message())) }
    }

    fn prefix(&self, kind: u8) -> Vec<u8> {
        let mut key = Vec::new();
        order::write(&mut key, &Value::Text(self.name.clone()));
        key.push(kind);
        key
    }

    fn row_key(&self, id: &Value) -> Key {
        let mut key = self.prefix(b'r');
        order::write(&mut key, id);
        key.into()
    }

    /// What all entries of a value begin with, and the first of them stands behind.
    fn index_key(&self, column: usize, value: &Value) -> Vec<u8> {
        let mut key = self.prefix(b'i');
        order::write(&mut key, &Value::Number(i64::try_from(column).expect("few columns")));
        order::write(&mut key, value);
        key
    }

    fn entry_key(&self, column: usize, row: &Row) -> Key {
        let mut key = self.index_key(column, &row[column]);
        order::write(&mut key, &row[0]);
        key.into()
    }

    fn row(&self, key: &Key, bytes: &[u8]) -> Result<Row, TableError> {
        let row = order::read_all(bytes).filter(|row| row.len() == self.columns);
        row.ok_or_else(|| TableError::Damaged(key.clone()))
    }

    /// The value and the id of an entry.
    fn entry(&self, key: &Key) -> Result<(Value, Value), TableError> {
        let prefix = self.prefix(b'i').len();
        let parts = key.get(prefix..).and_then(order::read_all);
        match parts.as_deref() {
            Some([_, value, id]) => Ok((value.clone(), id.clone())),
            _ => Err(TableError::Damaged(key.clone())),
        }
    }
}
