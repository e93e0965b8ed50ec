//! INV-READ-1, INV-RAFT-17: a lease is counted from the sending of the round that a quorum has answered, and a read is
//! confirmed by one that was sent after it came.

use super::{Broken, require};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{MonoTime, Peer, PeerId, PeerRole, RegionId, Term};

/// Rounds that are remembered; older ones left longer ago than any lease lasts.
const ROUNDS_KEPT: usize = 512;

/// The heartbeat rounds of the regions that one store leads, by the store's own clock.
#[derive(Clone, Default, Debug)]
pub struct LeaseRounds {
    regions: BTreeMap<RegionId, Rounds>,
}

/// Of one leadership.
#[derive(Clone, Default, Debug)]
struct Rounds {
    term: Term,
    leader: PeerId,
    /// As the leader counts them now.
    members: Vec<Peer>,
    /// When the first message of each round left.
    sent: BTreeMap<u64, MonoTime>,
    /// When the latest round left that each peer has answered.
    answered: BTreeMap<PeerId, MonoTime>,
    /// When the latest round left that a quorum has answered: of those who were members then, for whoever replaces them
    /// has heard the leader since, or the change would not be committed.
    earned: Option<MonoTime>,
}

impl Rounds {
    fn count(&mut self, clock: MonoTime) {
        let answered = |peer: PeerId| match peer == self.leader {
            true => Some(clock),
            false => self.answered.get(&peer).copied(),
        };
        let half = |incoming: bool| {
            let votes = |role| match role {
                PeerRole::Voter => true,
                PeerRole::IncomingVoter => incoming,
                PeerRole::DemotingVoter => !incoming,
                PeerRole::Learner => false,
            };
            let voters = self.members.iter().filter(|peer| votes(peer.role));
            let mut sent: Vec<Option<MonoTime>> = voters.map(|peer| answered(peer.id)).collect();
            sent.sort_by(|a, b| b.cmp(a));
            sent.get(sent.len() / 2).copied().flatten()
        };
        let earned = half(true).zip(half(false)).map(|(incoming, outgoing)| incoming.min(outgoing));
        self.earned = self.earned.max(earned);
    }
}

impl LeaseRounds {
    fn rounds(&mut self, region: RegionId, term: Term) -> Option<&mut Rounds> {
        let rounds = self.regions.entry(region).or_default();
        if rounds.term < term {
            *rounds = Rounds { term, ..Rounds::default() };
        }
        (rounds.term == term).then_some(rounds)
    }

    /// A heartbeat of this round leaves.
    pub fn sends(&mut self, region: RegionId, term: Term, round: u64, clock: MonoTime) {
        let Some(rounds) = self.rounds(region, term) else { return };
        rounds.sent.entry(round).or_insert(clock);
        if rounds.sent.len() > ROUNDS_KEPT {
            rounds.sent.pop_first();
        }
    }

    /// The answer of a peer to a round arrives.
    pub fn answers(&mut self, region: RegionId, term: Term, (peer, round): (PeerId, u64), clock: MonoTime) {
        let Some(rounds) = self.rounds(region, term) else { return };
        let Some(sent) = rounds.sent.get(&round).copied() else { return };
        let latest = rounds.answered.entry(peer).or_insert(sent);
        *latest = sent.max(*latest);
        rounds.count(clock);
    }

    /// `leader` leads the region with these members when its clock shows `clock`.
    pub fn leads(
        &mut self,
        region: RegionId,
        term: Term,
        (leader, members): (PeerId, &[Peer]),
        clock: MonoTime,
    ) {
        let Some(rounds) = self.rounds(region, term) else { return };
        rounds.leader = leader;
        if rounds.members != members {
            // What was earned on the way to this moment was earned from those who were members before.
            rounds.count(clock);
            rounds.members = members.to_vec();
        }
        rounds.count(clock);
    }

    /// The region's leader extends its lease until `until`; leases last for `lease`.
    ///
    /// # Errors
    /// When no quorum has answered a round that was sent that late.
    pub fn extends(
        &self,
        region: RegionId,
        term: Term,
        until: MonoTime,
        lease: Duration,
    ) -> Result<(), Broken> {
        let rounds = self.regions.get(&region).filter(|rounds| rounds.term == term);
        let earned = rounds.and_then(|rounds| rounds.earned);
        require(
            earned.is_some_and(|sent| until <= sent + lease),
            "INV-READ-1 (counted from the sending)",
            || format!("region {region} has a lease of {lease:?} until {until:?} in term {term}: {rounds:?}"),
        )
    }
}

