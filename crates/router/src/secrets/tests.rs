//! References become values, values never show, and a file that cannot be read holds up nothing.

use std::path::Path;

use super::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn resolve(place: &str, text: &str) -> Result<Secret, SecretError> {
    block_on(Secrets::of_texts([text].into_iter(), READ_LIMIT)).resolve(place, text)
}

fn of_file(path: &Path) -> Result<Secret, SecretError> {
    resolve("env.TOKEN", &format!("${{file:{}}}", path.display()))
}

#[test]
fn values_are_found_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "s3cret\r\n").unwrap();
    let text = format!("Bearer ${{file:{}}} $${{kept}}", file.display());
    let secret = resolve("headers.Authorization", &text).unwrap();
    assert_eq!(secret.expose(), "Bearer s3cret ${kept}");
    let read = block_on(Secrets::of_texts([text.as_str()].into_iter(), READ_LIMIT));
    assert!(format!("{secret:?} {read:?}").contains("***") && !format!("{secret:?} {read:?}").contains("s3cret"));
    assert!(resolve("env.HOME", "${env:PATH}").unwrap().expose().contains('/'));
    // As Kubernetes mounts them.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(of_file(&link).unwrap().expose(), "s3cret");
}

#[test]
fn what_cannot_be_found_is_named_by_reference() {
    let check = |text: &str, expected: &str| {
        assert_eq!(resolve("env.TOKEN", text).unwrap_err().to_string(), expected);
    };
    check("x${env:ONLY1MCP_NO_SUCH}y", "env.TOKEN: `${env:ONLY1MCP_NO_SUCH}` is not set in the router's environment");
    check(
        "${file:/nonexistent/secret}",
        "env.TOKEN: `${file:/nonexistent/secret}` cannot be read by the router: entity not found",
    );
}

#[test]
fn only_a_regular_file_of_some_length_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: FileFault| {
        let SecretError::Unreadable { fault, .. } = of_file(path).unwrap_err() else { panic!("another error") };
        assert_eq!(fault, expected, "{}", path.display());
    };
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check(&fifo, FileFault::NotRegular("a FIFO"));
    check(Path::new("/dev/zero"), FileFault::NotRegular("a device"));
    check(
        Path::new("/dev/tty"),
        match std::fs::File::open("/dev/tty") {
            Ok(_) => FileFault::NotRegular("a device"),
            Err(error) => FileFault::Io(error.kind()),
        },
    );
    check(directory.path(), FileFault::NotRegular("a directory"));
    let long = directory.path().join("long");
    let file = std::fs::File::create(&long).unwrap();
    file.set_len((1 << 20) + 1).unwrap();
    check(&long, FileFault::TooLong);
    file.set_len(1 << 20).unwrap();
    assert_eq!(of_file(&long).unwrap().expose().len(), 1 << 20);
    std::fs::write(&long, [0xff]).unwrap();
    assert!(matches!(of_file(&long), Err(SecretError::NotText { .. })));
}
