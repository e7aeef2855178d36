//! Settings of the system's allocator for this process.

/// From this size on, an allocation is mapped separately, and goes back to the system when it is freed. By default the
/// C library of Linux raises this threshold with the sizes it sees, up to 32 MiB: a few large messages would then be
/// kept for ever, once per thread. For small allocations nothing changes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: i32 = 256 << 10;
/// How much unused memory may stay at the end of the heap of small allocations.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1 << 20;

/// Makes large allocations go back to the system when they are freed, and has threads share heaps: by default there may be
/// eight for each core, and each keeps what its threads needed once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other door; it takes two numbers, and any thread may call it")]
pub fn give_back() {
    // One for each thread that can run at the same time, and one more.
    let heaps = std::thread::available_parallelism().map_or(1, |cores| cores.get()).saturating_add(1);
    // A refusal leaves things as they were.
    // SAFETY: `mallopt` takes no pointers and locks what it changes.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, i32::try_from(heaps).unwrap_or(i32::MAX));
    }
}

/// Gives the unused memory of small allocations back to the system. Takes milliseconds: to be called after large work.
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
