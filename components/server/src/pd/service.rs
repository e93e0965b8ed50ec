//! What arrives at a placement driver.

use super::Shared;
use super::turns::Asked;
use crate::BootClock;
use env::Clock as _;
use std::sync::Arc;
use transport::{Identity, Receipt, Request, RequestBody, Service};
use types::StoreId;
use wire::kv::{KvError, KvResponse};
use wire::pd::{PdError, PdResponse};
use wire::store::{SnapshotKey, SnapshotPiece, StoreBatch};

/// Requests that wait for the thread; more are refused.
const WAITING_MAX: usize = 1 << 16;

/// What a placement driver offers to those who connect.
pub(crate) struct PdService {
    pub(crate) shared: Arc<Shared>,
}

impl Service for PdService {
    fn identity(&self) -> Identity {
        Identity { cluster_id: self.shared.published.status.lock().cluster_id, store_id: StoreId::ZERO }
    }

    fn requests(&self, batch: &mut Vec<Request>) {
        let since = BootClock.now();
        let is_full = self.shared.inbox.len() >= WAITING_MAX;
        let mut asked = Vec::with_capacity(batch.len());
        for Request { body, responder, .. } in batch.drain(..) {
            match body {
                RequestBody::Pd(_) if is_full => {
                    responder.respond_pd(&PdResponse::Err(PdError::ServerIsBusy { backoff_ms: 100 }));
                }
                RequestBody::Pd(request) => asked.push(Asked { request, responder, since }),
                RequestBody::Kv(_) => {
                    let message = "this is the placement driver, not a store: check the address".to_owned();
                    responder.respond_kv(&KvResponse::Err(KvError::InvalidRequest { message }));
                }
            }
        }
        self.shared.inbox.push_all(&mut asked);
    }

    fn store_batches(&self, batches: &mut Vec<StoreBatch>) {
        // Not for us; who sent them will notice.
        batches.clear();
    }

    fn snapshot_piece(&self, _piece: SnapshotPiece, receipt: Receipt) {
        receipt.refuse("this is the placement driver, not a store");
    }

    fn snapshot_lost(&self, _key: SnapshotKey) {}
}
