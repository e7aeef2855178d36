//! `tools` and `call`: the gateway as its clients see it.

use std::time::Duration;

use runtime::exit;
use serde_json::{Map, Value, json};

use super::{Lines, Output, render};
use crate::{
    args::{CallArgs, ToolsArgs},
    failure::Failure,
    mcp_client::{Answer, McpClient},
    place::{PlaceArgs, PlaceError},
};

/// As many tools are named in the place of one that is not there.
const MEANT: usize = 3;

const DEFAULT_URL: &str = "http://127.0.0.1:8080/mcp";

pub(crate) async fn list(args: &ToolsArgs) -> Result<Output, Failure> {
    let url = url(args.mcp.url.as_deref(), &args.mcp.place)?;
    within(args.mcp.timeout, &url, list_all(&url)).await
}

async fn list_all(url: &str) -> Result<Output, Failure> {
    let mut client = McpClient::open(url).await?;
    let tools = all(&mut client).await?;
    client.close().await;
    Ok(tools.map_or_else(|error| refused(&error), listed))
}

/// The tools that clients see, or the answer that refuses to list them.
async fn all(client: &mut McpClient) -> Result<Result<Vec<Value>, (i64, String)>, Failure> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    loop {
        let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
        let mut page = match client.request("tools/list", params).await?.result {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(Value::Array(more)) = page.get_mut("tools").map(Value::take) {
            tools.extend(more);
        }
        cursor = page.get_mut("nextCursor").map(Value::take);
        if cursor.is_none() {
            return Ok(Ok(tools));
        }
    }
}

pub(super) fn listed(tools: Vec<Value>) -> Output {
    let rows: Vec<[String; 2]> = tools.iter().map(row).collect();
    let text = if rows.is_empty() { Lines::of("no tools") } else { render::table(["TOOL", "DESCRIPTION"], &rows) };
    Output::done(text, Value::Array(tools))
}

fn row(tool: &Value) -> [String; 2] {
    let text = |key| tool.get(key).and_then(Value::as_str).unwrap_or_default();
    [text("name").to_owned(), text("description").lines().next().unwrap_or_default().to_owned()]
}

pub(crate) async fn call(args: &CallArgs) -> Result<Output, Failure> {
    let arguments: Map<String, Value> =
        serde_json::from_str(&args.arguments).map_err(|error| Failure::Arguments { reason: error.to_string() })?;
    let url = url(args.mcp.url.as_deref(), &args.mcp.place)?;
    let answer = async {
        let mut client = McpClient::open(&url).await?;
        let params = json!({ "name": args.name, "arguments": arguments });
        let answer = client.request("tools/call", params).await?;
        let next = if is_unknown(&answer) {
            // Without the list there is less to say, and the answer stays what it is.
            let tools = all(&mut client).await.ok().and_then(Result::ok);
            Some(instead(&args.name, &tools.unwrap_or_default()))
        } else {
            None
        };
        client.close().await;
        Ok((answer, next))
    };
    let (answer, next) = within(args.mcp.timeout, &url, answer).await?;
    let output = if args.raw { raw(&answer) } else { show(answer) };
    Ok(Output { next, ..output })
}

fn is_unknown(answer: &Answer) -> bool {
    answer.result.as_ref().is_err_and(|(_, message)| message.starts_with("Unknown tool"))
}

/// What to do where there is no tool of that name. Clients see a tool as `SERVER__TOOL`.
fn instead(name: &str, tools: &[Value]) -> String {
    let names = tools.iter().filter_map(|tool| tool.get("name")?.as_str());
    let own: Vec<&str> = names.filter(|full| full.split_once("__").is_some_and(|(_, own)| own == name)).collect();
    let list = "`only1mcp tools` lists those that there are";
    if own.is_empty() { list.to_owned() } else { format!("did you mean {}? {list}", render::first_of(&own, MEANT)) }
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

    #[test]
    fn a_tool_by_its_bare_name_leads_to_the_name_that_clients_see() {
        let tools = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        let list = "`only1mcp tools` lists those that there are";
        for (seen, expected) in [
            (&["time__get_time", "time__get"][..], format!("did you mean time__get_time? {list}")),
            (&["a__get_time", "b__get_time"], format!("did you mean a__get_time, b__get_time? {list}")),
            (&["time__forget_time", "get_times"], list.to_owned()),
            (&[], list.to_owned()),
        ] {
            assert_eq!(instead("get_time", &tools(seen)), expected);
        }
        let answer = |result| Answer { raw: String::new(), result };
        assert!(is_unknown(&answer(Err((-32602, "Unknown tool: get_time".to_owned())))));
        assert!(!is_unknown(&answer(Err((-32602, "the arguments are wrong".to_owned())))));
        assert!(!is_unknown(&answer(Ok(json!({})))));
    }
}
