//! The admin services a command may talk to: where they are, and which of them is which.
//!
//! A command asks every address by gRPC reflection which services it has. So one list of addresses is enough for all
//! commands, whether they name one process with all four services or four processes.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use runtime::{
    AdminToken,
    grpc::{Client, DialError, MESSAGE_BYTES_MAX, Presented, Target, connect_lazy, in_grpc},
};
use tokio_stream::StreamExt;
use tonic::{Request, Status, transport::Uri};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use wire::pb::{
    config::v1::{GetStatusRequest, config_service_client::ConfigServiceClient},
    drain::v1::drain_service_client::DrainServiceClient,
    health::v1::health_service_client::HealthServiceClient,
    process::v1::process_service_client::ProcessServiceClient,
    router::v1::{Endpoint, InspectRequest, InspectResponse, router_service_client::RouterServiceClient},
};

use crate::{args::AdminArgs, failure::Failure, place};

const CONFIG: (&str, &str) = ("config-manager", "only1mcp.config.v1.ConfigService");
const DRAIN: (&str, &str) = ("drain-coordinator", "only1mcp.drain.v1.DrainService");
const HEALTH: (&str, &str) = ("health-monitor", "only1mcp.health.v1.HealthService");
const ROUTER: (&str, &str) = ("router", "only1mcp.router.v1.RouterService");
const PROCESS: &str = "only1mcp.process.v1.ProcessService";

/// The services that a command has found.
#[derive(Debug)]
pub(crate) struct Admin {
    peers: Vec<Peer>,
    timeout: Duration,
}

/// One address.
#[derive(Debug)]
struct Peer {
    name: String,
    client: Client,
    /// The services it has; or why it could not be asked.
    services: Result<BTreeSet<String>, Status>,
}

/// A generated client, and what to call its server in messages.
#[derive(Debug)]
pub(crate) struct Named<C> {
    pub(crate) client: C,
    pub(crate) target: String,
}

impl Admin {
    /// Asks every address for its services. Fails when no address is known. An address that does not answer fails only
    /// the commands that need it.
    pub(crate) async fn find(args: &AdminArgs) -> Result<Self, Failure> {
        let asked = targets(args)?.into_iter().map(async |(name, target)| {
            let client = connect_lazy(&target).map_err(|error| undiallable(&name, error))?;
            let asked = tokio::time::timeout(args.timeout, services(client.clone())).await;
            let services = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
            Ok::<_, Failure>(Peer { name, client, services })
        });
        let peers = futures_util::future::try_join_all(asked).await?;
        Ok(Self { peers, timeout: args.timeout })
    }

