//! What is planted, and where it may be found.

/// Where texts leave the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Log,
    Span,
    Metric,
    /// `/metrics` and `/readyz` aside, everything of which is public.
    Ready,
    /// Command lines of the gateway and all that descends from it.
    Ps,
    /// Answers to MCP clients, errors among them.
    Client,
    /// What commands of the operator print.
    Cli,
}

impl Place {
    pub(super) const ALL: [Self; 7] =
        [Self::Log, Self::Span, Self::Metric, Self::Ready, Self::Ps, Self::Client, Self::Cli];
}

pub(super) struct Secret {
    pub(super) what: &'static str,
    pub(super) value: &'static str,
    pub(super) may_be_in: &'static [Place],
    /// Where it must be found, since else it was not played.
    pub(super) shows_in: Option<Place>,
}

impl Secret {
    /// What the author wrote out in place of one is kept as it was written.
    pub(super) fn is_behind_a_reference(&self) -> bool {
        ["pl4nted-file-", "pl4nted-env-"].iter().any(|kind| self.value.starts_with(kind))
    }
}

const fn nowhere(what: &'static str, value: &'static str) -> Secret {
    Secret { what, value, may_be_in: &[], shows_in: None }
}

/// What a server says of its own trouble is for operators: they find it in the log and by commands.
const fn for_operators(what: &'static str, value: &'static str) -> Secret {
    Secret { what, value, may_be_in: &[Place::Log, Place::Cli, Place::Ready], shows_in: None }
}

/// A tool's answer is for its caller; commands call tools, too.
const fn for_its_caller(what: &'static str, value: &'static str) -> Secret {
    Secret { what, value, may_be_in: &[Place::Client, Place::Cli], shows_in: Some(Place::Client) }
}

/// Arguments can be seen by every user of the machine, and are shown.
const fn argument(what: &'static str, value: &'static str, may_be_in: &'static [Place]) -> Secret {
    Secret { what, value, may_be_in, shows_in: Some(Place::Ps) }
}

pub(super) const FILE_ENV: &str = "pl4nted-file-env-01a7";
pub(super) const FILE_HEADER: &str = "pl4nted-file-header-02b8";
pub(super) const FILE_QUERY: &str = "pl4nted-file-query-03c9";
pub(super) const FILE_RENEWED: &str = "pl4nted-file-renewed-04da";
pub(super) const ENV_ENV: &str = "pl4nted-env-env-05eb";
pub(super) const ENV_HEADER: &str = "pl4nted-env-header-06fc";
pub(super) const ENV_QUERY: &str = "pl4nted-env-query-070d";
pub(super) const ENV_ARG: &str = "pl4nted-env-arg-081e";
pub(super) const ENV_DOWN: &str = "pl4nted-env-down-092f";
pub(super) const LITERAL_ENV: &str = "pl4nted-literal-env-1030";
pub(super) const LITERAL_CHANGED: &str = "pl4nted-literal-changed-1141";
pub(super) const LITERAL_HEADER: &str = "pl4nted-literal-header-1252";
pub(super) const LITERAL_BEARER: &str = "pl4nted-literal-bearer-1363";
pub(super) const LITERAL_QUERY: &str = "pl4nted-literal-query-1474";
pub(super) const LITERAL_LAYER: &str = "pl4nted-literal-layer-1585";
pub(super) const LITERAL_MIXED: &str = "pl4nted-literal-mixed-1696";
pub(super) const LITERAL_ARG: &str = "pl4nted-literal-arg-17a7";
pub(super) const DOWN_QUERY: &str = "pl4nted-down-query-18b8";
pub(super) const NOWHERE_QUERY: &str = "pl4nted-nowhere-query-19c9";
pub(super) const STDERR_START: &str = "pl4nted-stderr-start-20da";
pub(super) const STDERR_CALL: &str = "pl4nted-stderr-call-21eb";
pub(super) const STDERR_CRASH: &str = "pl4nted-stderr-crash-22fc";
pub(super) const BODY_CALL: &str = "pl4nted-body-call-230d";
pub(super) const BODY_START: &str = "pl4nted-body-start-241e";
pub(super) const BODY_LOCKED: &str = "pl4nted-body-locked-252f";
pub(super) const RESULT_TEXT: &str = "pl4nted-result-text-2630";
pub(super) const RESULT_ERROR: &str = "pl4nted-result-error-2741";
pub(super) const CALL_ARGUMENT: &str = "pl4nted-call-argument-2852";
pub(super) const CALL_REFUSED: &str = "pl4nted-call-refused-2963";
pub(super) const CLIENT_AUTHORIZATION: &str = "pl4nted-client-authorization-3074";
pub(super) const CLIENT_COOKIE: &str = "pl4nted-client-cookie-3185";
pub(super) const WRONG_TOKEN: &str = "pl4nted-wrong-token-3296";
pub(super) const BAD_TEMPLATE: &str = "pl4nted-bad-template-33a7";
pub(super) const BAD_KEY: &str = "pl4nted-bad-key-34b8";
pub(super) const BAD_HEADER: &str = "pl4nted-bad-header-35c9";
pub(super) const ENV_HOST: &str = "pl4nted-env-host-36da";
pub(super) const ENV_MOVED: &str = "pl4nted-env-moved-37eb";
pub(super) const MOVED_PATH: &str = "pl4nted-moved-path-38fc";
pub(super) const MOVED_QUERY: &str = "pl4nted-moved-query-390d";
pub(super) const ENV_ECHOED: &str = "pl4nted-env-echoed-3a1e";
pub(super) const ENV_REFUSED: &str = "pl4nted-env-refused-3b2f";

