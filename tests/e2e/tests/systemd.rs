//! The programs under a service manager: the messages they send, the sockets they take, and the units that are shipped.

#[path = "systemd/manager.rs"]
mod manager;
#[path = "systemd/notified.rs"]
mod notified;
#[path = "systemd/restarted.rs"]
mod restarted;
#[path = "systemd/units.rs"]
mod units;
#[path = "systemd/upgraded.rs"]
mod upgraded;
