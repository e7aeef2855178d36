//! The units that are shipped: systemd understands them, and the programs understand their command lines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{Fault, Scratch, binaries, fault, left_out};

/// Where packages put the programs.
const PLACES: [&str; 2] = ["/usr/libexec/only1mcp/", "/usr/bin/"];
/// Of 100, as `systemd-analyze security` weighs it. What starts other people's servers cannot be as strict.
const EXPOSURE_MAX: [(&str, u8); 2] = [("only1mcp.service", 30), ("only1mcp-router.service", 30)];
const EXPOSURE_MAX_OF_OTHERS: u8 = 15;

fn units(folder: &str) -> Result<Vec<PathBuf>, Fault> {
    let folder = binaries::checkout().join("deploy/systemd").join(folder);
    let paths = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, Fault>>()?;
    let is_unit = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "service" || kind == "socket");
    let units: Vec<_> = paths.into_iter().filter(is_unit).collect();
    if units.is_empty() { Err(fault(format!("no units in {}", folder.display()))) } else { Ok(units) }
}

/// Copies of the units in `folder` that name the programs of this build.
fn built(scratch: &Scratch, folder: &str) -> Result<Vec<PathBuf>, Fault> {
    let target = scratch.folder(if folder.is_empty() { "system" } else { folder })?;
    let copy = |unit: PathBuf| {
        let mut text = fs::read_to_string(&unit)?;
        for program in programs(&text) {
            text = text.replace(&program, &binaries::path(name(&program))?.display().to_string());
        }
        let copy = target.join(unit.file_name().unwrap_or_default());
        fs::write(&copy, text)?;
        Ok(copy)
    };
    units(folder)?.into_iter().map(copy).collect()
}

/// The command lines of a unit.
fn command_lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).map(|line| line.split_whitespace().collect())
}

fn programs(text: &str) -> Vec<String> {
    command_lines(text).filter_map(|words| words.first().map(|program| (*program).to_owned())).collect()
}

fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[test]
fn every_flag_of_a_unit_is_one_of_its_program() -> Result<(), Fault> {
    let mut services = 0;
    for unit in [units("")?, units("user")?].concat() {
        let text = fs::read_to_string(&unit)?;
        for words in command_lines(&text) {
            let program = words[0];
            assert!(PLACES.iter().any(|place| program.strip_prefix(place) == Some(name(program))), "{program}");
            let commands = words[1..].iter().take_while(|word| !word.starts_with('-'));
            let help = Command::new(binaries::path(name(program))?).args(commands).arg("--help").output()?;
            let help = String::from_utf8_lossy(&help.stdout).into_owned();
            let known: Vec<&str> = help.split_whitespace().collect();
            for flag in words.iter().filter(|word| word.starts_with('-')) {
                assert!(known.contains(flag), "{}: {program} has no {flag}", unit.display());
            }
            services += 1;
        }
    }
    assert_eq!(services, 6, "five services, and one for users");
    Ok(())
}

#[test]
fn systemd_understands_every_unit() -> Result<(), Fault> {
    let analyze = "systemd-analyze";
    // Versions without this cannot look at units that are not installed.
    let help = Command::new(analyze).arg("--help").output().map(|help| help.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&help).contains("--offline") {
        return left_out("whether systemd understands the units; systemd-analyze 250 (package systemd) is not here");
    }
    let scratch = Scratch::new("units")?;
    let (system, user) = (built(&scratch, "")?, built(&scratch, "user")?);
    run(Command::new(analyze).arg("verify").args(&system))?;
    // Outside of a session there is no such directory.
    let runtime = scratch.folder("runtime")?;
    run(Command::new(analyze).env("XDG_RUNTIME_DIR", runtime).args(["--user", "verify"]).args(&user))?;
    for unit in system.iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        let file = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = EXPOSURE_MAX.iter().find(|(known, _)| *known == file);
        let most = known.map_or(EXPOSURE_MAX_OF_OTHERS, |(_, most)| *most);
        run(Command::new(analyze).args(["security", "--offline=true"]).arg(format!("--threshold={most}")).arg(unit))?;
    }
    Ok(())
}

/// Runs it, and wants it to succeed with no complaint.
fn run(command: &mut Command) -> Result<(), Fault> {
    let output = command.env("SYSTEMD_COLORS", "0").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        return Ok(());
    }
    let rating = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    Err(fault(format!("{command:?}: {said}{rating}")))
}

#[test]
fn a_socket_unit_names_its_socket_as_the_programs_do() -> Result<(), Fault> {
    for unit in [units("")?, units("user")?].concat() {
        let text = fs::read_to_string(&unit)?;
        if unit.extension() == Some("socket".as_ref()) {
            assert!(text.contains("\nFileDescriptorName=mcp\n"), "{}", unit.display());
            let service = text.lines().find_map(|line| line.strip_prefix("Service="));
            let service = service.map(|service| unit.parent().unwrap_or_else(|| Path::new("")).join(service));
            assert!(service.is_some_and(|service| service.is_file()), "{}", unit.display());
        }
    }
    Ok(())
}
