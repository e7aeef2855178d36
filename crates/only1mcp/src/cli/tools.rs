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

const DEFAULT_URL: &str = "http://127.0.0.1:8080/mcp";

pub(crate) async fn list(args: &ToolsArgs) -> Result<Output, Failure> {
    let url = url(args.mcp.url.as_deref(), &args.mcp.place)?;
    within(args.mcp.timeout, &url, list_all(&url)).await
}

async fn list_all(url: &str) -> Result<Output, Failure> {
    let mut client = McpClient::open(url).await?;
    let (mut tools, mut cursor) = (Vec::new(), None);
    loop {
        let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
        let mut page = match client.request("tools/list", params).await?.result {
            Ok(page) => page,
            Err(error) => return Ok(refused(&error)),
        };
        if let Some(Value::Array(more)) = page.get_mut("tools").map(Value::take) {
            tools.extend(more);
        }
        cursor = page.get_mut("nextCursor").map(Value::take);
        if cursor.is_none() {
            break;
        }
    }
    client.close().await;
    Ok(listed(tools))
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
        client.close().await;
        Ok(answer)
    };
    let answer = within(args.mcp.timeout, &url, answer).await?;
    Ok(if args.raw { raw(&answer) } else { show(answer) })
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
        return Output { text: Lines::default(), complaints: text, json: result, code: exit::REFUSED };
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
    Output { text: Lines::default(), complaints, json: Value::Null, code: exit::REFUSED }
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
