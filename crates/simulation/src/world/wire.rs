//! Streams as gRPC has them: in order, without duplicates. When a stream breaks, the last messages under way are lost,
//! at each side other ones, and the two sides notice it at different times.

use std::collections::VecDeque;

use model::Time;
use rollout::{Difference, Directive, Report, Sender};

use crate::fault::Fault;
use crate::world::{Happening, Life, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireId(pub(crate) u64);

/// The process a router has dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    ConfigManager(Life),
    Coordinator(Life),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the router.
    Up,
    Down,
}

/// A directive on its way. Its content, if it has one, is put together where it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) sender: Sender,
    pub(crate) directive: Directive,
    pub(crate) difference: Option<Difference>,
}

#[derive(Debug, Clone)]
pub(crate) enum Message {
    Report(Report),
    Directive(Box<Sent>),
    Count(drain::Count),
    Drain(drain::Directive),
}

#[derive(Debug, Default)]
struct Half {
    /// Nothing instead of a message: the end of the stream.
    under_way: VecDeque<(Time, Option<Message>)>,
    last: Time,
    /// The last messages delivered, which a middlebox might repeat on the next stream.
    delivered: VecDeque<Message>,
    over: bool,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) router: usize,
    pub(crate) router_life: Life,
    pub(crate) peer: Peer,
    up: Half,
    down: Half,
    broken: bool,
}

impl Wire {
    fn half(&mut self, way: Way) -> &mut Half {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

impl World {
    pub(crate) fn dial(&mut self, router: usize, router_life: Life, peer: Peer) -> WireId {
        let id = WireId(self.serial());
        let wire = Wire { router, router_life, peer, up: Half::default(), down: Half::default(), broken: false };
        self.wires.insert(id, wire);
        id
    }

    pub(crate) fn send(&mut self, id: WireId, way: Way, message: Message) {
        let delay = if self.chaos && self.random.permille(12) {
            self.faults.count(Fault::MessageDelayed);
            self.random.millis(30, 3000)
        } else {
            self.random.micros(50, 1500)
        };
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.broken) else { return };
        let half = wire.half(way);
        let at = half.last.max(self.now + delay);
        half.last = at;
        half.under_way.push_back((at, Some(message)));
        self.at(at, Happening::Pump { wire: id, way });
    }

    pub(crate) fn break_wire(&mut self, id: WireId) {
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.broken) else { return };
        wire.broken = true;
        for way in [Way::Up, Way::Down] {
            let noticed = self.random.millis(0, 1500);
            let Some(wire) = self.wires.get_mut(&id) else { return };
            let half = wire.half(way);
            let kept = usize::try_from(self.random.below(half.under_way.len() as u64 + 1)).unwrap_or(0);
            for _ in half.under_way.drain(kept..) {
                self.faults.count(Fault::MessageLost);
            }
            let last = half.under_way.back().map_or(self.now, |(at, _)| *at);
            let at = last.max(self.now + noticed);
            half.under_way.push_back((at, None));
            self.at(at, Happening::Pump { wire: id, way });
        }
    }

    /// Breaks all streams of a process that has ended.
    pub(crate) fn break_wires_of(&mut self, life: Life) {
        let of = |wire: &Wire| match wire.peer {
            Peer::ConfigManager(peer) | Peer::Coordinator(peer) => peer == life || wire.router_life == life,
        };
        let ids: Vec<_> = self.wires.iter().filter(|(_, wire)| of(wire)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_wire(id);
        }
    }

    /// A middlebox has kept the end of the old stream and repeats it on the new one.
    pub(crate) fn replay(&mut self, old: WireId, new: WireId) {
        for way in [Way::Up, Way::Down] {
            let Some(wire) = self.wires.get_mut(&old) else { return };
            let again: Vec<_> = wire.half(way).delivered.iter().cloned().collect();
            for message in again {
                // Messages of a lost log are not heard beside the new log.
                if matches!(&message, Message::Directive(sent) if sent.sender.log != self.log.id) {
                    continue;
                }
                self.faults.count(Fault::MessageDuplicated);
                self.send(new, way, message);
            }
        }
    }

    pub(crate) fn pump(&mut self, id: WireId, way: Way) {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let half = wire.half(way);
        if half.over || half.under_way.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        match half.under_way.pop_front() {
            Some((_, Some(message))) => {
                let hello = matches!(
                    message,
                    Message::Report(Report::Hello { .. }) | Message::Count(drain::Count::Hello { .. })
                );
                if !hello {
                    half.delivered.push_back(message.clone());
                    if half.delivered.len() > 4 {
                        half.delivered.pop_front();
                    }
                }
                self.deliver(id, way, message);
            }
            Some((_, None)) => {
                half.over = true;
                self.ended(id, way);
            }
            None => {}
        }
    }

    fn deliver(&mut self, id: WireId, way: Way, message: Message) {
        let Some(wire) = self.wires.get(&id) else { return };
        let (router, router_life, peer) = (wire.router, wire.router_life, wire.peer);
        self.note(|| format!("{id:?} {way:?} r{router} {message:?}"));
        match (way, peer, message) {
            (Way::Up, Peer::ConfigManager(life), Message::Report(report)) => {
                self.manager_hears(life, router, id, report);
            }
            (Way::Up, Peer::Coordinator(life), Message::Count(count)) => {
                self.coordinator_hears(life, router, id, count)
            }
            (Way::Down, Peer::ConfigManager(_), Message::Directive(sent)) => {
                self.router_obeys(router, router_life, id, *sent);
            }
            (Way::Down, Peer::Coordinator(_), Message::Drain(directive)) => {
                self.router_drains(router, router_life, id, directive);
            }
            (Way::Up | Way::Down, Peer::ConfigManager(_) | Peer::Coordinator(_), _) => {}
        }
    }

    fn ended(&mut self, id: WireId, way: Way) {
        let Some(wire) = self.wires.get(&id) else { return };
        let (router, router_life, peer) = (wire.router, wire.router_life, wire.peer);
        let gone = wire.up.over && wire.down.over;
        match (way, peer) {
            (Way::Up, Peer::ConfigManager(life)) => self.manager_loses(life, router, id),
            (Way::Up, Peer::Coordinator(life)) => self.coordinator_loses(life, id),
            (Way::Down, Peer::ConfigManager(_)) => self.router_detached(router, router_life, id),
            (Way::Down, Peer::Coordinator(_)) => self.router_undrained(router, router_life, id),
        }
        if gone {
            // Only streams that could be repeated are kept, and not for long.
            let old: Vec<_> = self.wires.iter().filter(|(_, wire)| wire.up.over && wire.down.over).collect();
            if old.len() > 12 {
                let first = *old[0].0;
                self.wires.remove(&first);
            }
        }
    }
}
