//! Which threads come first when the processors are fully used.

use tokio::runtime::{Builder, Runtime};

/// A runtime for long work that other work must not wait for: at most `most` threads, used through `spawn_blocking`.
/// They make way for the serving threads, which share their processors.
pub fn threads_that_make_way(name: &str, most: usize) -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.thread_name(name).max_blocking_threads(most).on_thread_start(make_way);
    builder.build().expect("a runtime without drivers asks nothing of the system")
}

/// The niceness of a thread that others must not wait for. The thread still runs: where serving threads use all the
/// time, it gets a tenth of what one of them gets.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// The slice that such a thread asks for, in nanoseconds: the most that Linux takes. A thread that wakes up with a
/// shorter slice, as every thread has by default, preempts it at once. With slices alike, the one that wakes up waits
/// for the next tick, up to four milliseconds, even if the running thread is nicer.
#[cfg(target_os = "linux")]
const SLICE: u64 = 100_000_000;

/// From now on the calling thread, and no other, makes way for the others of this process.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe call is for one thread; these two concern the one that calls")]
fn make_way() {
    use nix::libc;
    let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    let wanted = libc::sched_attr {
        size,
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: NICE,
        sched_priority: 0,
        // Linux before 6.12 does not look at it.
        sched_runtime: SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // If the system refuses, nothing changes.
    // SAFETY: the system reads `wanted`, which says its size and outlives the call; 0 is the calling thread.
    unsafe {
        if libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
    }
}

/// On other systems, priorities are left to the system.
#[cfg(not(target_os = "linux"))]
fn make_way() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    /// As the system shows it: the 19th field, which is counted after the name in parentheses.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_makes_way_alone() {
        let before = niceness();
        let nicer = std::thread::spawn(|| {
            super::make_way();
            niceness()
        });
        assert_eq!((nicer.join().unwrap(), niceness()), (super::NICE, before));
    }
}