impl LeaseRounds {
    /// The region's leader answers, without a lease, a read that had arrived when its clock showed `arrived`.
    ///
    /// # Errors
    /// When no quorum has answered a round that was sent since.
    pub fn confirms(&self, region: RegionId, term: Term, arrived: MonoTime) -> Result<(), Broken> {
        let rounds = self.regions.get(&region).filter(|rounds| rounds.term == term);
        let earned = rounds.and_then(|rounds| rounds.earned);
        require(earned.is_some_and(|sent| sent >= arrived), "INV-RAFT-17 (a round for each read)", || {
            format!("region {region} answers a read of {arrived:?} in term {term}: {rounds:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, P2, R, S1, S2, broken};
    use types::StoreId;

    const NAME: &str = "INV-READ-1 (counted from the sending)";
    const LEASE: Duration = Duration::from_nanos(100);
    const TERM: Term = Term(6);
    const P3: PeerId = PeerId(13);

    fn three() -> [Peer; 3] {
        [Peer::voter(P1, S1), Peer::voter(P2, S2), Peer::voter(P3, StoreId(3))]
    }

    /// A leader with these members, at 5.
    fn led(members: &[Peer]) -> LeaseRounds {
        let mut rounds = LeaseRounds::default();
        rounds.leads(R, TERM, (P1, members), MonoTime(5));
        rounds
    }

    fn reaches(rounds: &LeaseRounds, until: u64) {
        rounds.extends(R, TERM, MonoTime(until), LEASE).unwrap();
        broken(rounds.extends(R, TERM, MonoTime(until + 1), LEASE), NAME);
    }

    #[test]
    fn a_lease_reaches_as_far_as_the_round_that_a_quorum_answered() {
        let mut rounds = led(&three());
        rounds.sends(R, TERM, 1, MonoTime(10));
        // The second message of a round leaves later; that does not count.
        rounds.sends(R, TERM, 1, MonoTime(15));
        broken(rounds.extends(R, TERM, MonoTime(20), LEASE), NAME);
        rounds.answers(R, TERM, (P2, 1), MonoTime(30));
        // Not from the answer, nor from now, nor from a round that nobody has answered.
        reaches(&rounds, 110);
        rounds.sends(R, TERM, 2, MonoTime(40));
        rounds.leads(R, TERM, (P1, &three()), MonoTime(50));
        reaches(&rounds, 110);
        // An answer to another term's round is none.
        rounds.answers(R, Term(5), (P3, 2), MonoTime(50));
        reaches(&rounds, 110);
        rounds.answers(R, TERM, (P3, 2), MonoTime(50));
        reaches(&rounds, 140);
        // The next leadership begins with nothing.
        rounds.sends(R, Term(7), 1, MonoTime(60));
        broken(rounds.extends(R, TERM, MonoTime(70), LEASE), NAME);
        broken(rounds.extends(R, Term(7), MonoTime(70), LEASE), NAME);
    }

    #[test]
    fn a_read_needs_a_round_of_its_own() {
        const READ: &str = "INV-RAFT-17 (a round for each read)";
        let mut rounds = led(&three());
        rounds.sends(R, TERM, 1, MonoTime(10));
        rounds.sends(R, TERM, 2, MonoTime(20));
        broken(rounds.confirms(R, TERM, MonoTime(5)), READ);
        rounds.answers(R, TERM, (P2, 1), MonoTime(30));
        rounds.confirms(R, TERM, MonoTime(10)).unwrap();
        broken(rounds.confirms(R, TERM, MonoTime(11)), READ);
        rounds.answers(R, TERM, (P3, 2), MonoTime(40));
        rounds.confirms(R, TERM, MonoTime(20)).unwrap();
        broken(rounds.confirms(R, Term(7), MonoTime(5)), READ);
    }

    #[test]
    fn members_count_as_they_were_when_they_answered() {
        let alone = [Peer::voter(P1, S1), Peer { role: PeerRole::Learner, ..Peer::voter(P2, S2) }];
        let mut rounds = led(&alone);
        reaches(&rounds, 105);
        // One more that votes and has answered nothing: what was earned stays, and nothing is added from then on.
        rounds.leads(R, TERM, (P1, &three()[..2]), MonoTime(50));
        reaches(&rounds, 150);
        rounds.leads(R, TERM, (P1, &three()[..2]), MonoTime(60));
        reaches(&rounds, 150);
        let incoming = Peer { role: PeerRole::IncomingVoter, ..Peer::voter(P2, S2) };
        let joint = [Peer::voter(P1, S1), incoming];
        broken(led(&joint).extends(R, TERM, MonoTime(10), LEASE), NAME);
    }
}
