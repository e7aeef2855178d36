//! `tools` and `call`: the gateway as its clients see it.

use std::time::Duration;

use runtime::exit;
use serde_json::{Map, Value, json};

use super::{Lines, Output, render};
use crate::{
    args::{CallArgs, ToolsArgs},
    failure::{Failure, not_up},
    mcp_client::{Answer, McpClient},
    place::{PlaceArgs, PlaceError},
};

/// Between the id of a server and its own name for a tool, as clients see it.
const SEPARATOR: &str = "__";

const LIST: &str = "`only1mcp tools` lists those that there are";

/// For what is asked once the answer to a call is known.
const BEYOND: Duration = Duration::from_secs(5);

/// As many tools are named in the place of one that is not there.
const MEANT: usize = 3;

const DEFAULT_URL: &str = "http://127.0.0.1:8080/mcp";

pub(crate) async fn list(args: &ToolsArgs) -> Result<Output, Failure> {
    let url = url(args.mcp.url.as_deref(), &args.mcp.place)?;
    within(args.mcp.timeout, &url, list_all(&url)).await
}

async fn list_all(url: &str) -> Result<Output, Failure> {
    let mut client = McpClient::open(url).await?;
    let all = all(&mut client).await?;
    client.close().await;
    Ok(all.map_or_else(|error| refused(&error), listed))
}

/// The tools that clients see.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) tools: Vec<Value>,
    /// Servers whose tools are not among them, each with the reason.
    pub(super) missing: Vec<(String, String)>,
}

/// All that clients see, or the answer that refuses to list it.
async fn all(client: &mut McpClient) -> Result<Result<Listed, (i64, String)>, Failure> {
    let (mut listed, mut cursor) = (Listed::default(), None);
    loop {
        let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
        let mut page = match client.request("tools/list", params).await?.result {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(Value::Array(more)) = page.get_mut("tools").map(Value::take) {
            listed.tools.extend(more);
        }
        // Each page says it.
        listed.missing = missing(&page);
        cursor = page.get_mut("nextCursor").map(Value::take);
        if cursor.is_none() {
            return Ok(Ok(listed));
        }
    }
}

/// Of a page of the list: the servers that are not in it, and why.
fn missing(page: &Value) -> Vec<(String, String)> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let all = page["_meta"]["only1mcp/missing"].as_array().into_iter().flatten();
    all.map(|one| (text(one, "server"), text(one, "reason"))).collect()
}

pub(super) fn listed(Listed { tools, missing }: Listed) -> Output {
    let rows: Vec<[String; 2]> = tools.iter().map(row).collect();
    let text = if rows.is_empty() { Lines::of("no tools") } else { render::table(["TOOL", "DESCRIPTION"], &rows) };
    let mut complaints = Lines::default();
    for (server, reason) in &missing {
        let because = render::because(reason);
        complaints.line(format_args!("note: server {server} is not up, so its tools are not listed{because}"));
    }
    Output { complaints, ..Output::done(text, Value::Array(tools)) }
}

fn row(tool: &Value) -> [String; 2] {
    let text = |key| tool.get(key).and_then(Value::as_str).unwrap_or_default();
    [text("name").to_owned(), text("description").lines().next().unwrap_or_default().to_owned()]
}

pub(crate) async fn call(args: &CallArgs) -> Result<Output, Failure> {
    let arguments = arguments(&args.arguments).map_err(|reason| Failure::Arguments { reason })?;
    let url = url(args.mcp.url.as_deref(), &args.mcp.place)?;
    let asked = async {
        let mut client = McpClient::open(&url).await?;
        let params = json!({ "name": args.name, "arguments": arguments });
        let answer = client.request("tools/call", params).await?;
        Ok((client, answer))
    };
    let (mut client, answer) = within(args.mcp.timeout, &url, asked).await?;
    // The answer is known. What is asked beyond it has a time of its own, and without it there is less to say.
    let list = if answer.result.as_ref().is_err_and(is_unknown) {
        tokio::time::timeout(BEYOND, all(&mut client)).await.ok().and_then(Result::ok).and_then(Result::ok)
    } else {
        None
    };
    drop(tokio::time::timeout(BEYOND, client.close()).await);
    let error = answer.result.as_ref().err();
    let explained = error.and_then(|error| explained(&args.name, error, list.as_ref()));
    let mut output = if args.raw { raw(&answer) } else { show(answer) };
    if let Some(Explained { instead, next }) = explained {
        output.next = Some(next);
        if let Some(instead) = instead.filter(|_| !args.raw) {
            output.complaints = Lines::of(format_args!("only1mcp: {instead}"));
        }
    }
    Ok(output)
}

