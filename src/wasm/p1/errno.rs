//! Error numbers of Linux as those of WASI, which number them by name.

use wasmtime_wasi::p1::types;

/// What the guest is told of an error of the kernel's.
pub fn wasi(error: rustix::io::Errno) -> types::Errno {
    use rustix::io::Errno as Linux;
    use types::Errno as Wasi;
    match error {
        Linux::ACCESS => Wasi::Acces,
        Linux::AGAIN => Wasi::Again,
        Linux::BADF => Wasi::Badf,
        Linux::CONNABORTED => Wasi::Connaborted,
        Linux::CONNREFUSED => Wasi::Connrefused,
        Linux::CONNRESET => Wasi::Connreset,
        Linux::DQUOT => Wasi::Dquot,
        Linux::FBIG => Wasi::Fbig,
        Linux::HOSTUNREACH => Wasi::Hostunreach,
        Linux::INTR => Wasi::Intr,
        Linux::INVAL => Wasi::Inval,
        Linux::ISDIR => Wasi::Isdir,
        Linux::MFILE => Wasi::Mfile,
        Linux::NETDOWN => Wasi::Netdown,
        Linux::NETUNREACH => Wasi::Netunreach,
        Linux::NFILE => Wasi::Nfile,
        Linux::NOBUFS => Wasi::Nobufs,
        Linux::NOMEM => Wasi::Nomem,
        Linux::NOSPC => Wasi::Nospc,
        Linux::NOTCONN => Wasi::Notconn,
        Linux::NOTSOCK => Wasi::Notsock,
        Linux::OPNOTSUPP => Wasi::Notsup,
        Linux::PERM => Wasi::Perm,
        Linux::PIPE => Wasi::Pipe,
        Linux::TIMEDOUT => Wasi::Timedout,
        _ => Wasi::Io,
    }
}
