//! Locks, atomic files and socket paths on a real file system.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_second_lock_names_the_holder_and_the_first_release_frees_it() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("a/b");
    let first = StateDir::lock(&path).unwrap();
    let refused = StateDir::lock(&path).unwrap_err();
    assert!(matches!(refused, LockError::Held { pid, .. } if pid == Some(std::process::id())), "{refused}");
    drop(first);
    assert_eq!(StateDir::lock(&path).unwrap().file("x"), path.join("x"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_a_killed_process_leaves_locked_for_a_moment_is_waited_for() {
    let base = tempfile::tempdir().unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let mut lock = File::create_new(base.path().join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    writeln!(lock, "{}", gone.id()).unwrap();
    let (mut held, mut looks) = (Some(lock), 0);
    let state = StateDir::lock_between(base.path().to_owned(), || {
        looks += 1;
        held.take_if(|_| looks == 3);
    });
    drop(state.unwrap());
    assert_eq!(looks, 3);

    // The lock of a live process is not waited for.
    let mut lives = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut lock = File::create(base.path().join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    writeln!(lock, "{}", lives.id()).unwrap();
    let refused =
        StateDir::lock_between(base.path().to_owned(), || panic!("nobody waits for one that lives")).unwrap_err();
    assert!(matches!(refused, LockError::Held { pid, .. } if pid == Some(lives.id())), "{refused}");
    lives.kill().unwrap();
    lives.wait().unwrap();
}

#[test]
fn atomic_writes_replace_or_leave_and_never_litter() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("snapshot");
    assert!(create_atomic(&path, b"one", 0o600).unwrap());
    assert!(!create_atomic(&path, b"two", 0o600).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"one");
    write_atomic(&path, b"three", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let directory = base.path().join("taken");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("x"), "").unwrap();
    write_atomic(&directory, b"", 0o600).unwrap_err();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_long_state_path_moves_only_the_socket() {
    let short = Path::new("/var/lib/only1mcp");
    assert_eq!(socket_path(short, "admin.sock"), short.join("admin.sock"));
    let long = PathBuf::from(format!("/{}", "x".repeat(120)));
    let moved = socket_path(&long, "admin.sock");
    assert!(moved.as_os_str().len() <= SOCKET_PATH_MAX && !moved.starts_with(&long), "{moved:?}");
    assert_ne!(moved, socket_path(&long.join("y"), "admin.sock"));
}