    pub(crate) fn config(&self) -> Result<Named<ConfigServiceClient<Client>>, Failure> {
        let (client, target) = self.one(CONFIG)?;
        let client = ConfigServiceClient::new(client)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Named { client, target })
    }

    pub(crate) fn drain(&self) -> Result<Named<DrainServiceClient<Client>>, Failure> {
        let (client, target) = self.one(DRAIN)?;
        Ok(Named { client: DrainServiceClient::new(client), target })
    }

    pub(crate) fn health(&self) -> Result<Named<HealthServiceClient<Client>>, Failure> {
        let (client, target) = self.one(HEALTH)?;
        Ok(Named { client: HealthServiceClient::new(client).max_decoding_message_size(MESSAGE_BYTES_MAX), target })
    }

    /// Every router among the addresses.
    pub(crate) fn routers(&self) -> Vec<Named<RouterServiceClient<Client>>> {
        let serving = self.peers.iter().filter(|peer| peer.serves(ROUTER.1));
        let named = serving.map(|peer| Named {
            client: RouterServiceClient::new(peer.client.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            target: peer.name.clone(),
        });
        named.collect()
    }

    /// The same for a command that does something in all of them: an address that does not answer may be one.
    pub(crate) fn needed_routers(&self) -> Result<Vec<Named<RouterServiceClient<Client>>>, Failure> {
        if let Some((name, status)) = self.silent().next() {
            return Err(Failure::of(name, status.clone()));
        }
        let routers = self.routers();
        if routers.is_empty() {
            self.one(ROUTER)?;
        }
        Ok(routers)
    }

    /// What the routers that answer have of a server.
    pub(crate) async fn inspect(&self, server: &str) -> Vec<InspectResponse> {
        let request = || InspectRequest { server: server.to_owned(), ..InspectRequest::default() };
        let asked = self
            .routers()
            .into_iter()
            .map(async |mut router| self.ask(&router.target, router.client.inspect(request())).await.ok());
        let mut answers: Vec<_> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        // An older router does not choose.
        let is_of_server = |one: &Endpoint| one.key.as_ref().is_some_and(|key| key.backend == server);
        answers.iter_mut().for_each(|answer| answer.endpoints.retain(is_of_server));
        answers
    }

    /// Whether a router has that server, or none can be asked.
    pub(crate) async fn knows(&self, server: &str) -> bool {
        let answers = self.inspect(server).await;
        answers.is_empty() || answers.iter().any(|answer| !answer.endpoints.is_empty())
    }

    /// Whether the server is off where it is configured. No, if no config-manager can be asked.
    pub(crate) async fn is_configured_off(&self, server: &str) -> bool {
        let Ok(mut config) = self.config() else { return false };
        let status = self.ask(&config.target, config.client.get_status(GetStatusRequest {})).await;
        status.is_ok_and(|status| status.servers.iter().any(|one| one.id == server && one.disabled))
    }

    /// The answer about a server. A server that is off in the configuration is unknown to routers and to the
    /// coordinator: then that is the failure, in place of theirs.
    pub(crate) async fn or_configured_off<T>(&self, server: &str, answer: Result<T, Failure>) -> Result<T, Failure> {
        let is_unknown = matches!(answer, Err(Failure::Refused { .. } | Failure::NoServer { .. }));
        if is_unknown && Box::pin(self.is_configured_off(server)).await {
            return Err(Failure::ConfiguredOff { server: server.to_owned() });
        }
        answer
    }

    /// The addresses that do not answer, and why.
    pub(crate) fn silent(&self) -> impl Iterator<Item = (&str, &Status)> {
        self.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.services.as_ref().err()?)))
    }

    /// Every process among the addresses; all must answer, since the command is for all of them.
    pub(crate) fn processes(&self) -> Result<Vec<Named<ProcessServiceClient<Client>>>, Failure> {
        let named = self.peers.iter().map(|peer| match &peer.services {
            Err(status) => Err(Failure::of(&peer.name, status.clone())),
            Ok(services) if services.contains(PROCESS) => {
                Ok(Named { client: ProcessServiceClient::new(peer.client.clone()), target: peer.name.clone() })
            }
            Ok(_) => Err(Failure::Lacks { service: "a process of this release", targets: vec![peer.name.clone()] }),
        });
        named.collect()
    }

    fn one(&self, (service, full_name): (&'static str, &str)) -> Result<(Client, String), Failure> {
        if let Some(peer) = self.peers.iter().find(|peer| peer.serves(full_name)) {
            return Ok((peer.client.clone(), peer.name.clone()));
        }
        // An address that could not be asked may have the needed service.
        if let Some((name, status)) = self.silent().next() {
            return Err(Failure::of(name, status.clone()));
        }
        Err(Failure::Lacks { service, targets: self.peers.iter().map(|peer| peer.name.clone()).collect() })
    }

    /// The answer of `call`, within the time the user is willing to wait.
    pub(crate) async fn ask<T>(
        &self,
        target: &str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.ask_for(self.timeout, target, call).await
    }

    /// As [`Admin::ask`], with a time of its own.
    pub(crate) async fn ask_for<T>(
        &self,
        timeout: Duration,
        target: &str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let late = |_| Failure::Timeout { target: target.to_owned(), seconds: timeout.as_secs_f64() };
        let answered = tokio::time::timeout(timeout, call).await.map_err(late)?;
        answered.map(tonic::Response::into_inner).map_err(|status| Failure::of(target, status))
    }
}

impl Peer {
    fn serves(&self, service: &str) -> bool {
        self.services.as_ref().is_ok_and(|services| services.contains(service))
    }
}

fn targets(args: &AdminArgs) -> Result<Vec<(String, Target)>, Failure> {
    if args.admin.is_empty() {
        let place = args.place.find_running()?;
        let socket = place.socket();
        if let Err(source) = place.knock() {
            if source.kind() == io::ErrorKind::PermissionDenied {
                return Err(Failure::NoAccess { socket, source });
            }
            return Err(Failure::NotRunning { place: place.describe(), socket, others: place::running() });
        }
        return Ok(vec![(socket.display().to_string(), Target::Unix(socket))]);
    }
    let named = args.token_file.as_deref().map(AdminToken::load).transpose()?;
    // A service that receives a token knows it from then on, so the token of the local gateway is sent to that
    // gateway's address only.
    let local = if named.is_none() { Local::find(args) } else { None };
    let reach = args.insecure_token.reach();
    let targets = args.admin.iter().map(|name| {
        let url = if name.contains("://") { name.clone() } else { format!("http://{name}") };
        let own = local.as_ref().and_then(|local| local.named_by(&url).map(|url| (url, local.token.clone())));
        let (url, token) = own.map_or_else(|| (url, named.clone()), |(url, token)| (url, Some(token)));
        (name.clone(), Target::Url(url, token.map(|token| Presented { token, reach })))
    });
    Ok(targets.collect())
}

/// The gateway that `up` runs here.
struct Local {
    admin: SocketAddr,
    token: AdminToken,
}

