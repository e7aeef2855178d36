//! The caller's identity. Decided once per request, from the connection and the token, never from a field of a message.

use http::{Extensions, Request, Response, header::AUTHORIZATION};
use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Code, Status, body::Body};
use tower::{
    Layer, Service,
    util::{Oneshot, ServiceExt},
};

use super::{
    refusal,
    socket::{Caller, Peer},
};
use crate::{places::Standing, telemetry::Sparing, token::AdminToken};

/// Load balancers and orchestrators ask for health without a credential; the answer contains nothing else.
pub(super) const HEALTH_SERVICE: &str = "/grpc.health.v1.Health/";
const BEARER: &str = "bearer ";
const PATH_SHOWN: usize = 128;
/// A client that calls in a loop with a wrong token must not fill the log.
static REFUSED: Sparing = Sparing::new("caller_refused", 20, Duration::from_secs(5));

/// Which callers to admit.
#[derive(Clone, Debug)]
pub struct Auth {
    token: Option<AdminToken>,
    own_uid: u32,
}

/// The caller: `uid:<n>` over a Unix socket, `token` over TCP, `internal` from within the process. An extension of
/// every request that reaches a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(pub String);

impl Auth {
    /// Without a token, TCP callers are all refused.
    pub fn new(token: Option<AdminToken>) -> Self {
        Self { token, own_uid: nix::unistd::geteuid().as_raw() }
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    fn identify(&self, peer: Option<Peer>, authorization: Option<&[u8]>) -> Result<Actor, String> {
        match peer {
            Some(Peer::Internal) => Ok(Actor("internal".to_owned())),
            Some(Peer::Unix { uid: Some(uid) }) if uid == self.own_uid || uid == 0 => Ok(Actor(format!("uid:{uid}"))),
            Some(Peer::Unix { uid: Some(uid) }) => Err(format!(
                "this socket is for uid {} and root, the caller is uid {uid}; run the command as that user",
                self.own_uid
            )),
            Some(Peer::Unix { uid: None }) => Err("the system does not say who is at the other end of the socket; \
                 connect over TCP with the admin token"
                .to_owned()),
            Some(Peer::Tcp(_)) => self.check_token(authorization).map(|()| Actor("token".to_owned())),
            None => Err("the connection is of no known kind".to_owned()),
        }
    }

    fn check_token(&self, authorization: Option<&[u8]>) -> Result<(), String> {
        let Some(token) = &self.token else {
            return Err(
                "this process has no admin token, so TCP callers are refused; use its Unix socket, or restart \
                 it with --token-file FILE"
                    .to_owned(),
            );
        };
        let Some(presented) = authorization else {
            return Err("no credential; send `authorization: Bearer <token>` with the content of the server's token \
                 file (the command line tool takes it with --token-file FILE)"
                .to_owned());
        };
        let scheme = presented.get(..BEARER.len());
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER.as_bytes())) {
            return Err("the authorization is not of the form `Bearer <token>`".to_owned());
        }
        if token.matches(presented[BEARER.len()..].trim_ascii()) {
            return Ok(());
        }
        Err("the token is not this server's; pass --token-file with the token file the server was started with"
            .to_owned())
    }
}

impl Actor {
    /// The caller of a request that came through the server's credential check.
    ///
    /// # Errors
    /// `INTERNAL` when it did not, which is a fault in how the service was mounted.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        Self::among(request.extensions())
    }

    /// As [`Actor::of`], from the extensions of the request.
    pub fn among(extensions: &Extensions) -> Result<&Self, Status> {
        let missing = || refusal::other(Code::Internal, "NO_ACTOR", "the request carries no actor");
        extensions.get().ok_or_else(missing)
    }
}

/// The start of a path, enough to recognise it: a refused caller may send any path.
pub(super) fn shown(path: &str) -> &str {
    path.get(..PATH_SHOWN).unwrap_or(path)
}

/// Puts the check in front of all services of a server.
#[derive(Clone, Debug)]
pub(super) struct CredentialLayer(pub(super) Auth);

impl<S> Layer<S> for CredentialLayer {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { auth: self.0.clone(), inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Checked<S> {
    auth: Auth,
    inner: S,
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures_util::future::Either<Oneshot<S, Request<Body>>, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service is asked in `Oneshot`, after the check.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        use futures_util::future::Either::{Left, Right};
        let authorization = request.headers_mut().remove(AUTHORIZATION);
        if !request.uri().path().starts_with(HEALTH_SERVICE) {
            let caller = request.extensions().get::<Caller>();
            let peer = caller.map(|caller| caller.peer);
            match self.auth.identify(peer, authorization.as_ref().map(http::HeaderValue::as_bytes)) {
                Ok(actor) => {
                    // From now on the caller's connection is not displaced.
                    if let Some(caller) = caller {
                        caller.shown.reaches(Standing::Known);
                    }
                    request.extensions_mut().insert(actor);
                }
                Err(reason) => {
                    if let Some(left_out) = REFUSED.line() {
                        let path = shown(request.uri().path());
                        tracing::warn!(?peer, path, reason, left_out, "caller refused");
                    }
                    let refused = refusal::other(Code::Unauthenticated, "CREDENTIAL", reason);
                    return Right(ready(Ok(refused.into_http())));
                }
            }
        }
        Left(self.inner.clone().oneshot(request))
    }
}

#[cfg(test)]
mod tests;
