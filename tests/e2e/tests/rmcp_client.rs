//! The client of the official Rust SDK in front of the gateway, while the file changes: it lists, calls, and hears of
//! new tools.

use std::time::Duration;

use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::CallToolRequestParams,
    service::{NotificationContext, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use testkit::{ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, demo, fault};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Counts `notifications/tools/list_changed`.
struct Listener(watch::Sender<u64>);

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.send_modify(|count| *count += 1);
    }
}

#[test]
fn the_sdk_client_lists_calls_and_hears_of_changes() -> Result<(), Fault> {
    let scratch = Scratch::new("rmcp")?;
    let backend = DemoServer::start("http", &scratch, &[])?;
    let document =
        Document::default().with(Server::http("http", &backend.url())).with(demo::stdio("stdio", "stdio", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (changes, mut changed) = watch::channel(0);
        let url = format!("http://{}/mcp", gateway.mcp);
        let client = Listener(changes).serve(StreamableHttpClientTransport::from_uri(url)).await?;
        assert_eq!(echoing(&client).await?, ["http__echo", "stdio__echo"]);
        for tool in ["http__echo", "stdio__echo"] {
            assert_eq!(echo(&client, tool, "hello").await?, "hello");
        }
        // A long call is under way while the file changes, and ends well.
        let lasting = client.call_tool(call("http__sleep", json!({ "ms": 1500 })));
        let change = async {
            let more = document.clone().with(demo::stdio("more", "more", &scratch)?);
            file.replace(&more.yaml())?;
            timeout(LIMIT, changed.changed()).await??;
            assert_eq!(echoing(&client).await?, ["http__echo", "more__echo", "stdio__echo"]);
            assert_eq!(echo(&client, "more__echo", "new").await?, "new");
            Ok::<_, Fault>(Instant::now())
        };
        let (lasting, changed_at) = tokio::join!(async { (lasting.await, Instant::now()) }, change);
        assert!(changed_at? < lasting.1, "the change waited for a call");
        assert_eq!(lasting.0?.is_error, Some(false));
        // Once a change, not once a server or a tool.
        assert_eq!(*changed.borrow_and_update(), 1);
        client.cancel().await?;
        Ok(())
    })
}

type Client = RunningService<RoleClient, Listener>;

async fn echoing(client: &Client) -> Result<Vec<String>, Fault> {
    let names = client.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with("__echo")).collect();
    names.sort();
    Ok(names)
}

async fn echo(client: &Client, tool: &str, text: &str) -> Result<String, Fault> {
    let result = client.call_tool(call(tool, json!({ "text": text }))).await?;
    let text = result.content.first().and_then(|content| content.as_text());
    text.map(|text| text.text.clone()).ok_or_else(|| fault("no text"))
}

fn call(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { unreachable!("all callers give an object") };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}
