//! Every key of the file but what a server is and how it is reached, with its place in a policy and its range.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::{BackendPolicy, DeadServers, DrainStrategy, Naming, Policy, ReplaceMode};
use serde_json::{Value, json};

use crate::key::{Key, Kind};
use crate::layer::Table;
use crate::server;
use crate::values::Unit;

const MIB: u64 = 1 << 20;
const DAY: u64 = 86_400;
pub(crate) const CONNECT: RangeInclusive<Duration> = ms(10)..=secs(3600);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn schema() -> Value {
    json!({ "type": "string" })
}

fn version() -> Value {
    // Without quotes `1.0` is a number, and means the same.
    json!({ "enum": ["1.0", 1.0], "default": "1.0" })
}

fn servers() -> Value {
    json!({ "type": ["array", "null"], "maxItems": server::MAX_ENTRIES, "items": crate::schema::server() })
}

/// The keys of the gateway.
pub(crate) static POLICY: Table<Policy> = Table {
    keys: &[
        Key::new("$schema", Kind::Elsewhere(schema), "where editors find what may stand here; it changes nothing"),
        Key::new("version", Kind::Elsewhere(version), "version of this format"),
        Key::new(
            "servers",
            Kind::Elsewhere(servers),
            "the servers; their order decides who keeps a name when two have it",
        ),
        Key::new(
            "naming",
            Kind::Choice(
                &[("prefix", |p| p.naming = Naming::Prefix), ("none", |p| p.naming = Naming::None)],
                &["shared"],
            ),
            "`prefix` shows tool `read` of server `files` as `files__read`; `none` shows names as they are, and two servers with the same name are refused",
        ),
        Key::new(
            "instructions",
            Kind::Instructions(|p| &mut p.instructions),
            "what clients are told, when they begin a session, about how to use what they see. `merge`: what the servers say of themselves, each under its name, equal texts once, names of tools as clients see them, at most 16 KiB in all; `off`: nothing; any other text, of several words: that text",
        ),
        Key::new(
            "tools_of_dead_servers",
            Kind::Choice(
                &[
                    ("keep", |p| p.dead = DeadServers::Keep),
                    ("hide", |p| p.dead = DeadServers::Hide),
                    ("hold", |p| p.dead = DeadServers::Hold),
                ],
                &[],
            ),
            "what clients see of a server that is `unhealthy` or `failing` with all its endpoints. `keep`: its tools stay listed, and while it is down calls fail at once, with `data.retryAfterMs`; `hide`: its tools are not listed until it is back, and clients are told of both; `hold`: as `keep`, but calls wait until it is up again, for `limits.hold` at most",
        ),
        Key::new("allow_empty", Kind::Flag(|p| &mut p.allow_empty), "whether there may be no server at all"),
        Key::new(
            "hot_reload.enabled",
            Kind::Flag(|p| &mut p.source.enabled),
            "whether a change of the file is applied by itself; if not, `only1mcp reload` does it",
        ),
        // Events, with polling beside them: what the watcher always does.
        Key::new(
            "hot_reload.watcher.method",
            Kind::Choice(&[("auto", |_| {})], &["polling", "notify"]),
            "events of the file system, with polling beside them",
        ),
        Key::new(
            "hot_reload.watcher.poll_interval_ms",
            Kind::Counted(Unit::Milliseconds, |p| &mut p.source.poll_interval, 10..=3_600_000),
            "how often the file is looked at even if no event came",
        ),
        Key::new(
            "hot_reload.watcher.debounce_ms",
            Kind::Counted(Unit::Milliseconds, |p| &mut p.source.debounce, 0..=10_000),
            "how long a file written in place must hold still before it is read; one that is moved into its place is read at once",
        ),
        Key::new(
            "hot_reload.validation.timeout_seconds",
            Kind::Counted(Unit::Seconds, |p| &mut p.validation.timeout, 1..=3600),
            "how long routers may take to try what changed",
        ),
        Key::new(
            "hot_reload.two_phase_commit.enabled",
            Kind::Flag(|p| &mut p.validation.two_phase_commit),
            "whether all routers agree to a change before any applies it",
        ),
        Key::new(
            "drain.strategy",
            Kind::Choice(
                &[
                    ("immediate", |p| p.drain.strategy = DrainStrategy::Immediate),
                    ("graceful", |p| p.drain.strategy = DrainStrategy::Graceful),
                    ("progressive", |p| p.drain.strategy = DrainStrategy::Progressive),
                ],
                &[],
            ),
            "`immediate`: running calls are ended at once, with an error; `graceful`: they finish until a deadline; `progressive`: where another endpoint of the server takes over, new calls move to it step by step, and then as `graceful`; where none does, as `graceful`",
        ),
        Key::new(
            "drain.graceful.timeout_seconds",
            Kind::Counted(Unit::Seconds, |p| &mut p.drain.timeout, 0..=DAY),
            "that deadline, after which what still runs is ended with an error; it counts from when the endpoint takes no new calls",
        ),
        Key::new(
            "drain.progressive.rate",
            Kind::Count(|p| &mut p.drain.progressive.rate, 1..=1_000_000),
            "sessions of clients that may move to another endpoint with their next call, per second; the others follow when the endpoint takes no new calls",
        ),
        Key::new(
            "drain.progressive.weight_reduction",
            Kind::Count(|p| &mut p.drain.progressive.weight_reduction, 1..=100),
            "percent of its whole share of new calls that the endpoint loses with each step: 10 gives 100, 90, 80 … 0",
        ),
        Key::new(
            "drain.progressive.interval_seconds",
            Kind::Counted(Unit::Seconds, |p| &mut p.drain.progressive.interval, 1..=3600),
            "the time between two steps",
        ),
        Key::new(
            "drain.progressive.minimum_health_ratio",
            Kind::Permille(|p| &mut p.drain.progressive.minimum_health_permille),
            "the least share of the endpoints that take over that must be well for the share of the leaving one to fall, with at most three decimals. With less it has its whole share again and keeps its sessions, and falls from the beginning when they are well; that delays the end by `drain.graceful.timeout_seconds` at most. 0: it falls whatever becomes of them",
        ),
        Key::new(
            "health.minimum_health_ratio",
            Kind::Permille(|p| &mut p.validation.minimum_health_permille),
            "the least share of the *changed* servers that must come up for a change to be applied, with at most three decimals; exactly this share is enough",
        ),
        Key::new(
            "health.interval",
            Kind::Duration(|p| &mut p.health.interval, ms(10)..=secs(DAY)),
            "how often an endpoint is probed",
        ),
        Key::new(
            "health.jitter",
            Kind::Permille(|p| &mut p.health.jitter_permille),
            "how far a probe may be from its time, to either side, as a share of `health.interval` with at most three decimals, so that endpoints and routers do not march in step",
        ),
        Key::new(
            "health.timeout",
            Kind::Duration(|p| &mut p.health.timeout, ms(10)..=secs(3600)),
            "how long a probe may take",
        ),
        Key::new(
            "health.unhealthy_threshold",
            Kind::Count(|p| &mut p.health.unhealthy_threshold, 1..=1000),
            "failures in a row that make an endpoint unhealthy",
        ),
        Key::new(
            "health.healthy_threshold",
            Kind::Count(|p| &mut p.health.healthy_threshold, 1..=1000),
            "successes in a row that make it healthy again",
        ),
        Key::new(
            "health.ejection.failures",
            Kind::Count(|p| &mut p.ejection.failures, 1..=1000),
            "of a server with several endpoints (`urls`): failed calls in a row, or in the last 10 s if they are at least half of its calls, after which an endpoint is ejected: it gets no calls, as long as the others fail at most half as often and one of them may be chosen",
        ),
        Key::new(
            "health.ejection.time",
            Kind::Duration(|p| &mut p.ejection.time, ms(10)..=secs(DAY)),
            "for how long; then it is on trial, with one call at a time: three answers let it come back, a failure ejects it for twice as long as before",
        ),
        Key::new(
            "health.ejection.time_max",
            Kind::Duration(|p| &mut p.ejection.time_max, ms(10)..=secs(DAY)),
            "the longest of these times (`health.ejection.time`, if that is longer)",
        ),
        Key::new(
            "health.ejection.share_max",
            Kind::Permille(|p| &mut p.ejection.share_max_permille),
            "the largest share of a server's endpoints that may be ejected or on trial at once, with at most three decimals; one always may, the last one never; 0: none is ever ejected",
        ),
        Key::new(
            "health.panic_threshold",
            Kind::Permille(|p| &mut p.ejection.panic_permille),
            "if fewer of a server's endpoints than this share are well, those that are ejected get calls all the same, with at most three decimals; whatever it is, calls go anywhere when none is well",
        ),
        Key::new(
            "health.slow_start",
            Kind::Duration(|p| &mut p.ejection.slow_start, ms(0)..=secs(3600)),
            "of a server with several endpoints: how long the share of one that comes back (from an ejection, an unhealthy verdict or a loss) takes to grow from a tenth to the whole; 0ms: it has it at once",
        ),
        Key::inherited(
            "rollback.history.max_snapshots",
            Kind::Count(|p| p.history.max_snapshots.get_or_insert_default(), 1..=100_000),
            "contents of past revisions that are kept; the last good one is kept always. A content has a copy of the servers and of what each owner wrote: 100 contents of 2,000 servers take about 80 MB of disk",
            "`100`",
        ),
        Key::new(
            "rollback.history.retention_days",
            Kind::Counted(Unit::Days, |p| &mut p.history.retention, 1..=36_500),
            "for how long they are kept",
        ),
        Key::new(
            "limits.request_bytes",
            Kind::Bytes(|p| &mut p.limits.request_bytes, 1024..=1024 * MIB),
            "largest request of a client",
        ),
        Key::new(
            "limits.response_bytes",
            Kind::Bytes(|p| &mut p.limits.response_bytes, 1024..=4096 * MIB),
            "largest answer of a server",
        ),
        Key::new(
            "limits.in_flight_per_endpoint",
            Kind::Count(|p| &mut p.limits.in_flight_per_endpoint, 1..=1_000_000),
            "calls at the same time on one endpoint; one more takes the place of the oldest whose client is gone or has closed its side of the connection, or is refused",
        ),
        Key::new(
            "limits.idle",
            Kind::Duration(|p| &mut p.limits.idle, ms(10)..=secs(30 * DAY)),
            "how long a call may take without any sign of life from its server",
        ),
        Key::new(
            "limits.total",
            Kind::Duration(|p| &mut p.limits.total, ms(10)..=secs(30 * DAY)),
            "how long a call may take altogether",
        ),
        Key::new(
            "limits.connect",
            Kind::Duration(|p| &mut p.limits.connect, CONNECT),
            "how long connecting, initialising and listing an endpoint may take",
        ),
        Key::inherited(
            "limits.hold",
            Kind::Duration(|p| p.limits.hold.get_or_insert_default(), ms(10)..=secs(3600)),
            "how long a call waits for a server that is down, with `tools_of_dead_servers: hold`",
            "30s",
        ),
        Key::new(
            "limits.write",
            Kind::Duration(|p| &mut p.limits.write, ms(10)..=secs(3600)),
            "how long a client may go without reading anything of what is sent to it; then its connection is closed (sooner where others need what it holds: `limits.buffered_bytes`, `limits.connections`)",
        ),
        Key::new(
            "limits.connections",
            Kind::Count(|p| &mut p.limits.connections, 1..=1_000_000),
            "connections of clients at the same time on one router, as far as it has file descriptors for them; one more takes the place of the one that was unused for longest, else of one whose request has been coming for more than 1 s (one that only listens comes last), or is answered 503; while that happens, one that reads what it is sent 5 s behind 512 KiB a second loses its place",
        ),
        Key::new(
            "limits.buffered_bytes",
            Kind::Bytes(|p| &mut p.limits.buffered_bytes, MIB..=1024 * 1024 * MIB),
            "requests and answers that one router holds in memory for its clients. Requests get half of it at most: beyond that, bodies that are not complete after 1 s make way, oldest first (408), and what finds no room is answered 503; of complete bodies of more than 64 KiB, and of those of more than 4 KiB that wait for a server to come up, the calls to one server keep at most as much as they leave free for other servers, and those of one session at most half as much. When answers hold an eighth of it, clients that do not read lose their connections, longest first; answers of more than 1 MiB share an eighth of it until they are complete (those of HTTP servers, until they are taken): they wait for room before they are read, servers take turns, a server that has a share gets more only as long as it leaves as much free, an answer whose length is not announced grows, one at a time goes on beyond that room (to half of it all, or 2 MiB), and one that comes too slowly is lost while others wait (it may fall 5 s behind 512 KiB a second); as slow a client loses its connection while others wait for the room of what it has not read, and when answers hold more than half of what requests leave; what one server has begun and not ended of smaller ones holds an eighth at most: an answer that is half there is read on when there is room, or lost after `limits.write`, as is a line of a stdio server of any length; of one that no call waits for, no more than 1 MiB is kept",
        ),
        Key::new(
            "limits.session_idle",
            Kind::Duration(|p| &mut p.limits.session_idle, secs(1)..=secs(365 * DAY)),
            "how long a client's session lives without a request",
        ),
        Key::new(
            "limits.sessions",
            Kind::Count(|p| &mut p.limits.sessions, 100..=10_000_000),
            "sessions that one router remembers; beyond that it forgets the idlest first",
        ),
    ],
    sections: &[
        ("hot_reload", "how the configuration file is followed, and how a change of it is tried"),
        ("hot_reload.watcher", "when the file is read"),
        ("hot_reload.validation", "how a change is tried before it is applied"),
        ("hot_reload.two_phase_commit", "how routers agree to a change"),
        ("health", "when endpoints are probed, and what a result means"),
        ("health.ejection", "when calls pass over one of several endpoints of a server"),
        ("drain", "how an endpoint that is removed or changed comes to its end"),
        ("drain.graceful", "the strategy `graceful`"),
        ("drain.progressive", "the strategy `progressive`"),
        ("rollback", "going back to an earlier revision"),
        ("rollback.history", "how much of the past is kept"),
        ("limits", "what one client, one call or one server may cost"),
    ],
    not_yet: &[
        "hot_reload.watcher.additional_paths",
        "hot_reload.validation.level",
        "hot_reload.validation.checks",
        "hot_reload.validation.parallel",
        "hot_reload.two_phase_commit.require_approval",
        "hot_reload.two_phase_commit.approval_timeout_seconds",
        "drain.graceful.check_interval_ms",
        "drain.tracking",
        "rollback.auto_enabled",
        "rollback.triggers",
        "rollback.history.compress",
        "rollback.behavior",
        "synchronization",
        "performance",
        "deployment",
    ],
};

