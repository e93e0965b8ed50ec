//! Transactions that are begun again until they succeed.

use crate::backoff::{Backoff, Class};
use crate::error::{Error, InvalidArgument};
use crate::txn::client::TxnClient;
use crate::txn::transaction::{Mode, Transaction};
use parking_lot::Mutex;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// A transaction in the hands of the body of [`TxnClient::run`], which commits it afterwards, or rolls it back.
#[derive(Debug)]
pub struct Attempt {
    /// There until this is dropped.
    transaction: Option<Transaction>,
    back_to: Arc<Mutex<Option<Transaction>>>,
}

impl Deref for Attempt {
    type Target = Transaction;
    fn deref(&self) -> &Transaction {
        self.transaction.as_ref().expect("it is there until this is dropped")
    }
}

impl DerefMut for Attempt {
    fn deref_mut(&mut self) -> &mut Transaction {
        self.transaction.as_mut().expect("it is there until this is dropped")
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        *self.back_to.lock() = self.transaction.take();
    }
}

impl TxnClient {
    /// Runs a transaction: begins one, hands it to `body`, commits it, and gives back what `body` gave. If others were in
    /// its way it is rolled back and all of it begins again, after a while, until the deadline. So `body` may be called
    /// many times and should do nothing else; of all calls, what the last one did was committed, or nothing.
    ///
    /// ```no_run
    /// # async fn example(txn: client_core::TxnClient) -> Result<(), client_core::Error> {
    /// txn.run(|mut txn| async move {
    ///     let count = txn.get("visits").await?.map_or(0, |bytes| bytes.len());
    ///     txn.put("visits", vec![b'|'; count + 1]).await
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `body` gave, unless the transaction has met something by then for which it is begun again; and those of
    /// [`Transaction::commit`]. After [`Error::Undetermined`] nothing is begun again. [`Error::InvalidArgument`] if `body`
    /// has kept the transaction.
    pub async fn run<T, E, F>(&self, body: impl FnMut(Attempt) -> F) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
    {
        self.run_as(Mode::Optimistic, body).await
    }

    /// The same with transactions that lock keys as soon as they write them.
    ///
    /// # Errors
    /// As [`TxnClient::run`].
    pub async fn run_pessimistic<T, E, F>(&self, body: impl FnMut(Attempt) -> F) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
    {
        self.run_as(Mode::Pessimistic, body).await
    }

    async fn run_as<T, E, F>(&self, mode: Mode, mut body: impl FnMut(Attempt) -> F) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
    {
        let ends_at = self.core.now() + self.deadline;
        let mut backoff = Backoff::default();
        loop {
            let left = ends_at.since(self.core.now());
            let client = self.with_deadline(left);
            let transaction = match mode {
                Mode::Optimistic => client.begin(),
                Mode::Pessimistic => client.begin_pessimistic(),
            };
            let lent = Arc::new(Mutex::new(None));
            let attempt = Attempt { transaction: Some(transaction), back_to: Arc::clone(&lent) };
            let result = body(attempt).await;
            let Some(txn) = lent.lock().take() else {
                let message = "the transaction was kept when it was to be committed".to_owned();
                return Err(Error::from(InvalidArgument::Refused { message }).into());
            };
            let error = match result {
                Ok(value) => match txn.commit().await {
                    Ok(_) => return Ok(value),
                    Err(error) if is_worth_another(&error) => E::from(error),
                    Err(error) => return Err(error.into()),
                },
                Err(error) => {
                    let is_spoilt = txn.is_spoilt();
                    // Whatever comes of it, the locks that are left expire.
                    let _ = txn.rollback().await;
                    if !is_spoilt {
                        return Err(error);
                    }
                    error
                }
            };
            let wait = {
                let mut dice = self.core.shared.dice.lock();
                backoff.next(Class::Locked, Duration::ZERO, &mut **dice)
            };
            if ends_at.since(self.core.now()) <= wait {
                return Err(error);
            }
            self.core.shared.counts.note_wait(Class::Locked, wait);
            self.core.shared.timers.sleep(wait).await;
        }
    }
}

/// Whether what has ended a commit may not be there any more.
fn is_worth_another(error: &Error) -> bool {
    match error {
        Error::Txn(error) => error.is_worth_another(),
        Error::Unavailable { .. } | Error::DeadlineExceeded => true,
        Error::InvalidArgument(_)
        | Error::Undetermined { .. }
        | Error::DiskFull
        | Error::Incomplete(_)
        | Error::RangeIncomplete { .. }
        | Error::NoSuchRegion { .. }
        | Error::UnexpectedAnswer { .. } => false,
    }
}
