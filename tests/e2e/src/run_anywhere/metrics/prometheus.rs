//! A Prometheus of the operating system, scraping the processes under test.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::Duration,
};

use testkit::{Fault, Scratch, Services, Supervised, binaries, client::http_get, fault, services::Kind, wait};

use super::check;

const START: Duration = Duration::from_secs(30);

/// Killed at the end.
#[derive(Debug)]
pub(super) struct Prometheus {
    _process: Supervised,
    pub(super) url: String,
    targets: usize,
}

impl Prometheus {
    /// With what is shipped, the addresses and the interval of scrapes aside.
    pub(super) fn start(programs: &Path, services: &Services, scratch: &Scratch) -> Result<Self, Fault> {
        let folder = binaries::checkout().join("deploy/observability/prometheus");
        let quoted = |address: SocketAddr| format!("\"{address}\"");
        let routers: Vec<_> = services.routers.iter().map(|router| quoted(router.ops)).collect();
        let control = |kind| quoted(services.service(kind).ops);
        let replacements = [
            ("\"127.0.0.1:9451\"", control(Kind::ConfigManager)),
            ("\"127.0.0.1:9452\"", routers.join(", ")),
            ("\"127.0.0.1:9453\"", control(Kind::HealthMonitor)),
            ("\"127.0.0.1:9454\"", control(Kind::DrainCoordinator)),
            ("_interval: 15s", "_interval: 1s".to_owned()),
            ("rules/*.yml", folder.join("rules/*.yml").display().to_string()),
        ];
        let mut config = fs::read_to_string(folder.join("prometheus.yml"))?;
        for (shipped, here) in replacements {
            if !config.contains(shipped) {
                return Err(fault(format!("the shipped prometheus.yml lacks {shipped}")));
            }
            config = config.replace(shipped, &here);
        }
        let path = scratch.file("prometheus.yml");
        fs::write(&path, config)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(programs.join("prometheus"));
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", scratch.folder("tsdb")?.display()));
        command.args([&format!("--web.listen-address={address}"), "--enable-feature=exemplar-storage"]);
        let process = Supervised::start("prometheus", &mut command, &scratch.folder("logs")?)?;
        let prometheus = Self { _process: process, url: format!("http://{address}"), targets: 3 + routers.len() };
        wait::until_true("prometheus to be ready", START, || {
            http_get(address, "/-/ready").is_ok_and(|(status, _)| status == 200)
        })?;
        prometheus.wait_scraped()?;
        Ok(prometheus)
    }

    /// Waits until each process was scraped from now on.
    pub(super) fn wait_scraped(&self) -> Result<(), Fault> {
        check(&["scraped", &self.url, &self.targets.to_string()]).map(drop)
    }
}
