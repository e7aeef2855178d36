//! Servers on stdio: calls to them, and their processes.
//!
//! One program plays all parts, by its arguments: the keeper, the server it keeps, a router to be killed, and the test.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "all of this is a test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a server, a program and a test harness, too")]

#[path = "upstream_stdio/bench.rs"]
mod bench;
#[path = "upstream_stdio/bounds.rs"]
mod bounds;
#[path = "upstream_stdio/calls.rs"]
mod calls;
#[path = "upstream_stdio/one_at_a_time.rs"]
mod one_at_a_time;
#[path = "upstream_stdio/server.rs"]
mod server;
#[path = "upstream_stdio/trees.rs"]
mod trees;
#[path = "upstream_stdio/unreadable.rs"]
mod unreadable;

use std::panic::catch_unwind;
use std::process::ExitCode;

use tokio::time::Instant;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

const TESTS: &[(&str, fn())] = &[
    ("the_listing_has_all_pages", || run(calls::the_listing_has_all_pages())),
    ("answers_out_of_order_find_their_callers", || run(calls::answers_out_of_order_find_their_callers())),
    ("names_tokens_and_traces_are_replaced_and_restored", || {
        run(calls::names_tokens_and_traces_are_replaced_and_restored());
    }),
    ("a_dropped_call_is_cancelled_at_the_server", || run(calls::a_dropped_call_is_cancelled_at_the_server())),
    ("what_the_server_asks_is_answered_here", || run(calls::what_the_server_asks_is_answered_here())),
    ("a_crash_fails_what_was_sent_and_holds_what_comes", || {
        run(calls::a_crash_fails_what_was_sent_and_holds_what_comes());
    }),
    ("failures_to_start_say_why_to_operators_alone", || run(calls::failures_to_start_say_why_to_operators_alone())),
    ("a_child_sees_only_its_own_environment", || run(calls::a_child_sees_only_its_own_environment())),
    ("a_restart_fails_what_was_sent_and_holds_what_comes", || {
        run(calls::a_restart_fails_what_was_sent_and_holds_what_comes());
    }),
    ("who_asks_without_reading_is_ended", || run(bounds::who_asks_without_reading_is_ended())),
    ("who_asks_faster_than_it_reads_is_heard_as_fast_as_it_reads", || {
        run(bounds::who_asks_faster_than_it_reads_is_heard_as_fast_as_it_reads());
    }),
    ("a_flood_of_one_server_is_no_matter_of_another", || run(bounds::a_flood_of_one_server_is_no_matter_of_another())),
    ("what_nobody_can_read_is_the_error_of_its_call", || {
        run(unreadable::what_nobody_can_read_is_the_error_of_its_call())
    }),
    ("what_is_read_all_the_same", || run(unreadable::what_is_read_all_the_same())),
    ("of_several_calls_the_one_that_waits_in_vain_is_told", || {
        run(unreadable::of_several_calls_the_one_that_waits_in_vain_is_told());
    }),
    ("what_a_call_that_was_given_up_may_mean_reaches_no_other", || {
        run(unreadable::what_a_call_that_was_given_up_may_mean_reaches_no_other());
    }),
    ("a_line_is_waited_for_and_named_until_it_ends", || {
        run(unreadable::a_line_is_waited_for_and_named_until_it_ends());
    }),
    ("a_line_that_began_before_the_call_or_is_long_is_named_too", || {
        run(unreadable::a_line_that_began_before_the_call_or_is_long_is_named_too());
    }),
    ("what_was_given_up_before_it_was_written_is_never_written", || {
        run(bounds::what_was_given_up_before_it_was_written_is_never_written());
    }),
    ("of_a_line_that_no_call_waits_for_little_is_kept", || {
        run(bounds::of_a_line_that_no_call_waits_for_little_is_kept());
    }),
    ("a_line_without_an_end_makes_way_for_the_answers_of_others", || {
        run(bounds::a_line_without_an_end_makes_way_for_the_answers_of_others());
    }),
    ("an_answer_that_finds_no_room_in_time_is_lost_alone", || {
        run(bounds::an_answer_that_finds_no_room_in_time_is_lost_alone());
    }),
    ("initialize_fails_at_once", || run(unreadable::initialize_fails_at_once())),
    ("stdout_is_not_called_stderr", || run(unreadable::stdout_is_not_called_stderr())),
    ("arguments_stand_in_the_process_list_once", || run(calls::arguments_stand_in_the_process_list_once())),
    ("a_child_has_no_descriptor_of_somebody_else", || run(calls::a_child_has_no_descriptor_of_somebody_else())),
    ("a_process_that_was_given_up_is_gone_before_the_next_starts", || {
        run(one_at_a_time::a_process_that_was_given_up_is_gone_before_the_next_starts());
    }),
    ("an_endpoint_that_connects_has_ended_when_its_process_has", || {
        run(one_at_a_time::an_endpoint_that_connects_has_ended_when_its_process_has());
    }),
    ("a_process_that_cannot_be_started_is_given_up", || {
        run(one_at_a_time::a_process_that_cannot_be_started_is_given_up());
    }),
    ("a_tree_ends_when_its_endpoint_does", trees::a_tree_ends_when_its_endpoint_does),
    ("a_tree_ends_when_its_router_is_killed", trees::a_tree_ends_when_its_router_is_killed),
    ("a_tree_ends_when_its_keeper_is_killed", trees::a_tree_ends_when_its_keeper_is_killed),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let count = || arguments[2].parse().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some(_) if router::keeper::is_keeper(std::env::args_os()) => return router::keeper::main(),
        Some("serve") => server::serve(count()),
        Some("hold") => trees::hold(count()),
        filter => return run_all(filter.filter(|text| !text.starts_with('-')).unwrap_or_default()),
    }
    ExitCode::SUCCESS
}

/// Runs the tests as cargo's own harness would, but one after the other: they look at the processes of this machine.
fn run_all(filter: &str) -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(filter)) {
        let begun = Instant::now();
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {} ({} ms)", if passed { "ok" } else { "FAILED" }, begun.elapsed().as_millis());
        failed |= !passed;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
