//! Commands of transactions that say the same of each of their keys, and answer no more than that it was done.

use crate::call::{Call, Effect};
use crate::core::Core;
use crate::error::Error;
use crate::pieces::{Outcome, Work};
use types::Key;
use wire::kv::{KvCommand, KvReply};
use wire::txn::{TxnCommand, TxnReply};

struct ForKeys<F>(F);

impl<F: Fn(Vec<Key>) -> TxnCommand + Sync> Work for ForKeys<F> {
    type Item = Key;
    fn command(&self, keys: &[Key]) -> KvCommand {
        KvCommand::Txn(Box::new((self.0)(keys.to_vec())))
    }
    fn fits(&self, _: &[Key], reply: &KvReply) -> bool {
        matches!(reply, KvReply::Txn(reply) if **reply == TxnReply::Done)
    }
}

impl Core {
    /// Has a command done for all of the keys, region by region. What fails does not keep the others from being done; the
    /// first failure is told.
    pub(crate) async fn for_keys(
        &self,
        call: &Call,
        mut keys: Vec<Key>,
        command: impl Fn(Vec<Key>) -> TxnCommand + Sync,
    ) -> Result<(), Error> {
        keys.sort();
        keys.dedup();
        let mut failure = None;
        self.in_pieces(keys, call.within(Effect::Repeatable), &ForKeys(command), |outcome| {
            if let Outcome::Failed { error, .. } = outcome {
                failure.get_or_insert(error);
            }
            true
        })
        .await;
        failure.map_or(Ok(()), Err)
    }
}
