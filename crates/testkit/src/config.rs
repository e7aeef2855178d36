//! Configuration files as tests write them, and the two ways in which people write files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

/// A configuration file on disk.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    pub fn create(path: PathBuf, text: &str) -> io::Result<Self> {
        fs::write(&path, text)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As careful editors and deployments do: the whole file moves onto the name.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        let beside = self.path.with_extension("next");
        fs::write(&beside, text)?;
        fs::rename(beside, &self.path)
    }

    /// As `echo > file` does: emptied, then filled.
    pub fn overwrite(&self, text: &str) -> io::Result<()> {
        fs::write(&self.path, text)
    }
}

/// The content of a configuration.
#[derive(Clone, Debug)]
pub struct Document {
    naming: &'static str,
    keys: Vec<(String, Value)>,
    servers: Vec<Server>,
}

impl Default for Document {
    fn default() -> Self {
        Self { naming: "prefix", keys: Vec::new(), servers: Vec::new() }
    }
}

impl Document {
    pub fn naming(mut self, naming: &'static str) -> Self {
        self.naming = naming;
        self
    }

    /// A top-level key besides `version`, `naming` and `servers`.
    pub fn key(mut self, name: &str, value: Value) -> Self {
        self.keys.retain(|(known, _)| known != name);
        self.keys.push((name.to_owned(), value));
        self
    }

    pub fn with(mut self, server: Server) -> Self {
        self.put(server);
        self
    }

    /// Adds a server, or replaces the one of the same id in its place.
    pub fn put(&mut self, server: Server) {
        match self.servers.iter_mut().find(|known| known.id == server.id) {
            Some(known) => *known = server,
            None => self.servers.push(server),
        }
    }

    pub fn remove(&mut self, id: &str) {
        self.servers.retain(|server| server.id != id);
    }

    pub fn has(&self, id: &str) -> bool {
        self.servers.iter().any(|server| server.id == id)
    }

    /// Values are written as JSON, which YAML includes.
    pub fn yaml(&self) -> String {
        let mut text = format!("version: \"1.0\"\nnaming: {}\n", self.naming);
        for (name, value) in &self.keys {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(if self.servers.is_empty() { "servers: []\n" } else { "servers:\n" });
        for server in &self.servers {
            text.push_str(&format!("  - {}\n", server.value()));
        }
        text
    }
}

/// One entry of `servers`.
#[derive(Clone, Debug)]
pub struct Server {
    id: String,
    transport: Map<String, Value>,
    keys: Map<String, Value>,
}

impl Server {
    pub fn http(id: &str, url: &str) -> Self {
        Self::new(id, json!({ "type": "http", "url": url }))
    }

    pub fn stdio(id: &str, command: &Path, args: &[&str]) -> Self {
        Self::new(id, json!({ "type": "stdio", "command": command, "args": args }))
    }

    fn new(id: &str, transport: Value) -> Self {
        let Value::Object(transport) = transport else { unreachable!("both callers give an object") };
        Self { id: id.to_owned(), transport, keys: Map::new() }
    }

    /// The same under another id.
    pub fn named(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// A key of the transport, such as `headers`.
    pub fn transport(mut self, name: &str, value: Value) -> Self {
        self.transport.insert(name.to_owned(), value);
        self
    }

    /// An environment variable of a stdio server.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let env = self.transport.entry("env").or_insert_with(|| json!({}));
        env[name] = value.into();
        self
    }

    /// A key of the server, such as `critical`.
    pub fn key(mut self, name: &str, value: Value) -> Self {
        self.keys.insert(name.to_owned(), value);
        self
    }

    fn value(&self) -> Value {
        let mut server = self.keys.clone();
        server.insert("id".to_owned(), self.id.as_str().into());
        server.insert("transport".to_owned(), self.transport.clone().into());
        server.into()
    }
}
