//! The calls of WASI 0.1, each by what its descriptor is.

use std::sync::Arc;

use rustix::net::RecvFlags;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::types::{self, Errno, Error, Fd, Fdflags, Size};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use super::errno::wasi;
use super::table::Slot;
use super::{Host, Target, at_once, buffers, placeless, poll};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Calls that are wasmtime's, with a number of its own in place of the guest's. What is no file
/// gets the error number that Linux gives for it.
macro_rules! files {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, else $errno:ident;)*) => {$(
        async fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            fd: Fd,
            $($argument: $type),*
        ) -> Result<$result> {
            let (mut state, fd) = self.file(fd, Errno::$errno)?;
            at_once(state.inner.$name(memory, fd, $($argument),*))
        }
    )*};
}

/// Calls that are wasmtime's and have no descriptor.
macro_rules! others {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            $($argument: $type),*
        ) -> Result<$result> {
            self.lock().inner.$name(memory, $($argument),*)
        }
    )*};
}

impl WasiSnapshotPreview1 for Host {
    fn set_hostcall_fuel(&mut self, fuel: usize) {
        self.fuel = fuel;
    }

    others! {
        fn args_get(argv: GuestPtr<GuestPtr<u8>>, buffer: GuestPtr<u8>) -> ();
        fn args_sizes_get() -> (Size, Size);
        fn environ_get(environ: GuestPtr<GuestPtr<u8>>, buffer: GuestPtr<u8>) -> ();
        fn environ_sizes_get() -> (Size, Size);
        fn clock_res_get(id: types::Clockid) -> types::Timestamp;
        fn clock_time_get(id: types::Clockid, precision: types::Timestamp) -> types::Timestamp;
        fn random_get(buffer: GuestPtr<u8>, length: Size) -> ();
        fn proc_raise(signal: types::Signal) -> ();
    }

    files! {
        fn fd_advise(offset: u64, length: u64, advice: types::Advice) -> (), else Spipe;
        fn fd_datasync() -> (), else Inval;
        fn fd_filestat_set_size(size: u64) -> (), else Inval;
        fn fd_filestat_set_times(atim: u64, mtim: u64, flags: types::Fstflags) -> (), else Inval;
        fn fd_pread(buffers: types::IovecArray, offset: u64) -> Size, else Spipe;
        fn fd_pwrite(buffers: types::CiovecArray, offset: u64) -> Size, else Spipe;
        fn fd_readdir(buffer: GuestPtr<u8>, length: Size, cookie: u64) -> Size, else Notdir;
        fn fd_seek(offset: i64, whence: types::Whence) -> u64, else Spipe;
        fn fd_sync() -> (), else Inval;
        fn path_create_directory(path: GuestPtr<str>) -> (), else Notdir;
        fn path_filestat_get(
            flags: types::Lookupflags, path: GuestPtr<str>
        ) -> types::Filestat, else Notdir;
        fn path_filestat_set_times(
            flags: types::Lookupflags, path: GuestPtr<str>, atim: u64, mtim: u64,
            fst_flags: types::Fstflags
        ) -> (), else Notdir;
        fn path_readlink(
            path: GuestPtr<str>, buffer: GuestPtr<u8>, length: Size
        ) -> Size, else Notdir;
        fn path_remove_directory(path: GuestPtr<str>) -> (), else Notdir;
        fn path_unlink_file(path: GuestPtr<str>) -> (), else Notdir;
    }

    fn fd_allocate(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let (mut state, fd) = self.file(fd, Errno::Spipe)?;
        state.inner.fd_allocate(memory, fd, offset, length)
    }

    fn fd_tell(&mut self, memory: &mut GuestMemory<'_>, fd: Fd) -> Result<u64> {
        let (mut state, fd) = self.file(fd, Errno::Spipe)?;
        state.inner.fd_tell(memory, fd)
    }

    fn fd_fdstat_set_rights(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        base: types::Rights,
        inheriting: types::Rights,
    ) -> Result<()> {
        let (mut state, fd) = self.file(fd, Errno::Notsup)?;
        state.inner.fd_fdstat_set_rights(memory, fd, base, inheriting)
    }