/// The keys of `servers[]`. Those made by [`Key::inherited`] stand in place of a key of the gateway.
pub(crate) static OF_SERVER: Table<BackendPolicy> = Table {
    keys: &[
        Key::new(
            "enabled",
            Kind::Flag(|p| &mut p.enabled),
            "false: the server stays in the configuration and is checked, but nothing of it is started or connected, and clients see nothing of it; `status` shows it as disabled in the configuration",
        ),
        Key::inherited(
            "description",
            Kind::Text(|p| &mut p.description, 1024),
            "what it is for, in your words, for `status` and the admin API; clients do not see it",
            "none",
        ),
        Key::inherited(
            "labels",
            Kind::Labels(|p| &mut p.labels),
            "names and values for your own tools: `status --output json` and the admin API show them; at most 32, of which each value has at most 256 letters",
            "none",
        ),
        Key::new(
            "critical",
            Kind::Flag(|p| &mut p.critical),
            "whether a change is refused if this server is changed by it and does not come up",
        ),
        Key::new(
            "replace",
            Kind::Choice(
                &[
                    ("beside", |p| p.replace = ReplaceMode::Beside),
                    ("stop_first", |p| p.replace = ReplaceMode::StopFirst),
                ],
                &[],
            ),
            "when it is changed: start the new one beside the old, or, for programs that cannot run twice, end the old one first",
        ),
        Key::inherited(
            "connect",
            Kind::Duration(|p| p.connect.get_or_insert_default(), CONNECT),
            "how long connecting, initialising and listing an endpoint of it may take, for programs that start slowly",
            "`limits.connect`",
        ),
        Key::inherited(
            "tools_when_dead",
            Kind::Choice(
                &[
                    ("keep", |p| p.dead = Some(DeadServers::Keep)),
                    ("hide", |p| p.dead = Some(DeadServers::Hide)),
                    ("hold", |p| p.dead = Some(DeadServers::Hold)),
                ],
                &[],
            ),
            "what clients see of it while it is `unhealthy` or `failing` with all its endpoints",
            "`tools_of_dead_servers`",
        ),
        Key::inherited(
            "health.expected_tools",
            Kind::Names(|p| &mut p.health.expected_tools, 64),
            "tools that it must list, by its own names, at most 64: a probe asks for its list beside the ping, and one that lacks any of them has failed",
            "none",
        ),
        Key::inherited(
            "health.path",
            Kind::Path(|p| &mut p.health.path),
            "of an `http` server: a path of its address, in place of that of the URL, that a probe gets (`GET`, with the headers of the transport) beside the ping; a status other than 2xx is a failure",
            "none",
        ),
        Key::new(
            "restart_unhealthy",
            Kind::Flag(|p| &mut p.restart_unhealthy),
            "of a `stdio` server: when it is judged unhealthy (it hangs), its process is ended, which fails its calls, and started again; at once the first time, then after 10 s, 20 s … up to 5 minutes, until it has lasted 10 minutes",
        ),
        Key::inherited(
            "drain.strategy",
            Kind::Choice(
                &[
                    ("immediate", |p| p.drain.strategy = Some(DrainStrategy::Immediate)),
                    ("graceful", |p| p.drain.strategy = Some(DrainStrategy::Graceful)),
                    ("progressive", |p| p.drain.strategy = Some(DrainStrategy::Progressive)),
                ],
                &[],
            ),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
        Key::inherited(
            "drain.graceful.timeout_seconds",
            Kind::Counted(Unit::Seconds, |p| p.drain.timeout.get_or_insert_default(), 0..=DAY),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
        Key::inherited(
            "drain.progressive.rate",
            Kind::Count(|p| p.drain.rate.get_or_insert_default(), 1..=1_000_000),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
        Key::inherited(
            "drain.progressive.weight_reduction",
            Kind::Count(|p| p.drain.weight_reduction.get_or_insert_default(), 1..=100),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
        Key::inherited(
            "drain.progressive.interval_seconds",
            Kind::Counted(Unit::Seconds, |p| p.drain.interval.get_or_insert_default(), 1..=3600),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
        Key::inherited(
            "drain.progressive.minimum_health_ratio",
            Kind::Permille(|p| p.drain.minimum_health_permille.get_or_insert_default()),
            "as for the gateway, in place of its value",
            "the gateway's",
        ),
    ],
    sections: &[
        ("health", "what a probe of it asks beside a ping"),
        ("drain", "for this server in place of the gateway's `drain`"),
        ("drain.graceful", "the strategy `graceful`"),
        ("drain.progressive", "the strategy `progressive`"),
    ],
    not_yet: &["drain.graceful.check_interval_ms", "drain.tracking"],
};
