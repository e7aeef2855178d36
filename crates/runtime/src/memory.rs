//! The allocator of every program: jemalloc. glibc's malloc fragments over its per-thread arenas: a storm of changes
//! took 1.4 times the memory and a change 1.5 times the CPU.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc at its first allocation. Threads share a few heaps, and what was freed goes back to the system as
/// the program allocates on, about half a second later; what is larger than 1 MiB, as large answers are, goes back at
/// once. `_RJEM_MALLOC_CONF` in the environment overrides it.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
#[expect(unsafe_code, reason = "jemalloc looks for the symbol; the text ends with a zero, and lives for ever")]
static OPTIONS: &[u8; 73] = b"narenas:4,dirty_decay_ms:500,muzzy_decay_ms:0,oversize_threshold:1048576\0";
