//! What the log needs of a store: rows in the order of their keys, read as they are at one moment, and changed all
//! together or not at all. Only here and in `file.rs` is it known which engine keeps them.

use redb::{
    Key, ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

use super::LogError;

/// One kind of rows, by its name.
#[derive(Clone, Copy)]
pub(super) struct Rows<K: Key + 'static>(TableDefinition<'static, K, &'static [u8]>);

pub(super) type Numbered = Rows<u64>;
pub(super) type Named = Rows<&'static str>;

/// An open store. One write at a time: another one waits.
#[derive(Debug)]
pub(super) struct Store(pub(super) redb::Database);

/// The rows at the moment when it began.
pub(super) struct Reading(ReadTransaction);

/// Changes that no reader sees before the commit.
pub(super) struct Writing(WriteTransaction);

/// What the engine says went wrong.
pub(super) type EngineError = Box<dyn std::error::Error + Send + Sync>;

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for LogError {
            fn from(error: $error) -> Self {
                Self::Storage(Box::new(redb::Error::from(error)))
            }
        }
    )*};
}

from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

impl<K: Key + 'static> Rows<K> {
    pub(super) const fn new(name: &'static str) -> Self {
        Self(TableDefinition::new(name))
    }
}

impl Store {
    pub(super) fn read(&self) -> Result<Reading, LogError> {
        Ok(Reading(self.0.begin_read()?))
    }

    pub(super) fn write(&self) -> Result<Writing, LogError> {
        Ok(Writing(self.0.begin_write()?))
    }
}

impl Reading {
    pub(super) fn row<'k, K: Key + 'static>(
        &self,
        rows: Rows<K>,
        key: K::SelfType<'k>,
    ) -> Result<Option<Vec<u8>>, LogError> {
        row(&self.0.open_table(rows.0)?, key)
    }

    pub(super) fn has(&self, rows: Numbered, number: u64) -> Result<bool, LogError> {
        Ok(self.0.open_table(rows.0)?.get(number)?.is_some())
    }

    /// In order.
    pub(super) fn numbers(&self, rows: Numbered) -> Result<Vec<u64>, LogError> {
        self.0.open_table(rows.0)?.iter()?.map(|row| Ok(row?.0.value())).collect()
    }

    /// The first number and the last one.
    pub(super) fn ends(&self, rows: Numbered) -> Result<Option<(u64, u64)>, LogError> {
        let table = self.0.open_table(rows.0)?;
        let (first, last) = (table.first()?, table.last()?);
        Ok(first.zip(last).map(|((first, _), (last, _))| (first.value(), last.value())))
    }

    /// The rows from that number on, in order.
    pub(super) fn rows(
        &self,
        rows: Numbered,
        from: u64,
    ) -> Result<impl DoubleEndedIterator<Item = Result<(u64, Vec<u8>), LogError>>, LogError> {
        let range = self.0.open_table(rows.0)?.range(from..)?;
        Ok(range.map(|row| row.map(|(number, row)| (number.value(), row.value().to_vec())).map_err(LogError::from)))
    }

    /// All of them, in order.
    pub(super) fn named(&self, rows: Named) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        let table = self.0.open_table(rows.0)?;
        table.iter()?.map(|row| Ok(row.map(|(name, row)| (name.value().to_owned(), row.value().to_vec()))?)).collect()
    }
}

impl Writing {
    pub(super) fn row<'k, K: Key + 'static>(
        &self,
        rows: Rows<K>,
        key: K::SelfType<'k>,
    ) -> Result<Option<Vec<u8>>, LogError> {
        row(&self.0.open_table(rows.0)?, key)
    }

    pub(super) fn count(&self, rows: Numbered) -> Result<u64, LogError> {
        Ok(self.0.open_table(rows.0)?.len()?)
    }

    /// The first number from that one on.
    pub(super) fn first(&self, rows: Numbered, from: u64) -> Result<Option<u64>, LogError> {
        let table = self.0.open_table(rows.0)?;
        let first = table.range(from..)?.next().transpose()?.map(|(number, _)| number.value());
        Ok(first)
    }

    pub(super) fn last(&self, rows: Numbered) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        let table = self.0.open_table(rows.0)?;
        let last = table.last()?.map(|(number, row)| (number.value(), row.value().to_vec()));
        Ok(last)
    }

    pub(super) fn put<'k, K: Key + 'static>(
        &self,
        rows: Rows<K>,
        key: K::SelfType<'k>,
        row: &[u8],
    ) -> Result<(), LogError> {
        self.0.open_table(rows.0)?.insert(key, row)?;
        Ok(())
    }

    pub(super) fn remove(&self, rows: Numbered, number: u64) -> Result<(), LogError> {
        self.0.open_table(rows.0)?.remove(number)?;
        Ok(())
    }

    /// So that readers find such rows.
    pub(super) fn begin<K: Key + 'static>(&self, rows: Rows<K>) -> Result<(), LogError> {
        self.0.open_table(rows.0)?;
        Ok(())
    }

    /// Returns once all of it is on the disk; after an error it may be there or not.
    pub(super) fn commit(self) -> Result<(), LogError> {
        // The default durability of a transaction is `Immediate`: this returns after the fsync.
        Ok(self.0.commit()?)
    }
}

fn row<'k, K: Key + 'static>(
    table: &impl ReadableTable<K, &'static [u8]>,
    key: K::SelfType<'k>,
) -> Result<Option<Vec<u8>>, LogError> {
    Ok(table.get(key)?.map(|row| row.value().to_vec()))
}
