//! A panic ends the program, and says where it was.

use std::any::Any;
use std::panic::PanicHookInfo;

use kube_ipvs_core::escape::Escaped;
use kube_ipvs_source::tasks;

use crate::streams;

/// Exit code of a program with a fault of its own (`EX_SOFTWARE`).
pub const FAULT: u8 = 70;

/// From now on a panic of any thread, a library's too, ends the program with a
/// message and the code [`FAULT`].
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let message = describe(panic);
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{message}");
        } else {
            streams::complain(format_args!("kube-ipvs: {}", Escaped(&message)));
        }
        std::process::exit(FAULT.into());
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = match tasks::current() {
        Some(task) => format!("task {task}"),
        None => format!("thread {}", thread.name().unwrap_or("without a name")),
    };
    let at = panic.location().map(ToString::to_string);
    format!(
        "{place} panicked at {}: {}; this is a fault of kube-ipvs, please report it; what is in the kernel serves on",
        at.as_deref().unwrap_or("an unknown place"),
        said(panic.payload())
    )
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use kube_ipvs_source::tasks::Tasks;

    use super::*;

    /// Runs one of the programs below and gives its code and what it said.
    fn program(name: &str) -> (Option<i32>, String) {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", &format!("panics::tests::{name}")])
            .args(["--ignored", "--nocapture"])
            .output()
            .expect("run it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    #[test]
    fn a_panic_ends_the_program_and_names_task_and_reason() {
        let (code, said) = program("program_whose_task_panics");

        assert_eq!(code, Some(FAULT.into()), "{said}");
        assert!(
            said.contains("task watch of services panicked at "),
            "{said}"
        );
        assert!(said.contains(": lost 7\\nplaces; "), "{said}");
    }

    #[test]
    fn a_panic_of_a_thread_ends_the_program_and_names_the_thread() {
        let (code, said) = program("program_whose_thread_panics");

        assert_eq!(code, Some(FAULT.into()), "{said}");
        assert!(said.contains("thread kernel panicked at "), "{said}");
    }

    #[tokio::test]
    #[ignore = "ends the process: run by the tests above"]
    async fn program_whose_task_panics() {
        exit_on_panic();
        let places = 7;
        let _task = Tasks::unwatched().spawn("watch of services", async move {
            panic!("lost {places}\nplaces")
        });
        std::future::pending().await
    }

    #[test]
    #[ignore = "ends the process: run by the tests above"]
    fn program_whose_thread_panics() {
        exit_on_panic();
        let thread = Tasks::thread("kernel", || panic!("on purpose")).expect("a thread");
        _ = thread.join();
        std::thread::park();
    }
}