    fn fd_prestat_get(&mut self, memory: &mut GuestMemory<'_>, fd: Fd) -> Result<types::Prestat> {
        match self.target(fd)? {
            Target::File(mut state, fd) => state.inner.fd_prestat_get(memory, fd),
            Target::Socket(_) if u32::from(fd) < self.first_directory => {
                let pr_name_len = Size::try_from(place_holder(fd).len())?;
                Ok(types::Prestat::Dir(types::PrestatDir { pr_name_len }))
            }
            // Programs look at all numbers from 3 on, up to this error.
            Target::Stream(_) | Target::Socket(_) => Err(Errno::Badf.into()),
        }
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<u8>,
        length: Size,
    ) -> Result<()> {
        match self.target(fd)? {
            Target::File(mut state, fd) => {
                state.inner.fd_prestat_dir_name(memory, fd, path, length)
            }
            Target::Socket(_) if u32::from(fd) < self.first_directory => {
                let name = place_holder(fd);
                let length = Size::try_from(name.len()).ok().filter(|needed| *needed <= length);
                let length = length.ok_or(Errno::Nametoolong)?;
                Ok(memory.copy_from_slice(name.as_bytes(), path.as_array(length))?)
            }
            Target::Stream(_) | Target::Socket(_) => Err(Errno::Notdir.into()),
        }
    }

    async fn fd_close(&mut self, memory: &mut GuestMemory<'_>, fd: Fd) -> Result<()> {
        let slot = self.lock().table.remove(fd)?;
        self.close(memory, slot)
    }

    async fn fd_renumber(&mut self, memory: &mut GuestMemory<'_>, from: Fd, to: Fd) -> Result<()> {
        let replaced = self.lock().table.renumber(from, to)?;
        replaced.map_or(Ok(()), |slot| self.close(memory, slot))
    }