/// Of a call, or what is wrong with them.
fn arguments(text: &str) -> Result<Map<String, Value>, String> {
    if !text.trim_start().starts_with('{') {
        return Err("they do not begin with `{`".to_owned());
    }
    serde_json::from_str(text).map_err(|error| {
        if error.is_eof() {
            "they end before the last `}`".to_owned()
        } else {
            format!("they are no JSON from line {}, column {} on", error.line(), error.column())
        }
    })
}

/// What an error of a call comes from, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Explained {
    /// To be said in place of the error.
    instead: Option<String>,
    next: String,
}

/// `None`: the error has to speak for itself. `list`: what clients see, if that is known.
fn explained(name: &str, error: &(i64, String), list: Option<&Listed>) -> Option<Explained> {
    let only = |next: String| Some(Explained { instead: None, next });
    if let Some((server, kept)) = kept_off(error) {
        let enable = format!("`only1mcp enable {server}` gives it calls again");
        return only(if kept.starts_with("drained") {
            format!("{enable}; `only1mcp drains` says what keeps it from calls")
        } else {
            enable
        });
    }
    if !is_unknown(error) {
        return None;
    }
    let Some(Listed { tools, missing }) = list else { return only(LIST.to_owned()) };
    if tools.iter().any(|tool| tool["name"] == name) {
        // The server says so, of a tool that it lists.
        return None;
    }
    let is_of = |server: &str| name.strip_prefix(server).is_some_and(|rest| rest.starts_with(SEPARATOR));
    let down = missing.iter().filter(|(server, _)| is_of(server)).max_by_key(|(server, _)| server.len());
    let Some((server, reason)) = down else { return only(instead(name, tools)) };
    let instead = format!("server `{server}` is not up{}", render::because(reason));
    Some(Explained { instead: Some(instead), next: not_up(server) })
}

/// The server that an operator keeps from calls, and how.
fn kept_off((code, message): &(i64, String)) -> Option<(&str, &str)> {
    let (server, rest) = message.strip_prefix("server `")?.split_once('`')?;
    let kept = rest.strip_prefix(" is ")?.strip_suffix(" and takes no calls")?;
    (*code == mcp::ErrorCode::UNAVAILABLE.0).then_some((server, kept))
}

fn is_unknown((code, message): &(i64, String)) -> bool {
    *code == mcp::ErrorCode::INVALID_PARAMS.0 && message.starts_with("Unknown tool")
}

/// What to do where there is no tool of that name.
fn instead(name: &str, tools: &[Value]) -> String {
    let split = || tools.iter().filter_map(|tool| tool.get("name")?.as_str()?.split_once(SEPARATOR));
    let own = split().filter(|(_, own)| *own == name).map(|(server, own)| format!("{server}{SEPARATOR}{own}"));
    let own: Vec<String> = own.collect();
    if !own.is_empty() {
        return format!("did you mean {}? {LIST}", render::first_of(&own, MEANT));
    }
    match name.split_once(SEPARATOR) {
        Some((server, _)) if split().all(|(other, _)| other != server) => {
            format!("no tool is of a server `{server}`; {LIST}, `only1mcp status` the servers")
        }
        Some(_) | None => LIST.to_owned(),
    }
}

fn raw(answer: &Answer) -> Output {
    let failed = answer.result.as_ref().map_or(true, is_error);
    let json = serde_json::from_str(&answer.raw).unwrap_or_default();
    let code = if failed { exit::REFUSED } else { exit::DONE };
    Output { code, ..Output::done(Lines::json(&answer.raw), json) }
}

pub(super) fn show(answer: Answer) -> Output {
    let result = match answer.result {
        Ok(result) => result,
        Err(error) => return refused(&error),
    };
    let items = result.get("content").and_then(Value::as_array);
    let mut text = Lines::default();
    items.into_iter().flatten().for_each(|item| text.paragraph(&content(item)));
    if is_error(&result) {
        return Output { complaints: text, code: exit::REFUSED, ..Output::done(Lines::default(), result) };
    }
    Output::done(text, result)
}

fn is_error(result: &Value) -> bool {
    result.get("isError") == Some(&Value::Bool(true))
}

