//! A panic is a line of the log like any other, with the ids of what it happened in.

use std::any::Any;
use std::backtrace::Backtrace;

/// Makes panics lines of the log. Where errors are not logged, they are printed as ever.
pub(crate) fn to_the_log() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return before(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        // As `RUST_BACKTRACE` asks for it.
        let backtrace = match Backtrace::capture() {
            backtrace if backtrace.status() == std::backtrace::BacktraceStatus::Captured => Some(backtrace.to_string()),
            _ => None,
        };
        tracing::error!(panic = said(panic.payload()), place, thread, backtrace, "the program panicked");
    }));
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
