//! Panics of a run, also those that tokio keeps to the task they happened in: role code never panics, so one is a failure.

use std::{
    cell::RefCell,
    panic::{self, PanicHookInfo},
    sync::Once,
};

thread_local! {
    /// A run stays on one thread.
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Forgets earlier panics of this thread, and watches for the next.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            usual(info);
        }));
    });
    FIRST.take();
}

/// Fails with the first panic since then.
pub(crate) fn none() -> Result<(), String> {
    FIRST.with_borrow(Clone::clone).map_or(Ok(()), Err)
}

fn note(info: &PanicHookInfo<'_>) {
    let said = info.payload_as_str().unwrap_or("something that is no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!("panicked at {place}: {said}");
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(|| format!("panicked at {place}: {said}"));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_task_is_noticed() {
        watch();
        assert_eq!(none(), Ok(()));
        let _alone = crate::scenario::alone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = runtime.spawn(async { panic!("the {} is on fire", "disk") });
        assert!(runtime.block_on(task).unwrap_err().is_panic());
        let found = none().unwrap_err();
        assert!(found.starts_with("panicked at sim/src/panics.rs:"), "{found}");
        assert!(found.ends_with(": the disk is on fire"), "{found}");
        watch();
        assert_eq!(none(), Ok(()));
    }
}
