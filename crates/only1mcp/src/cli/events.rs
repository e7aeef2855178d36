//! `watch`: what happens to configurations, routers, servers and drains, as it happens.

mod event;
#[cfg(test)]
pub(super) mod tests;

use std::{io, time::Duration};

use backoff::Backoff;
use futures_util::{
    future::{join_all, select_all},
    stream::{self, BoxStream, StreamExt},
};
use jiff::tz::TimeZone;
use model::EventKind;
use runtime::{Clock, escape::say, exit, fault};
use tonic::Status;
use wire::pb::{
    config::v1::{GetStatusRequest, WatchRequest},
    drain::v1::WatchRequest as WatchDrains,
    health::v1::{ListVerdictsRequest, WatchRequest as WatchVerdicts},
};

use event::{Event, Seen, Service};

use super::{Lines, Output, reader, render};
use crate::{
    admin::Admin,
    args::{AdminArgs, WatchArgs},
    failure::Failure,
};

/// Prints events until it is interrupted or nothing reads them any more. Each service has a connection of its own, which
/// is made again after it was lost, and both are printed. If no service can be reached at first, the command fails.
pub(crate) async fn run(args: &WatchArgs) -> Result<Output, Failure> {
    let mut signals = super::signals()?;
    let admin = args.admin.pinned()?;
    let watch = Watch { args, admin, clock: Clock::start(), zone: TimeZone::system() };
    tokio::select! {
        end = watch.run() => match end {
            End::Unread => Ok(Output::nothing_more()),
            End::Failed(failure) => Err(failure),
        },
        _ = signals.recv() => Ok(Output::nothing_more()),
        () = reader::gone() => Ok(Output::nothing_more()),
    }
}

struct Watch<'a> {
    args: &'a WatchArgs,
    /// Where the gateway was at first: another one is none of this command's.
    admin: AdminArgs,
    clock: Clock,
    zone: TimeZone,
}

enum End {
    /// The reader of our output is gone.
    Unread,
    Failed(Failure),
}

/// A connection to a service.
struct Opened {
    /// What is live, if the service knows it.
    revision: u64,
    events: BoxStream<'static, Result<Event, Failure>>,
}

impl Watch<'_> {
    async fn run(&self) -> End {
        let admin = match Admin::find(&self.admin).await {
            Ok(admin) => admin,
            Err(failure) => return End::Failed(failure),
        };
        let services: Vec<_> = Service::ALL.into_iter().filter(|one| self.args.filter.needs(*one)).collect();
        let opened = join_all(services.iter().map(|service| self.open(*service, &admin))).await;
        if opened.iter().all(Result::is_err) {
            let failure = opened.into_iter().find_map(Result::err);
            return failure.map_or(End::Unread, End::Failed);
        }
        for server in &self.args.filter.servers {
            if !Box::pin(admin.knows(server)).await && !Box::pin(admin.is_configured_off(server)).await {
                // It may come.
                let unknown = Failure::NoServer { server: server.clone() };
                say(&super::in_words(&unknown).within(render::columns(io::stderr())));
            }
        }
        let followed = services.into_iter().zip(opened).map(|(service, opened)| self.follow(service, opened));
        select_all(followed.map(Box::pin)).await.0
    }

    /// Follows one service for as long as its refusal is not final.
    async fn follow(&self, service: Service, mut opened: Result<Opened, Failure>) -> End {
        let (backoff, mut failures, mut lost_at) = (Backoff::default(), 0, None);
        loop {
            let failure = match opened {
                Ok(opened) => {
                    failures = 0;
                    match self.tell(service, opened, lost_at.take()).await {
                        Ok(failure) => failure,
                        Err(_unread) => return End::Unread,
                    }
                }
                Err(failure) => failure,
            };
            // A retry would change nothing.
            if failure.exit_code() != exit::UNAVAILABLE {
                return End::Failed(failure);
            }
            if lost_at.is_none() {
                let now = self.clock.unix_millis();
                lost_at = Some(now);
                let event = Event::connection(now, service, EventKind::Disconnected, 0, fault::chain(&failure));
                if self.print(&event).is_err() {
                    return End::Unread;
                }
            }
            tokio::time::sleep(backoff.ceiling(failures)).await;
            failures += 1;
            opened = match Admin::find(&self.admin).await {
                Ok(admin) => self.open(service, &admin).await,
                Err(failure) => Err(failure),
            };
        }
    }

    /// Prints until the connection is lost, and returns why.
    async fn tell(&self, service: Service, mut opened: Opened, lost_at: Option<u64>) -> io::Result<Failure> {
        let now = self.clock.unix_millis();
        let again = lost_at.map(|lost_at| {
            let away = render::age(Duration::from_millis(now.saturating_sub(lost_at)));
            format!("again after {away}; {}", service.missed())
        });
        self.print(&Event::connection(now, service, EventKind::Connected, opened.revision, again.unwrap_or_default()))?;
        while let Some(event) = opened.events.next().await {
            match event {
                Ok(event) => self.print(&event)?,
                Err(failure) => return Ok(failure),
            }
        }
        Ok(Failure::of(service.as_str(), Status::unavailable("it ended the stream")))
    }

    /// Listens first and then asks for what is so already, so that nothing falls between.
    async fn open(&self, service: Service, admin: &Admin) -> Result<Opened, Failure> {
        let clock = self.clock;
        let (revision, target, events) = match service {
            Service::Config => {
                let mut config = admin.config()?;
                let events = admin.ask(&config.target, config.client.watch(WatchRequest {})).await?;
                let status = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await?;
                let events = events.map(|event| event.map(|event| vec![Event::of_config(event)])).boxed();
                (status.revision, config.target, events)
            }
            Service::Health => {
                let mut health = admin.health()?;
                let changes = admin.ask(&health.target, health.client.watch(WatchVerdicts {})).await?;
                let all = admin.ask(&health.target, health.client.list_verdicts(ListVerdictsRequest {})).await?;
                let now = clock.unix_millis();
                let troubled = all.verdicts.into_iter().filter(|one| !wire::verdict(one.verdict).is_routable());
                let troubled: Vec<_> = troubled.map(|one| Event::of_verdict(now, &one)).collect();
                let changes = changes
                    .map(move |change| change.map(|change| Event::of_verdict_change(clock.unix_millis(), &change)));
                (0, health.target, stream::iter([Ok(troubled)]).chain(changes).boxed())
            }
            Service::Drain => {
                let mut drain = admin.drain()?;
                let changes = admin.ask(&drain.target, drain.client.watch(WatchDrains {})).await?;
                let mut seen = Seen::default();
                let changes = changes.map(move |change| change.map(|change| seen.events(clock.unix_millis(), &change)));
                (0, drain.target, changes.boxed())
            }
        };
        let one_by_one = move |events: Result<Vec<Event>, Status>| {
            let events = match events {
                Ok(events) => events.into_iter().map(Ok).collect(),
                Err(status) => vec![Err(Failure::of(&target, status))],
            };
            stream::iter(events)
        };
        Ok(Opened { revision, events: events.flat_map(one_by_one).boxed() })
    }

    fn print(&self, event: &Event) -> io::Result<()> {
        if !self.args.filter.lets_through(event) {
            return Ok(());
        }
        super::print_one(self.args.admin.output.output, &Lines::of(event.line(&self.zone)), &event.json())
    }
}