    async fn fd_read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffers: types::IovecArray,
    ) -> Result<Size> {
        match self.target(fd)? {
            Target::File(mut state, fd) => at_once(state.inner.fd_read(memory, fd, buffers)),
            Target::Stream(stream) if stream.is_input() => {
                buffers::read(memory, buffers, |bytes| stream.read(bytes))
            }
            Target::Stream(_) => Err(Errno::Badf.into()),
            Target::Socket(socket) => {
                buffers::read(memory, buffers, |bytes| socket.receive(bytes, RecvFlags::empty()))
            }
        }
    }

    async fn fd_write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffers: types::CiovecArray,
    ) -> Result<Size> {
        match self.target(fd)? {
            Target::File(mut state, fd) => at_once(state.inner.fd_write(memory, fd, buffers)),
            Target::Stream(stream) if !stream.is_input() => {
                buffers::write(memory, buffers, stream.room(), |parts| stream.write(parts))
            }
            Target::Stream(_) => Err(Errno::Badf.into()),
            Target::Socket(socket) => {
                buffers::write(memory, buffers, usize::MAX, |parts| socket.send(parts))
            }
        }
    }

    async fn fd_fdstat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
    ) -> Result<types::Fdstat> {
        match self.target(fd)? {
            Target::File(mut state, fd) => at_once(state.inner.fd_fdstat_get(memory, fd)),
            Target::Stream(stream) => Ok(stream.stat()),
            Target::Socket(socket) => Ok(socket.stat().map_err(wasi)?),
        }
    }

    fn fd_fdstat_set_flags(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        flags: Fdflags,
    ) -> Result<()> {
        let mut state = self.lock();
        match state.table.get_mut(fd)? {
            Slot::Stream(stream) => stream.flags = flags & (Fdflags::NONBLOCK | Fdflags::APPEND),
            Slot::Socket(socket) => socket.set_flags(flags).map_err(wasi)?,
            Slot::File(fd) => {
                let fd = *fd;
                let stat = at_once(state.inner.fd_fdstat_get(memory, fd))?;
                // Whether calls wait means nothing to a directory, nor where writes go.
                if stat.fs_filetype != types::Filetype::Directory {
                    state.inner.fd_fdstat_set_flags(memory, fd, flags)?;
                }
            }
        }
        Ok(())
    }

    async fn fd_filestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
    ) -> Result<types::Filestat> {
        match self.target(fd)? {
            Target::File(mut state, fd) => at_once(state.inner.fd_filestat_get(memory, fd)),
            Target::Stream(stream) => Ok(placeless(stream.filetype())),
            Target::Socket(_) => Ok(placeless(types::Filetype::SocketStream)),
        }
    }

    async fn path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        dirflags: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        base: types::Rights,
        inheriting: types::Rights,
        flags: Fdflags,
    ) -> Result<Fd> {
        let (mut state, fd) = self.file(fd, Errno::Notdir)?;
        let opened =
            state.inner.path_open(memory, fd, dirflags, path, oflags, base, inheriting, flags);
        let opened = at_once(opened)?;
        Ok(state.table.insert(Slot::File(opened)))
    }

    async fn path_link(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: Fd,
        flags: types::Lookupflags,
        path: GuestPtr<str>,
        to: Fd,
        target: GuestPtr<str>,
    ) -> Result<()> {
        let (mut state, from, to) = self.directories(from, to)?;
        at_once(state.inner.path_link(memory, from, flags, path, to, target))
    }

    async fn path_rename(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: Fd,
        path: GuestPtr<str>,
        to: Fd,
        target: GuestPtr<str>,
    ) -> Result<()> {
        let (mut state, from, to) = self.directories(from, to)?;
        at_once(state.inner.path_rename(memory, from, path, to, target))
    }

    async fn path_symlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        target: GuestPtr<str>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let (mut state, fd) = self.file(fd, Errno::Notdir)?;
        at_once(state.inner.path_symlink(memory, target, fd, path))
    }

    async fn poll_oneoff(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subscriptions: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        count: Size,
    ) -> Result<Size> {
        poll::wait(self, memory, subscriptions, events, count)
    }

    /// Not called: `wasm::module` defines it, for modules without memory too.
    fn proc_exit(&mut self, _: &mut GuestMemory<'_>, code: types::Exitcode) -> wasmtime::Error {
        I32Exit(code as i32).into()
    }

    fn sched_yield(&mut self, _: &mut GuestMemory<'_>) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }

    fn sock_accept(&mut self, _: &mut GuestMemory<'_>, fd: Fd, flags: Fdflags) -> Result<Fd> {
        let Target::Socket(socket) = self.target(fd)? else { return Err(Errno::Notsock.into()) };
        let accepted = Arc::new(socket.accept(flags).map_err(wasi)?);
        Ok(self.lock().table.insert(Slot::Socket(accepted)))
    }

    fn sock_recv(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffers: types::IovecArray,
        flags: types::Riflags,
    ) -> Result<(Size, types::Roflags)> {
        let Target::Socket(socket) = self.target(fd)? else { return Err(Errno::Notsock.into()) };
        let mut wanted = RecvFlags::empty();
        wanted.set(RecvFlags::PEEK, flags.contains(types::Riflags::RECV_PEEK));
        wanted.set(RecvFlags::WAITALL, flags.contains(types::Riflags::RECV_WAITALL));
        let count = buffers::read(memory, buffers, |bytes| socket.receive(bytes, wanted))?;
        // A stream's data is never truncated.
        Ok((count, types::Roflags::empty()))
    }

    fn sock_send(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffers: types::CiovecArray,
        flags: types::Siflags,
    ) -> Result<Size> {
        let Target::Socket(socket) = self.target(fd)? else { return Err(Errno::Notsock.into()) };
        // WASI 0.1 defines none.
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        buffers::write(memory, buffers, usize::MAX, |parts| socket.send(parts))
    }

    fn sock_shutdown(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        how: types::Sdflags,
    ) -> Result<()> {
        let Target::Socket(socket) = self.target(fd)? else { return Err(Errno::Notsock.into()) };
        Ok(socket.shutdown(how).map_err(wasi)?)
    }
}

/// Programs take the descriptors from 3 on for directories, up to the first that is none, and C's
/// library ends a program for any other answer. So a socket among them is given the name of a
/// directory, one that no guest has, and that would be no directory.
fn place_holder(fd: Fd) -> String {
    format!("/proc/self/fd/{}", u32::from(fd))
}