/// Text with its own lines; of anything else, what it is.
fn content(item: &Value) -> String {
    let text = |key| item.get(key).and_then(Value::as_str);
    if let Some(text) = text("text") {
        return text.to_owned();
    }
    let kind = text("type").unwrap_or("content");
    let about = text("mimeType").or_else(|| text("uri")).map_or_else(String::new, |about| format!(" {about}"));
    format!("[{kind}{about}; see it with --raw]")
}

fn refused((code, message): &(i64, String)) -> Output {
    let complaints = Lines::of(format_args!("only1mcp: refused with {code}: {message}"));
    Output { complaints, code: exit::REFUSED, ..Output::nothing_more() }
}

/// The MCP endpoint that is meant. One that is not found by its files may still be there.
pub(super) fn url(named: Option<&str>, place: &PlaceArgs) -> Result<String, PlaceError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    match place.find_running() {
        Ok(place) => Ok(place.addresses().map_or_else(|| DEFAULT_URL.to_owned(), |addresses| addresses.mcp)),
        Err(several @ PlaceError::Several { .. }) => Err(several),
        Err(PlaceError::NoHome | PlaceError::NoConfig { .. } | PlaceError::TwoConfigs { .. }) => {
            Ok(DEFAULT_URL.to_owned())
        }
    }
}

async fn within<T>(timeout: Duration, url: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Timeout { target: url.to_owned(), seconds: timeout.as_secs_f64() };
    tokio::time::timeout(timeout, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name })).collect()
    }

    #[test]
    fn a_tool_by_its_bare_name_leads_to_the_name_that_clients_see() {
        for (seen, expected) in [
            (&["time__get_time", "time__get"][..], format!("did you mean time__get_time? {LIST}")),
            (&["a__get_time", "b__get_time"], format!("did you mean a__get_time, b__get_time? {LIST}")),
            (&["time__forget_time", "get_times"], LIST.to_owned()),
            (&[], LIST.to_owned()),
        ] {
            assert_eq!(instead("get_time", &tools(seen)), expected);
        }
        let of_none = format!("no tool is of a server `nosuch`; {LIST}, `only1mcp status` the servers");
        assert_eq!(instead("nosuch__x", &tools(&["a__x"])), of_none);
        assert_eq!(instead("a__y", &tools(&["a__x"])), LIST);
    }

    #[test]
    fn arguments_that_are_none_are_told_what_is_wrong_with_them() {
        assert_eq!(arguments(r#" {"a": 1}"#).map(Value::Object), Ok(json!({ "a": 1 })));
        for (text, expected) in [
            ("notjson", "they do not begin with `{`"),
            ("", "they do not begin with `{`"),
            ("[1]", "they do not begin with `{`"),
            (r#"{"a": "#, "they end before the last `}`"),
            ("{a: 1}", "they are no JSON from line 1, column 2 on"),
        ] {
            assert_eq!(arguments(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_error_is_explained_as_far_as_it_is_the_gateways() {
        let page = json!({ "_meta": { "only1mcp/missing": [{ "server": "dead", "reason": "exit 1" }] } });
        let list = Listed { tools: tools(&["a__x"]), missing: missing(&page) };
        let unknown = |name: &str| (-32602, format!("Unknown tool: {name}"));
        let of = |name: &str| explained(name, &unknown(name), Some(&list));
        let down = of("dead__x").unwrap();
        assert_eq!(down.instead.as_deref(), Some("server `dead` is not up: exit 1"));
        assert!(down.next.contains("`only1mcp logs dead`"), "{}", down.next);
        assert_eq!(of("a__x"), None, "the server says so itself");
        assert_eq!(of("a__y"), Some(Explained { instead: None, next: LIST.to_owned() }));
        assert_eq!(explained("a__y", &unknown("a__y"), None), of("a__y"), "without a list there is less to say");
        let next = |code, text: &str| explained("a__x", &(code, text.to_owned()), None).map(|one| one.next);
        let enable = "`only1mcp enable notes` gives it calls again".to_owned();
        assert_eq!(next(1503, "server `notes` is disabled by an operator and takes no calls"), Some(enable.clone()));
        let drained = next(1503, "server `notes` is drained and takes no calls").unwrap();
        assert!(drained.starts_with(&enable) && drained.contains("`only1mcp drains`"), "{drained}");
        assert_eq!(next(-32000, "server `notes` is drained and takes no calls"), None, "another one's words");
        assert_eq!(next(1503, "server `notes` is starting"), None);
        assert_eq!(next(-32602, "the arguments are wrong"), None);
    }
}
