//! What `scripts/dist` makes can be unpacked, and what is in it runs.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{Fault, Scratch, binaries, fault, left_out};

#[test]
fn what_users_install_runs() -> Result<(), Fault> {
    let scratch = Scratch::new("packages")?;
    let out = scratch.folder("out")?;
    // The programs of the tests, because those of `dist` take long to build.
    binaries::path("only1mcp")?;
    let script = binaries::checkout().join("scripts/dist");
    run(Command::new(script).env("PROGRAMS", binaries::folder()?).env("OUT", &out))?;

    let unpacked = scratch.folder("tarball")?;
    run(Command::new("tar").arg("-xzf").arg(ending(&out, "tar.gz")?).arg("-C").arg(&unpacked))?;
    let folder = fs::read_dir(&unpacked)?.next().ok_or_else(|| fault("the tarball is empty"))??.path();
    for program in ["only1mcp", "config-manager", "router", "health-monitor", "drain-coordinator"] {
        says_its_version(&folder.join("bin").join(program))?;
    }
    let manual = fs::read_to_string(folder.join("man/only1mcp-status.1"))?;
    let completions = ["bash", "fish", "zsh"].map(|shell| folder.join(format!("completions/only1mcp.{shell}")));
    let complete = completions.iter().all(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("rollback")));
    if !complete || !manual.contains(".TH") {
        return Err(fault("the manual or the completions say nothing"));
    }

    if let Some(package) = made(&out, "deb", "dpkg-deb")? {
        let root = scratch.folder("deb")?;
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root))?;
        for program in ["usr/bin/only1mcp", "usr/libexec/only1mcp/router"] {
            says_its_version(&root.join(program))?;
        }
    }
    if let Some(package) = made(&out, "tgz", "npm")? {
        let home = scratch.folder("npm")?;
        run(Command::new("npm").args(["install", "--offline", "--silent", "--prefix"]).arg(&home).arg(package))?;
        says_its_version(&home.join("node_modules/.bin/only1mcp"))?;
    }
    Ok(())
}

fn says_its_version(program: &Path) -> Result<(), Fault> {
    let said = run(Command::new(program).arg("--version"))?;
    let right = said.trim_end().ends_with(env!("CARGO_PKG_VERSION"));
    if right { Ok(()) } else { Err(fault(format!("{} says {said:?}", program.display()))) }
}

/// The package, unless the machine lacks the program that makes it.
fn made(out: &Path, ending_: &str, maker: &str) -> Result<Option<PathBuf>, Fault> {
    if Command::new(maker).arg("--version").output().is_err() {
        left_out(&format!("the package that {maker} makes"))?;
        return Ok(None);
    }
    ending(out, ending_).map(Some)
}

fn ending(folder: &Path, ending: &str) -> Result<PathBuf, Fault> {
    let paths = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = paths.filter(|path| path.to_string_lossy().ends_with(&format!(".{ending}")));
    found.next().ok_or_else(|| fault(format!("no package .{ending}")))
}

fn run(command: &mut Command) -> Result<String, Fault> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    Err(fault(format!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))))
}
