//! Stores that were taken out of service stay out (INV-PD-RETIRED).

use crate::check::Broken;
use crate::cluster::StoresEver;
use std::collections::BTreeMap;
use types::{LogIndex, StoreId};

/// Stores whose ids have ended, and since which command of the placement driver's log.
#[derive(Clone, Default, Debug)]
pub struct Retired(BTreeMap<StoreId, LogIndex>);

impl Retired {
    /// A member of the placement driver has applied so much, and knows these stores.
    ///
    /// # Errors
    /// When an id that had ended by then has not.
    pub fn saw(&mut self, applied: LogIndex, stores: &StoresEver) -> Result<(), Broken> {
        for (id, store) in stores {
            if store.is_retired {
                let since = self.0.entry(*id).or_insert(applied);
                *since = applied.min(*since);
            } else if self.0.get(id).is_some_and(|since| *since <= applied) {
                let facts = format!("store {id} has ended at {}, and not at {applied}", self.0[id]);
                return Err(Broken { invariant: "INV-PD-RETIRED (an id that has ended stays ended)", facts });
            }
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pd::StoreEver;

    #[test]
    fn who_lags_may_not_know_yet_and_who_is_ahead_must() {
        let stores =
            |is_retired| StoresEver::from([(StoreId(4), StoreEver { is_retired, ..StoreEver::default() })]);
        let mut seen = Retired::default();
        assert!(seen.saw(LogIndex(8), &stores(true)).is_ok());
        assert!(seen.saw(LogIndex(7), &stores(false)).is_ok());
        assert!(seen.saw(LogIndex(9), &stores(false)).is_err());
        assert_eq!(seen.count(), 1);
    }
}
