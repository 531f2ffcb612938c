//! An open port of a role: a place among those who shake hands, and a task, for each stream.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    doors::{Capacity, Doors, Share},
    environment::Environment,
};
use crate::transport::{Listener, Stream};

/// Pause after the system refused to accept: it is out of descriptors, or the like. Doubles as long as that lasts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Pause between two warnings of it.
const WARNING_PAUSE: Duration = Duration::from_mins(1);
/// Pause between two times that whoever runs the role is told of it, whatever is logged.
const NOTICE_PAUSE: Duration = Duration::from_hours(1);

/// Room for streams on which nobody has shown a key yet, or that are served to their end as strangers.
pub(super) fn for_strangers(in_all: usize, per_network: usize) -> Capacity {
    let share = Share { in_all, per_network };
    Capacity { all: share, strangers: share }
}

/// What of a capacity fits into so many of every hundred descriptors that the process may have: others are for its files, and for
/// whom it dials.
pub(super) fn fitted(env: &Environment, percent: u64, capacity: Capacity) -> Capacity {
    let most = usize::try_from(env.descriptors.saturating_mul(percent) / 100).unwrap_or(usize::MAX).max(1);
    let fit = |share: Share| Share { in_all: share.in_all.min(most), per_network: share.per_network.min(most) };
    Capacity { all: fit(capacity.all), strangers: fit(capacity.strangers) }
}

/// [`Doors`] for tasks: whoever has to leave is told so.
#[derive(Debug)]
pub(super) struct Doorkeeper(Mutex<Inside>);

#[derive(Debug)]
struct Inside {
    doors: Doors,
    ends: BTreeMap<u64, CancellationToken>,
    entered: u64,
}

/// A place inside, as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    keeper: Arc<Doorkeeper>,
    guest: u64,
    end: CancellationToken,
}

impl Doorkeeper {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inside { doors: Doors::new(capacity), ends: BTreeMap::new(), entered: 0 })))
    }

    /// A place for somebody who has not shown who they are; `None` when there is no room for more strangers.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut inside = self.inside();
        inside.entered += 1;
        let guest = inside.entered;
        if let Some(evicted) = inside.doors.enter(guest, from).ok()? {
            tracing::trace!(target: "coverage", reached = "doors: a stranger gave way");
            inside.send_away(evicted);
        }
        let end = CancellationToken::new();
        inside.ends.insert(guest, end.clone());
        Some(Place { keeper: Arc::clone(self), guest, end })
    }

    /// Sends away whoever would be the next to give way: the process has run out of something.
    fn make_room(&self) {
        let mut inside = self.inside();
        if let Some(evicted) = inside.doors.next_to_leave() {
            inside.doors.leave(evicted);
            inside.send_away(evicted);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn send_away(&mut self, guest: u64) {
        if let Some(end) = self.ends.remove(&guest) {
            end.cancel();
        }
    }
}

impl Place {
    /// Whoever has it has shown who they are, or is a stranger again.
    pub(super) fn recognize(&self, is_known: bool) {
        self.keeper.inside().doors.recognize(self.guest, is_known);
    }

    /// Cancelled when the place is needed for another. May be cancelled for any other reason.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.end
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.keeper.inside();
        inside.doors.leave(self.guest);
        inside.ends.remove(&self.guest);
    }
}

