//! The least time in which all can have the file.

use p2p::protocol::piece::PIECE_SIZE;

use super::{Case, Conduct, Peer, Twist};

/// The larger of two bounds, in seconds: all that is to be delivered over all that can be sent, and what the seeder's uplink takes
/// for one copy (with whole pieces and equal uplinks, the last of them still has to spread: `1 + floor(log2 N)/M` times, Mundinger,
/// Weber, Weiss: Optimal scheduling of peer-to-peer file dissemination, 2008).
pub(super) fn seconds(case: &Case, peers: &[Peer]) -> f64 {
    let file = f64::from(case.pieces) * f64::from(PIECE_SIZE);
    let tail = f64::from(case.leechers.max(1).ilog2()) / f64::from(case.pieces);
    let tail = if case.twist == Twist::Mixed { 0.0 } else { tail };
    let one_copy_s = file / peers[0].up * (1.0 + tail);
    let honest = peers.iter().skip(1).filter(|peer| peer.conduct == Conduct::Honest).count();
    let wanted = file * f64::from(u32::try_from(honest).unwrap_or(u32::MAX));
    one_copy_s.max(fluid_s(peers, wanted))
}

/// When all uplinks together can have sent `wanted` bytes, each from when its peer comes, but for the time it is away.
fn fluid_s(peers: &[Peer], wanted: f64) -> f64 {
    let useful = || peers.iter().filter(|peer| peer.conduct == Conduct::Honest);
    let mut turns: Vec<(f64, f64)> = useful().map(|peer| (peer.comes_s, peer.up)).collect();
    for peer in useful() {
        turns.extend(peer.away_s.into_iter().flat_map(|(leaves, returns)| [(leaves, -peer.up), (returns, peer.up)]));
    }
    turns.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut now, mut rate, mut left) = (0.0, 0.0, wanted);
    for (at, change) in turns {
        if left <= rate * (at - now) {
            break;
        }
        left -= rate * (at - now);
        (now, rate) = (at, rate + change);
    }
    now + left / rate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::{Policy, UPLINK};

    const FILE_S: f64 = 128.0 * 0.5;

    fn bound(leechers: u32, twist: Twist, change: impl Fn(&mut Vec<Peer>)) -> f64 {
        let case = Case { leechers, pieces: 128, twist, policy: Policy::Ours };
        let one = Peer { up: UPLINK, conduct: Conduct::Honest, comes_s: 0.0, away_s: None };
        let mut peers = vec![one; leechers as usize + 1];
        change(&mut peers);
        seconds(&case, &peers) / FILE_S
    }

    #[test]
    fn whole_pieces_and_equal_uplinks() {
        assert!((bound(1, Twist::None, |_| ()) - 1.0).abs() < 1e-9);
        assert!((bound(16, Twist::None, |_| ()) - (1.0 + 4.0 / 128.0)).abs() < 1e-9);
    }

    #[test]
    fn uplinks_that_are_missing_count() {
        let slow = bound(4, Twist::Mixed, |peers| peers.iter_mut().skip(1).for_each(|peer| peer.up /= 2.0));
        assert!((slow - 4.0 / 3.0).abs() < 1e-9);
        let late = bound(1, Twist::Late, |peers| peers[0].up = UPLINK / 2.0);
        assert!((late - 2.0).abs() < 1e-9);
        let away = bound(2, Twist::Churn, |peers| {
            peers[1].conduct = Conduct::Stalls;
            peers[0].away_s = Some((FILE_S / 4.0, FILE_S * 3.0 / 4.0));
            peers[2].up = 1.0;
        });
        assert!((away - 1.5).abs() < 1e-3, "{away}");
    }
}
