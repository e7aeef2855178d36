//! Addresses of hosts: one lookup at a time for each host, and few lookups at once in total.
//!
//! The system's resolver blocks a thread for as long as it likes, and cannot be stopped. So each caller waits within
//! its own limit for one lookup that all callers share. The result is valid for a short while.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::Tasks;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::upstream::last_words_over;

/// How long addresses are used before they are looked up again.
const GOOD: Duration = Duration::from_secs(5);
/// How long a failed lookup is remembered.
const BAD: Duration = Duration::from_millis(250);
/// Lookups at once, each of which takes a thread: the rest of the threads is for other work.
const QUESTIONS: usize = 32;

type Host = (String, u16);
type Found = Result<Arc<[SocketAddr]>, Arc<str>>;

#[derive(Debug)]
pub(crate) struct Names {
    known: Mutex<BTreeMap<Host, Name>>,
    questions: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Name {
    /// `None` while the lookup is open; then its result, and until when the result is valid.
    found: watch::Receiver<Option<(Found, Instant)>>,
}

impl Name {
    fn is_good(&self, now: Instant) -> bool {
        match &*self.found.borrow() {
            Some((_, until)) => *until > now,
            // A lookup that was given up at the end of its runtime has no sender any more.
            None => self.found.has_changed().is_ok(),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Mutex::default(), questions: Arc::new(Semaphore::new(QUESTIONS)) }
    }
}

impl Names {
    /// The addresses of `host`. If this future is dropped, the lookup goes on for later callers.
    ///
    /// # Errors
    /// As the system's resolver says.
    pub(crate) async fn addresses(
        &self,
        host: &str,
        port: u16,
        tasks: &Tasks,
        on: &Handle,
    ) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(address, port)].into());
        }
        let asked = |host: Host| async move { tokio::net::lookup_host(host).await.map(Iterator::collect) };
        self.addresses_by(host, port, tasks, on, asked).await
    }

    async fn addresses_by<Asking>(
        &self,
        host: &str,
        port: u16,
        tasks: &Tasks,
        on: &Handle,
        ask: impl FnOnce(Host) -> Asking + Send + 'static,
    ) -> io::Result<Arc<[SocketAddr]>>
    where
        Asking: Future<Output = io::Result<Vec<SocketAddr>>> + Send,
    {
        let mut name = self.known_or(host, port, |host, answer| {
            let (questions, shutdown) = (Arc::clone(&self.questions), tasks.shutdown().clone());
            let question = async move {
                let Ok(_place) = questions.acquire().await else { return };
                let found = ask(host).await;
                let good = if found.is_ok() { GOOD } else { BAD };
                let found = found.map(Into::into).map_err(|error| error.to_string().into());
                answer.send_replace(Some((found, Instant::now() + good)));
            };
            tasks.spawn_on(on, "address of a host", async move {
                tokio::select! {
                    () = question => {}
                    // The resolver may take longer than the gateway has.
                    () = last_words_over(&shutdown) => {}
                }
            });
        });
        let found = name.found.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.as_ref().map(|(found, _)| found.clone()));
        found.unwrap_or_else(|| Err("the question was given up".into())).map_err(|reason| io::Error::other(&*reason))
    }

    /// What is known or being looked up; otherwise `ask` starts a lookup.
    fn known_or(&self, host: &str, port: u16, ask: impl FnOnce(Host, watch::Sender<Option<(Found, Instant)>>)) -> Name {
        let now = Instant::now();
        let host = (host.to_owned(), port);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, name| name.is_good(now));
        if let Some(name) = known.get(&host) {
            return name.clone();
        }
        let (answer, found) = watch::channel(None);
        let name = Name { found };
        known.insert(host.clone(), name.clone());
        drop(known);
        ask(host, answer);
        name
    }

    /// None of the addresses was usable: the next caller looks them up again.
    pub(crate) fn forget(&self, host: &str, port: u16) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let host = (host.to_owned(), port);
        if known.get(&host).is_some_and(|name| name.found.borrow().is_some()) {
            known.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use runtime::Shutdown;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Counts the lookups that are open, and all there were.
    #[derive(Default)]
    struct Resolver {
        open: AtomicUsize,
        most: AtomicUsize,
        all: AtomicUsize,
    }

    impl Resolver {
        async fn ask(self: Arc<Self>, takes: Duration) -> io::Result<Vec<SocketAddr>> {
            self.all.fetch_add(1, Ordering::Relaxed);
            let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(open, Ordering::Relaxed);
            sleep(takes).await;
            self.open.fetch_sub(1, Ordering::Relaxed);
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_resolver_has_one_question_for_each_host_whoever_gives_up() {
        let (names, tasks, on) = (Names::default(), Tasks::new(Shutdown::new()), Handle::current());
        let resolver = Arc::<Resolver>::default();
        let asked = |host: &str, takes| {
            let (names, tasks, on, host, resolver) = (&names, &tasks, &on, host.to_owned(), Arc::clone(&resolver));
            async move { names.addresses_by(&host, 80, tasks, on, move |_| resolver.ask(takes)).await }
        };
        let slow = Duration::from_secs(30);
        for _ in 0..20 {
            let one = timeout(Duration::from_secs(1), asked("slow", slow)).await;
            assert!(one.is_err(), "its caller has a limit");
        }
        assert_eq!(resolver.all.load(Ordering::Relaxed), 1);
        assert_eq!(asked("slow", slow).await.unwrap().len(), 1);
        assert_eq!(asked("slow", slow).await.unwrap().len(), 1);
        assert_eq!(resolver.all.load(Ordering::Relaxed), 1, "good for a while");
        names.forget("slow", 80);
        asked("slow", slow).await.unwrap();
        sleep(GOOD * 2).await;
        asked("slow", slow).await.unwrap();
        assert_eq!(resolver.all.load(Ordering::Relaxed), 3);
        let many: Vec<_> = (0..100).map(|host| format!("host-{host}")).collect();
        futures_util::future::join_all(many.iter().map(|host| asked(host, slow))).await;
        assert_eq!(resolver.most.load(Ordering::Relaxed), QUESTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_does_not_answer_does_not_hold_up_the_end_of_the_gateway() {
        let (names, tasks, on) = (Names::default(), Tasks::new(Shutdown::new()), Handle::current());
        let silent = |_| std::future::pending::<io::Result<Vec<SocketAddr>>>();
        let waiting = names.addresses_by("silent", 80, &tasks, &on, silent);
        let (found, joined) = tokio::join!(waiting, tasks.join(Duration::from_secs(5)));
        assert!(joined.is_clean(), "{joined:?}");
        assert_eq!(found.unwrap_err().to_string(), "the question was given up");
        // The last messages to servers at the end need addresses, too.
        let resolver = Arc::<Resolver>::default();
        let quick = names.addresses_by("quick", 80, &tasks, &on, move |_| resolver.ask(Duration::from_millis(100)));
        assert_eq!(quick.await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_address_is_no_question() {
        let (names, tasks) = (Names::default(), Tasks::new(Shutdown::new()));
        for host in ["127.0.0.1", "::1"] {
            assert_eq!(names.addresses(host, 80, &tasks, &Handle::current()).await.unwrap()[0].port(), 80);
        }
        assert!(names.known.lock().unwrap().is_empty());
    }
}
