//! Scheduling priority.

/// Lowers this process to the lowest niceness. It cannot fail in a way that matters: the process
/// merely keeps the priority it has.
pub fn lower() {
    // SAFETY: no memory is passed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}
