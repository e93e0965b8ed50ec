//! How a store joins its cluster, or begins it.
//!
//! Ask PD which cluster it is; take an id and write it down; if the cluster has no region yet, prepare one and offer it.
//! Each step is durable before the next is asked for, and after a crash the store goes on where it was: PD takes the
//! same offer twice.
//!
//! Whoever has an id tells PD at each start how far its disk has come: how many starts PD has taken, and how often its logs were
//! written to. PD refuses a disk that has come less far than its store has told, for such an image of the disk has forgotten votes and
//! acknowledgements. A start is written down once PD has taken it, so one that was refused comes no closer by being tried again.

use crate::ident::{
    IdentError, StoreIdent, read_age, read_ident, read_prepared, record_start, settle_prepared, write_ident,
    write_prepared,
};
use engine::Engine;
use types::{ClusterId, Epoch, KeyRange, Peer, PeerId, Region, RegionId, StoreId};
use wire::pd::{PdError, PdReply, PdRequest, StoreInfo};

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinStep {
    /// Ask PD this, and hand its answer to [`Join::on_answer`].
    Ask(PdRequest),
    /// The store has joined.
    Joined(StoreIdent),
    /// It cannot; the text says why and what to do.
    Refused(String),
}

enum State {
    Cluster,
    StoreId { cluster_id: ClusterId, bootstrapped: bool },
    RegionIds,
    Bootstrap { region: Region },
    Put { starts: u64 },
}

/// A store on its way into its cluster.
pub struct Join<E> {
    engine: E,
    /// How the store introduces itself; its id is filled in here.
    info: StoreInfo,
    ident: Option<StoreIdent>,
    state: State,
}

impl<E: Engine> Join<E> {
    /// Begins. `info.id` is ignored.
    ///
    /// # Errors
    /// [`IdentError`] when the disk cannot be used.
    pub fn new(engine: E, info: StoreInfo) -> Result<(Self, JoinStep), IdentError> {
        let ident = read_ident(&engine)?;
        let join = Self { engine, info, ident, state: State::Cluster };
        Ok((join, JoinStep::Ask(PdRequest::GetCluster)))
    }

    /// Takes PD's answer.
    ///
    /// # Errors
    /// [`IdentError`] when the disk cannot be written: the store must stop.
    pub fn on_answer(&mut self, answer: Result<PdReply, PdError>) -> Result<JoinStep, IdentError> {
        let state = std::mem::replace(&mut self.state, State::Cluster);
        match (state, answer) {
            (State::Cluster, Ok(PdReply::Cluster { cluster_id, bootstrapped })) => match self.ident {
                Some(ident) if ident.cluster_id != cluster_id => Ok(JoinStep::Refused(format!(
                    "the data directory belongs to cluster {}, but PD serves cluster {cluster_id}: give the store the \
                     PD of its own cluster, or an empty data directory",
                    ident.cluster_id
                ))),
                Some(_) => self.bootstrap_or_put(bootstrapped),
                None => {
                    self.state = State::StoreId { cluster_id, bootstrapped };
                    Ok(JoinStep::Ask(PdRequest::AllocateIds { count: 1 }))
                }
            },
            (State::StoreId { cluster_id, bootstrapped }, Ok(PdReply::Ids { first })) => {
                write_ident(&self.engine, cluster_id, StoreId(first))?;
                self.ident = read_ident(&self.engine)?;
                self.bootstrap_or_put(bootstrapped)
            }
            (State::RegionIds, Ok(PdReply::Ids { first })) => {
                let store_id = self.store_id();
                let region = Region {
                    id: RegionId(first),
                    range: KeyRange::full(),
                    epoch: Epoch { conf_ver: 1, version: 1 },
                    peers: vec![Peer::voter(PeerId(first + 1), store_id)],
                };
                write_prepared(&self.engine, &region)?;
                Ok(self.offer(region))
            }
            (State::Bootstrap { region }, Ok(PdReply::Done)) => {
                settle_prepared(&self.engine, &region, true)?;
                self.put()
            }
            (State::Bootstrap { region }, Err(PdError::AlreadyBootstrapped)) => {
                settle_prepared(&self.engine, &region, false)?;
                self.put()
            }
            (State::Put { starts }, Ok(PdReply::Done)) => {
                record_start(&self.engine, starts)?;
                Ok(JoinStep::Joined(self.ident.expect("written before")))
            }
            (_, Err(PdError::StoreRejected { message })) => Ok(JoinStep::Refused(message)),
            (_, answer) => Ok(JoinStep::Refused(format!(
                "PD gave an answer that does not fit the question ({answer:?}): check that PD and this store are of \
                 matching versions"
            ))),
        }
    }

    fn store_id(&self) -> StoreId {
        self.ident.expect("an id is taken first").store_id
    }

    fn bootstrap_or_put(&mut self, bootstrapped: bool) -> Result<JoinStep, IdentError> {
        if let Some(region) = read_prepared(&self.engine)? {
            return Ok(self.offer(region));
        }
        if bootstrapped {
            return self.put();
        }
        self.state = State::RegionIds;
        Ok(JoinStep::Ask(PdRequest::AllocateIds { count: 2 }))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo { id: self.store_id(), ..self.info.clone() }
    }

    fn offer(&mut self, region: Region) -> JoinStep {
        self.state = State::Bootstrap { region: region.clone() };
        JoinStep::Ask(PdRequest::Bootstrap { store: self.info(), region })
    }

    fn put(&mut self) -> Result<JoinStep, IdentError> {
        // What is told must not be lost with the power.
        self.engine.sync()?;
        let age = read_age(&self.engine)?;
        let starts = age.starts + 1;
        self.state = State::Put { starts };
        let store = StoreInfo { starts, log_mark: age.log_mark, ..self.info() };
        Ok(JoinStep::Ask(PdRequest::PutStore { store }))
    }

    /// PD gave no answer to the last question, though it may have taken it. Asks again, which is always safe.
    ///
    /// # Errors
    /// [`IdentError`] when the disk cannot be written: the store must stop.
    pub fn on_silence(&mut self) -> Result<JoinStep, IdentError> {
        Ok(JoinStep::Ask(match &self.state {
            State::Cluster => PdRequest::GetCluster,
            State::StoreId { .. } => PdRequest::AllocateIds { count: 1 },
            State::RegionIds => PdRequest::AllocateIds { count: 2 },
            State::Bootstrap { region } => {
                PdRequest::Bootstrap { store: self.info(), region: region.clone() }
            }
            State::Put { .. } => return self.put(),
        }))
    }
}