pub(super) const PLANTED: &[Secret] = &[
    nowhere("a file, in a child's environment", FILE_ENV),
    nowhere("a file, in a header", FILE_HEADER),
    nowhere("a file, in a query", FILE_QUERY),
    nowhere("a file that was replaced", FILE_RENEWED),
    nowhere("a variable, in a child's environment", ENV_ENV),
    nowhere("a variable, in a header", ENV_HEADER),
    nowhere("a variable, in a query", ENV_QUERY),
    argument("a variable, in an argument", ENV_ARG, &[Place::Ps]),
    nowhere("a variable, in the URL of a server that is down", ENV_DOWN),
    nowhere("a literal in a child's environment", LITERAL_ENV),
    nowhere("a literal in place of another", LITERAL_CHANGED),
    nowhere("a literal in a header", LITERAL_HEADER),
    nowhere("a literal with its scheme", LITERAL_BEARER),
    nowhere("a literal in a query", LITERAL_QUERY),
    nowhere("a literal in a layer", LITERAL_LAYER),
    nowhere("a literal beside a reference", LITERAL_MIXED),
    argument("a literal argument", LITERAL_ARG, &[Place::Ps, Place::Cli]),
    nowhere("a query to a port where nobody listens", DOWN_QUERY),
    nowhere("a query to a host that there is not", NOWHERE_QUERY),
    for_operators("what a child says as it starts", STDERR_START),
    for_operators("what a child says in a call", STDERR_CALL),
    nowhere("a variable, in what a child says as it ends", STDERR_CRASH),
    nowhere("a variable, in the body of a 401", ENV_ECHOED),
    nowhere("a variable, in the error to an initialize", ENV_REFUSED),
    for_operators("the body of a refused call", BODY_CALL),
    for_operators("the body of a refused start", BODY_START),
    for_operators("the body of a 401", BODY_LOCKED),
    for_its_caller("the result of a tool", RESULT_TEXT),
    for_its_caller("the failure of a tool", RESULT_ERROR),
    nowhere("an argument of a call", CALL_ARGUMENT),
    nowhere("an argument of a refused call", CALL_REFUSED),
    nowhere("a client's credential", CLIENT_AUTHORIZATION),
    nowhere("a client's cookie", CLIENT_COOKIE),
    nowhere("a token that is wrong", WRONG_TOKEN),
    nowhere("a literal in a refused reference", BAD_TEMPLATE),
    nowhere("a literal under a wrong key", BAD_KEY),
    nowhere("a literal in a refused header", BAD_HEADER),
    nowhere("a variable, in a host", ENV_HOST),
    nowhere("a variable, in a query that a redirect repeats", ENV_MOVED),
    nowhere("the path of a redirect that is followed", MOVED_PATH),
    nowhere("the query of a redirect that is not followed", MOVED_QUERY),
];
