//! What a probe asks: a ping always, and what the configuration of its server adds to that.

use std::sync::Arc;
use std::time::Duration;

use mcp::Kind;
use model::CheckPolicy;
use model::units::in_words;
use tokio::time::{Instant, timeout_at};

use super::{AskError, Endpoint, PingError};

/// Why an endpoint has not passed a probe. For operators.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Ping(#[from] PingError),
    #[error("GET {path}: {reason}")]
    Path { path: String, reason: String },
    #[error("its list: {0}")]
    List(AskError),
    #[error("it does not list {}, which it is expected to (health.expected_tools)", .0.join(", "))]
    Lacks(Vec<String>),
}

impl Endpoint {
    /// All of it within `timeout`. Returns how long the ping took.
    ///
    /// # Errors
    /// The first of the checks that failed.
    pub(crate) async fn check(
        self: &Arc<Self>,
        checks: &CheckPolicy,
        timeout: Duration,
    ) -> Result<Duration, CheckError> {
        let deadline = Instant::now() + timeout;
        let took = self.ping(timeout).await?;
        if let Some(path) = &checks.path {
            let got = timeout_at(deadline, Box::pin(self.get(path))).await;
            let got = got.unwrap_or_else(|_| Err(format!("no answer within {}", in_words(timeout))));
            got.map_err(|reason| CheckError::Path { path: path.clone(), reason })?;
        }
        if !checks.expected_tools.is_empty() {
            let listed = timeout_at(deadline, Box::pin(self.list())).await;
            let listed = listed.unwrap_or(Err(AskError::TimedOut { limit: timeout, key: Some("health.timeout") }));
            let listed = listed.map_err(CheckError::List)?;
            let tools = &listed.items[Kind::Tool];
            let lacks = |name: &&String| !tools.iter().any(|tool| tool.name() == name.as_str());
            let lacking: Vec<_> = checks.expected_tools.iter().filter(lacks).map(|name| format!("`{name}`")).collect();
            if !lacking.is_empty() {
                return Err(CheckError::Lacks(lacking));
            }
        }
        Ok(took)
    }

    /// A stdio server has no paths.
    async fn get(self: &Arc<Self>, path: &str) -> Result<(), String> {
        let Some(link) = self.link() else { return Err("not connected".to_owned()) };
        match link.get(self, path).await {
            None => Ok(()),
            Some(Ok(status)) if status.is_success() => Ok(()),
            Some(Ok(status)) => Err(format!("status {status}")),
            Some(Err(error)) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use model::{BackendId, EndpointKey, EndpointSpec, Isolation, Limits, Transport, VariantId};
    use runtime::{Clock, Shutdown, Tasks};
    use serde_json::{Value, json};
    use tokio::runtime::{self as tokio_runtime, Handle};
    use tokio::task::LocalSet;

    use super::*;
    use crate::endpoint::{Signals, Upstreams};
    use crate::test_server;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server with the tool `t` that is well at `/health` only.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let status = |status: u16| Ok(Response::builder().status(status).body(Full::default()).unwrap());
        if request.method() == http::Method::GET {
            let well = request.uri().path() == "/health" && request.headers()["x-key"] == "k";
            return status(if well { 200 } else { 503 });
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "t", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] }),
            "ping" => json!({}),
            _ => return status(202),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(Full::from(answer.to_string())).unwrap())
    }

    async fn connected() -> Arc<Endpoint> {
        let headers = BTreeMap::from([("X-Key".to_owned(), "k".to_owned())]);
        let transport = Transport::Http { url: test_server::serve(answer).await, headers };
        let spec = EndpointSpec { transport, isolation: Isolation::Shared };
        let key =
            EndpointKey { backend: BackendId::new("s").unwrap(), variant: VariantId::only(), digest: spec.digest() };
        let (tasks, signals) = (Tasks::new(Shutdown::new()), Signals::new());
        let upstreams = Upstreams::new(tasks, Handle::current(), Clock::start(), signals);
        let endpoint = Endpoint::new(key, spec, Arc::new(Limits::default()), &upstreams);
        endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap();
        endpoint
    }

    #[test]
    fn a_probe_asks_what_is_expected_and_says_what_is_missing() {
        let runtime = tokio_runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let endpoint = connected().await;
            let checked = async |expected: &[&str], path: Option<&str>| {
                let expected_tools = expected.iter().map(|name| (*name).to_owned()).collect();
                let checks = CheckPolicy { expected_tools, path: path.map(str::to_owned) };
                endpoint.check(&checks, PATIENCE).await.map(drop).map_err(|error| error.to_string())
            };
            assert_eq!(checked(&[], None).await, Ok(()));
            assert_eq!(checked(&["t"], Some("/health")).await, Ok(()));
            assert_eq!(checked(&[], Some("/mcp")).await, Err("GET /mcp: status 503 Service Unavailable".into()));
            let lacks = "it does not list `u`, `v`, which it is expected to (health.expected_tools)";
            assert_eq!(checked(&["u", "t", "v"], None).await, Err(lacks.into()));
            endpoint.shut_down().await;
        });
    }
}
