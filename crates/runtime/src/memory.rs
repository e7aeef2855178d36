//! What this process asks of the allocator of its system.

/// From this size on, memory is taken from the system for itself and goes back to it when it is not used any more. By
/// itself the C library of Linux raises this with what it sees, up to 32 MiB: a few large messages would then be kept
/// for ever, once per thread. For small ones nothing changes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: i32 = 256 << 10;
/// How much unused memory may stay at the end of what small pieces are taken from.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1 << 20;

/// Makes large pieces go back to the system when they are given up.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other door; it takes two numbers, and any thread may call it")]
pub fn give_back() {
    // A refusal leaves things as they were.
    // SAFETY: `mallopt` takes no pointers and locks what it changes.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Gives back what was taken in many small pieces and is not used any more. Takes milliseconds: for after something large.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "as above")]
pub fn trim() {
    // SAFETY: `malloc_trim` takes no pointers and locks what it changes.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Elsewhere the allocator does so by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

/// Elsewhere the allocator does so by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}
