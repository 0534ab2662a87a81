//! Name lookup that loads no code out of an image.

/// Tells glibc to look users and groups up in `/etc/passwd` and `/etc/group` only, and host names
/// in `/etc/hosts` and by DNS only, in that order.
///
/// glibc otherwise reads `/etc/nsswitch.conf` of the image and dlopens the modules it names from
/// the image: native code of a stranger, in the process that makes the container, for getpwuid(3)
/// of libcontainer, and in the one that holds the sandbox, for getaddrinfo(3).
pub fn use_builtin_lookup() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        for (database, services) in
            [(c"passwd", c"files"), (c"group", c"files"), (c"hosts", c"files dns")]
        {
            // SAFETY: both arguments are valid C strings that glibc copies; the process is
            // single-threaded here, and glibc knows these databases, so the call succeeds.
            unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        }
    }
}
