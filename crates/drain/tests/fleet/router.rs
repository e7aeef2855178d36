//! One router: its end of drains, and endpoints with exchanges that run on them.

use super::*;

pub(super) struct Endpoint {
    pub(super) word: Admission,
    pub(super) running: u64,
    /// Exchanges that were told to end and were counted, and have not left yet.
    pub(super) dying: u64,
    pub(super) evicted: u64,
    pub(super) weight: Weight,
    /// Sessions may move away from it.
    pub(super) left: bool,
}

impl Endpoint {
    pub(super) fn new() -> Self {
        Self { word: Admission::new(), running: 0, dying: 0, evicted: 0, weight: Weight::FULL, left: false }
    }
}

pub(super) struct Router {
    pub(super) node: NodeId,
    pub(super) boot: u64,
    pub(super) core: Departures,
    pub(super) fleet: BTreeMap<EndpointKey, Endpoint>,
    pub(super) live: BTreeSet<EndpointKey>,
    pub(super) revision: u64,
    pub(super) connection: Option<u64>,
    pub(super) up: VecDeque<Count>,
    pub(super) down: VecDeque<Directive>,
    /// When the endpoints that a revision removed may be evicted, by the last of their removals.
    pub(super) leaves: BTreeMap<EndpointKey, Time>,
    /// Evictions that have not been checked.
    pub(super) evictions: Vec<(Time, EndpointKey)>,
}

impl Router {
    pub(super) fn say(&mut self, now: Time, event: RouterEvent) {
        self.core.handle(now, event);
        while let Some(effect) = self.core.poll_effect() {
            let answer = match effect {
                RouterEffect::Cordon { endpoint } => {
                    self.fleet[&endpoint].word.cordon();
                    Some(self.counted(endpoint))
                }
                RouterEffect::Count { endpoint } => Some(self.counted(endpoint)),
                RouterEffect::Uncordon { endpoint } => {
                    assert!(self.fleet[&endpoint].word.uncordon(), "asked to open a closed endpoint");
                    None
                }
                RouterEffect::Weigh { endpoint, weight } => {
                    assert!(!weight.is_none(), "that would be a cordon");
                    self.fleet.get_mut(&endpoint).unwrap().weight = weight;
                    None
                }
                RouterEffect::LetGo { endpoint, sessions } => {
                    self.fleet.get_mut(&endpoint).unwrap().left = sessions.is_some();
                    None
                }
                RouterEffect::Evict { endpoint } => {
                    self.evictions.push((now, endpoint.clone()));
                    let endpoint = self.fleet.get_mut(&endpoint).unwrap();
                    endpoint.evicted += endpoint.running;
                    endpoint.dying += std::mem::take(&mut endpoint.running);
                    None
                }
                RouterEffect::TryClose { endpoint } => Some(self.try_close(endpoint)),
                RouterEffect::Report(count) => {
                    self.up.push_back(count);
                    None
                }
            };
            if let Some(answer) = answer {
                self.core.handle(now, answer);
            }
        }
    }

    pub(super) fn try_close(&mut self, endpoint: EndpointKey) -> RouterEvent {
        if !self.fleet[&endpoint].word.try_close() {
            return self.counted(endpoint);
        }
        assert!(!self.live.contains(&endpoint), "closed a live endpoint");
        let closed = self.fleet.remove(&endpoint).unwrap();
        assert_eq!((closed.running, closed.dying), (0, 0), "closed with somebody inside");
        RouterEvent::Closed { endpoint }
    }

    pub(super) fn counted(&self, endpoint: EndpointKey) -> RouterEvent {
        let it = &self.fleet[&endpoint];
        assert_eq!(it.word.in_flight(), it.running + it.dying);
        RouterEvent::Counted {
            endpoint,
            seen: Seen { in_flight: it.word.in_flight(), evicted: it.evicted, oldest: None },
        }
    }

    pub(super) fn enter(&mut self, endpoint: &EndpointKey) {
        if let Some(it) = self.fleet.get_mut(endpoint).filter(|it| it.word.enter()) {
            it.running += 1;
        }
    }

    pub(super) fn leave(&mut self, now: Time, endpoint: &EndpointKey) {
        let Some(it) = self.fleet.get_mut(endpoint).filter(|it| it.running + it.dying > 0) else { return };
        if it.dying > 0 {
            it.dying -= 1
        } else {
            it.running -= 1
        }
        if it.word.leave() {
            self.say(now, RouterEvent::LastLeft { endpoint: endpoint.clone() });
        }
    }

    pub(super) fn swap(&mut self, now: Time, revision: u64, live: &BTreeSet<EndpointKey>) {
        for endpoint in live {
            self.fleet.entry(endpoint.clone()).or_insert_with(Endpoint::new);
        }
        let come: BTreeSet<_> = live.difference(&self.live).cloned().collect();
        let gone = self.live.difference(live).cloned().collect();
        self.say(now, RouterEvent::Coming { endpoints: come.clone() });
        for endpoint in self.live.difference(live) {
            let at_once = policy(endpoint).strategy == DrainStrategy::Immediate;
            self.leaves.insert(endpoint.clone(), now + if at_once { Duration::ZERO } else { TIMEOUT });
        }
        self.live.clone_from(live);
        self.revision = revision;
        let come = come.into_iter().map(|endpoint| (endpoint.clone(), policy(&endpoint))).collect();
        let beside = live.iter().map(|endpoint| endpoint.backend.clone()).collect();
        self.say(now, RouterEvent::Live { revision: Revision(revision), come, gone, beside });
    }
}