impl Local {
    fn find(args: &AdminArgs) -> Option<Self> {
        let place = args.place.find_running().ok()?;
        let admin = place.addresses()?.admin.strip_prefix("http://")?.parse().ok()?;
        Some(Self { admin, token: AdminToken::load(&place.token_file()).ok()? })
    }

    /// Where to dial it, if it is what `url` names. No other name than `localhost` is taken for it, and that one is not
    /// resolved: a resolver may return another machine's address.
    fn named_by(&self, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let named: Option<IpAddr> = host.parse().ok();
        // A gateway that listens on every address is reached over loopback.
        let own = match self.admin.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let is_own = named.map_or_else(|| host.eq_ignore_ascii_case("localhost"), |named| named == own);
        let plain = uri.scheme_str() == Some("http") && ["", "/"].contains(&uri.path());
        (is_own && plain && uri.port_u16() == Some(self.admin.port()))
            .then(|| format!("http://{}", SocketAddr::new(own, self.admin.port())))
    }
}

fn undiallable(url: &str, error: DialError) -> Failure {
    match error {
        DialError::ClearText { .. } => Failure::ClearText(error),
        DialError::Userinfo { ref place } => {
            Failure::AdminUrl { url: format!("http://…@{place}"), reason: error.to_string() }
        }
        DialError::Url { .. } | DialError::Form { .. } => {
            Failure::AdminUrl { url: url.to_owned(), reason: error.to_string() }
        }
    }
}

/// Full names of the services at the other end.
async fn services(client: Client) -> Result<BTreeSet<String>, Status> {
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(client);
    let asked = reflection.server_reflection_info(Request::new(tokio_stream::once(ask))).await?;
    let mut answers = in_grpc(asked)?.into_inner();
    let answer = answers.next().await.transpose()?.and_then(|answer| answer.message_response);
    match answer {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        _ => Err(Status::unavailable("it does not say which services it has")),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use runtime::exit;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_speaks_no_grpc_is_one_that_cannot_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = connect_lazy(&Target::Url(url.clone(), None)).unwrap();
        // As a proxy answers whose service is away.
        let answer = service_fn(|_: http::Request<Incoming>| async {
            Ok::<_, Infallible>(http::Response::builder().status(404).body(Empty::<Bytes>::new()).unwrap())
        });
        let served = async {
            let (socket, _) = listener.accept().await.unwrap();
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(socket), answer).await
        };
        let status = tokio::select! {
            services = services(client) => services.unwrap_err(),
            over = served => panic!("{over:?}"),
        };
        let failure = Failure::of(&url, status);
        assert!(failure.to_string().starts_with(&format!("{url} cannot be reached: it answers, but not in gRPC")));
        assert_eq!((failure.exit_code(), failure.next_step().is_some()), (exit::UNAVAILABLE, true));
    }

    #[tokio::test]
    async fn a_password_in_an_address_is_refused_and_not_repeated() {
        let url = "http://user:passw0rd@127.0.0.1:1";
        let error = connect_lazy(&Target::Url(url.to_owned(), None)).map(drop).unwrap_err();
        let failure = undiallable(url, error);
        assert!(failure.to_string().contains("127.0.0.1:1") && !failure.to_string().contains("passw0rd"), "{failure}");
        assert_eq!(failure.exit_code(), exit::USAGE);
    }

    fn local(admin: &str) -> Local {
        let base = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_create(&base.path().join("token")).unwrap();
        Local { admin: admin.parse().unwrap(), token }
    }

    #[test]
    fn the_token_of_the_gateway_here_goes_to_no_other_address() {
        let own = Some("http://127.0.0.1:8081".to_owned());
        for (admin, url, expected) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081", own.clone()),
            ("127.0.0.1:8081", "http://127.0.0.1:8081/", own.clone()),
            ("127.0.0.1:8081", "http://localhost:8081", own.clone()),
            ("0.0.0.0:8081", "http://127.0.0.1:8081", own),
            ("[::1]:8081", "http://[::1]:8081", Some("http://[::1]:8081".to_owned())),
            ("127.0.0.1:8081", "http://127.0.0.1:8082", None),
            ("127.0.0.1:8081", "http://127.0.0.2:8081", None),
            ("127.0.0.1:8081", "http://[::1]:8081", None),
            ("127.0.0.1:8081", "http://127.0.0.1", None),
            ("127.0.0.1:8081", "http://127.0.0.1:8081@example.org:8081", None),
            ("127.0.0.1:8081", "http://localhost.example.org:8081", None),
            ("0.0.0.0:8081", "http://10.0.0.7:8081", None),
            ("127.0.0.1:8081", "https://127.0.0.1:8081", None),
        ] {
            assert_eq!(local(admin).named_by(url), expected, "{admin}, {url}");
        }
    }
}
