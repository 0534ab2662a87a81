//! Host name lookup that loads no code out of an image.

/// Tells glibc to look host names up in `/etc/hosts` and by DNS only, and in that order.
///
/// getaddrinfo(3) otherwise reads `/etc/nsswitch.conf` of the image and dlopens the modules it
/// names from the image: native code of a stranger in the process that holds the sandbox.
pub fn use_builtin_host_lookup() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: both arguments are valid C strings that glibc copies; the process is
        // single-threaded here, and "hosts" is a database glibc knows, so the call succeeds.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    }
}
