//! A gateway that keeps its state where it was told to, and the commands, which are not told.

use std::fs;

use super::Home;

#[test]
fn a_gateway_whose_state_is_elsewhere_is_found_from_everywhere() {
    let (home, elsewhere) = (Home::new(), tempfile::tempdir().unwrap());
    let folder = |name: &str| elsewhere.path().join(name).display().to_string();
    let links = || fs::read_dir(home.path().join(".local/state/only1mcp/elsewhere")).unwrap().count();
    let (first, second) = (folder("first"), folder("second"));
    let up = home.up(&["--state-dir", &first]);
    assert!(up.ready.ends_with("revision 1\n"), "{}{}", up.ready, up.said());
    assert_eq!(home.run(&["call", "calculator__add", r#"{"a": 40, "b": 2}"#]).1, "42\n");
    let (code, out, err) = home.run(&["status"]);
    assert!(code == 0 && out.contains(&first), "{code}: {out}{err}");

    // Of two, one has to be named.
    let other = home.up(&["--state-dir", &second]);
    let (code, _, err) = home.run(&["status"]);
    assert!(code == 64 && err.contains("2 gateways run") && err.contains(&first) && err.contains(&second), "{err}");
    assert_eq!(home.run(&["status", "--state-dir", &second]).0, 0);
    assert_eq!(other.stop(), 0);
    assert_eq!(links(), 1, "one that ends takes back what it said");
    assert_eq!(home.run(&["status"]).0, 0);

    // A gateway that is killed cannot.
    drop(up);
    assert_eq!(links(), 1);
    assert_eq!(home.run(&["status"]).0, 69);
    assert_eq!(links(), 0);
}

#[test]
fn the_gateway_of_a_file_is_found_wherever_its_state_is() {
    let (home, elsewhere) = (Home::new(), tempfile::tempdir().unwrap());
    let text = |id: &str| {
        let program = env!("CARGO_BIN_EXE_only1mcp");
        format!(
            "servers:\n- {{ id: {id}, transport: {{ type: stdio, command: {program}, args: [demo-server, --stdio] }} }}\n"
        )
    };
    fs::write(home.path().join("shop.yaml"), text("shop")).unwrap();
    fs::write(home.path().join("bank.yaml"), text("bank")).unwrap();
    let state = elsewhere.path().join("state").display().to_string();
    let up = home.up(&["--config", "shop.yaml", "--state-dir", &state]);
    let bank = home.up(&["--config", "bank.yaml"]);
    let tools = |more: &[&str]| home.run(&[&["tools"][..], more].concat());
    assert!(tools(&["--config", "shop.yaml"]).1.contains("shop__add"));
    assert!(tools(&["--config", "bank.yaml"]).1.contains("bank__add"));
    assert!(tools(&[]).2.contains("2 gateways run"));
    assert_eq!(up.stop(), 0);
    let (code, _, err) = home.run(&["status", "--config", "shop.yaml"]);
    assert!(code == 69 && err.contains("these run:") && err.contains("bank.yaml"), "{code}: {err}");
    assert_eq!(bank.stop(), 0);
}
