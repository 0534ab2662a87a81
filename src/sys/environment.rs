//! The environment variables by which systemd passes descriptors.

/// How many descriptors from 3 on systemd passed to this very process (sd_listen_fds(3)). What
/// was meant for another is forgotten, for libcontainer would hand on as many.
pub fn listen_fds() -> i32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u16>().ok();
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let count = number("LISTEN_FDS").filter(|_| ours);
    if count.is_none() {
        forget("LISTEN_FDS");
    }
    count.unwrap_or(0).into()
}

#[allow(clippy::disallowed_methods)]
fn forget(name: &str) {
    // SAFETY: called while the process has a single thread, so nobody reads the environment.
    unsafe { std::env::remove_var(name) };
}