/// Accepts until the role stops and gives each stream to a task of `serve`'s, with a place at `keeper`'s that it keeps as long as it
/// needs it. The tasks are told to stop by nobody but themselves, and by the end of their place. `strangers` are those who may be
/// sent away, beside those at this keeper's, when the system gives no more descriptors; `tell` hears of that, now and then.
pub(super) async fn accept<F>(
    env: &Environment,
    listener: Box<dyn Listener>,
    keeper: Arc<Doorkeeper>,
    strangers: Option<Arc<Doorkeeper>>,
    tell: impl Fn(&io::Error),
    serve: impl Fn(Box<dyn Stream>, SocketAddr, Place) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut trouble = Trouble::default();
    while let Some(accepted) = env.shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                trouble.is_over();
                let Some(place) = keeper.enter(from.ip()) else { continue };
                env.spawn(serve(stream, from, place).instrument(tracing::info_span!("accepted", %from)));
            }
            Err(error) => {
                [Some(&keeper), strangers.as_ref()].into_iter().flatten().for_each(|keeper| keeper.make_room());
                let now = Instant::now();
                if trouble.is_news(now) {
                    tell(&error);
                }
                let pause = trouble.met(now, &error);
                let _ = env.shutdown.run_until_cancelled(sleep(pause)).await;
            }
        }
    }
}

/// The system refuses to accept.
#[derive(Debug, Default)]
struct Trouble {
    pause: Duration,
    warned: Option<Instant>,
    told: Option<Instant>,
}

impl Trouble {
    /// It did once more: how long to pause. Says so now and then.
    fn met(&mut self, now: Instant, error: &io::Error) -> Duration {
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        if is_due(&mut self.warned, now, WARNING_PAUSE) {
            tracing::warn!(
                %error,
                "cannot accept; strangers are sent away to make room. If it is short of descriptors, raise the limit (ulimit -n)"
            );
        }
        self.pause
    }

    /// Whether to tell of it now.
    fn is_news(&mut self, now: Instant) -> bool {
        is_due(&mut self.told, now, NOTICE_PAUSE)
    }

    fn is_over(&mut self) {
        self.pause = Duration::ZERO;
    }
}

/// Whether it is `pause` since the last time, which is now then.
pub(super) fn is_due(last: &mut Option<Instant>, now: Instant, pause: Duration) -> bool {
    let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
    if is_due {
        *last = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_has_to_leave_is_told_and_who_leaves_makes_room() {
        let keeper = Doorkeeper::new(for_strangers(3, 2));
        let places: Vec<Place> = [1, 1, 1].iter().filter_map(|last| keeper.enter(address(*last))).collect();
        let told: Vec<bool> = places.iter().map(|place| place.end().is_cancelled()).collect();
        assert_eq!(told, [true, false, false]);
        drop(places);
        let place = keeper.enter(address(1)).unwrap();
        place.recognize(true);
        let _others: Vec<Place> = [2, 3, 4, 5].iter().filter_map(|last| keeper.enter(address(*last))).collect();
        assert!(!place.end().is_cancelled(), "the known stay");
    }

    #[test]
    fn a_keeper_sends_strangers_away_when_the_process_is_out_of_something() {
        let keeper = Doorkeeper::new(for_strangers(10, 10));
        let (known, stranger) = (keeper.enter(address(1)).unwrap(), keeper.enter(address(2)).unwrap());
        known.recognize(true);
        (0..3).for_each(|_| keeper.make_room());
        assert_eq!((known.end().is_cancelled(), stranger.end().is_cancelled()), (false, true));
    }

    #[test]
    fn pauses_grow_and_warnings_are_seldom() {
        let (mut trouble, now, error) = (Trouble::default(), Instant::now(), io::Error::from_raw_os_error(24));
        let pauses: Vec<u128> = (0..9).map(|_| trouble.met(now, &error).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(trouble.warned, Some(now));
        trouble.is_over();
        let later = now + WARNING_PAUSE / 2;
        assert_eq!((trouble.met(later, &error), trouble.warned), (PAUSE_MIN, Some(now)));
        assert_eq!(
            (trouble.met(now + WARNING_PAUSE, &error), trouble.warned),
            (PAUSE_MIN * 2, Some(now + WARNING_PAUSE))
        );
    }

    #[test]
    fn people_are_told_once() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        let told = [now, now, now + WARNING_PAUSE, now + NOTICE_PAUSE].map(|at| trouble.is_news(at));
        assert_eq!(told, [true, false, false, true]);
    }
}
