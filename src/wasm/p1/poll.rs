//! `poll_oneoff`: waiting for descriptors and clocks together, by one poll(2). What is wrong with
//! a subscription is said by its event: Go ends a program whose call as a whole fails.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno as Linux, ioctl_fionread};
use wasmtime_wasi::p1::types::{
    Clockid, Errno, Error, Event, EventFdReadwrite, Eventrwflags, Eventtype, Fd, Filetype, Rights,
    Size, Subclockflags, Subscription, SubscriptionClock, SubscriptionU,
};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr, GuestType};

use super::errno::wasi;
use super::socket::Socket;
use super::stream::Stream;
use super::table::Slot;
use super::{Host, State, at_once};

/// What a subscription waits for.
enum Waiting {
    /// Nothing: this is its event.
    Over(Result<EventFdReadwrite, Errno>),
    /// A moment; `None` for one that never comes.
    Until(Option<Instant>),
    /// The readiness, in the terms of poll(2), of the descriptor at this index.
    For(usize, PollFlags),
}

/// A descriptor to wait for, once however many subscriptions it has: poll(2) takes no more than a
/// process may have open.
struct Watched {
    what: Descriptor,
    readiness: PollFlags,
}

enum Descriptor {
    Stream(Stream),
    Socket(Arc<Socket>),
}

/// Waits until something that is subscribed to happens and writes an event for each that did.
///
/// # Errors
/// No subscriptions; arrays outside the guest's memory, which trap.
pub fn wait(
    host: &Host,
    memory: &mut GuestMemory<'_>,
    subscriptions: GuestPtr<Subscription>,
    events: GuestPtr<Event>,
    count: Size,
) -> Result<Size, Error> {
    if count == 0 {
        return Err(Errno::Inval.into());
    }
    // All that is allocated below is in proportion to this.
    if count as usize > host.fuel / Subscription::guest_size() as usize {
        return Err(Errno::Nomem.into());
    }
    let subscriptions = subscriptions.as_array(count);
    let subscriptions: Vec<_> =
        subscriptions.iter().map(|at| memory.read(at?)).collect::<Result<_, _>>()?;
    let (waiting, watched) = gather(host, memory, &subscriptions)?;
    let ready = until_ready(&waiting, &watched).map_err(wasi)?;
    let now = Instant::now();
    let mut written = 0;
    for (subscription, waiting) in subscriptions.iter().zip(&waiting) {
        let result = match waiting {
            Waiting::Over(result) => result.clone(),
            Waiting::Until(Some(moment)) if *moment <= now => Ok(readwrite(0)),
            Waiting::For(index, readiness) => {
                match event(&watched[*index].what, ready[*index], *readiness) {
                    Some(event) => Ok(event),
                    None => continue,
                }
            }
            Waiting::Until(_) => continue,
        };
        memory.write(events.add(written)?, describe(subscription, result))?;
        written += 1;
    }
    Ok(written)
}

fn gather(
    host: &Host,
    memory: &mut GuestMemory<'_>,
    subscriptions: &[Subscription],
) -> Result<(Vec<Waiting>, Vec<Watched>), Error> {
    let mut state = host.lock();
    let mut watched: Vec<Watched> = Vec::new();
    let mut places = vec![None; state.table.len()];
    let mut waiting = Vec::with_capacity(subscriptions.len());
    for subscription in subscriptions {
        let (fd, readiness) = match &subscription.u {
            SubscriptionU::Clock(clock) => {
                waiting.push(moment(&mut state, memory, clock)?);
                continue;
            }
            SubscriptionU::FdRead(read) => (read.file_descriptor, PollFlags::IN),
            SubscriptionU::FdWrite(write) => (write.file_descriptor, PollFlags::OUT),
        };
        let what = match state.table.get(fd).cloned() {
            Ok(Slot::Socket(socket)) => Descriptor::Socket(socket),
            Ok(Slot::Stream(stream)) if stream.is_input() == (readiness == PollFlags::IN) => {
                Descriptor::Stream(stream)
            }
            Ok(Slot::File(fd)) => {
                waiting.push(Waiting::Over(file(&mut state, memory, fd, readiness)));
                continue;
            }
            _ => {
                waiting.push(Waiting::Over(Err(Errno::Badf)));
                continue;
            }
        };
        let place = &mut places[u32::from(fd) as usize];
        let index = *place.get_or_insert(watched.len());
        match watched.get_mut(index) {
            Some(watched) => watched.readiness |= readiness,
            None => watched.push(Watched { what, readiness }),
        }
        waiting.push(Waiting::For(index, readiness));
    }
    Ok((waiting, watched))
}

/// When a clock gets to where it is awaited.
fn moment(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    clock: &SubscriptionClock,
) -> Result<Waiting, Error> {
    if !matches!(clock.id, Clockid::Realtime | Clockid::Monotonic) {
        return Ok(Waiting::Over(Err(Errno::Notsup)));
    }
    let mut left = clock.timeout;
    if clock.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME) {
        left = left.saturating_sub(state.inner.clock_time_get(memory, clock.id, 0)?);
    }
    Ok(Waiting::Until(Instant::now().checked_add(Duration::from_nanos(left))))
}

/// A file is always ready, if it may be read or written at all.
fn file(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    fd: Fd,
    readiness: PollFlags,
) -> Result<EventFdReadwrite, Errno> {
    let told = |error: Error| error.downcast().unwrap_or(Errno::Io);
    let stat = at_once(state.inner.fd_fdstat_get(memory, fd)).map_err(told)?;
    let reads = readiness == PollFlags::IN;
    let right = if reads { Rights::FD_READ } else { Rights::FD_WRITE };
    if stat.fs_filetype == Filetype::Directory || !stat.fs_rights_base.contains(right) {
        return Err(Errno::Badf);
    }
    if !reads || stat.fs_filetype != Filetype::RegularFile {
        return Ok(readwrite(1));
    }
    let size = at_once(state.inner.fd_filestat_get(memory, fd)).map_err(told)?.size;
    let position = state.inner.fd_tell(memory, fd).map_err(told)?;
    Ok(readwrite(size.saturating_sub(position)))
}

/// What each of `watched` is ready for, as soon as any subscription has an event.
fn until_ready(waiting: &[Waiting], watched: &[Watched]) -> Result<Vec<PollFlags>, Linux> {
    // They lend their descriptors.
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(watched.len());
    for Watched { what, readiness } in watched {
        let fd = match what {
            Descriptor::Socket(socket) => socket.fd(),
            Descriptor::Stream(stream) => standard[stream.number()],
        };
        fds.push(PollFd::from_borrowed_fd(fd, *readiness));
    }
    let moments = waiting.iter().filter_map(|waiting| match waiting {
        Waiting::Over(_) => Some(Some(Instant::now())),
        Waiting::Until(moment) => Some(*moment),
        Waiting::For(..) => None,
    });
    let first = moments.flatten().min();
    loop {
        let left = first.map(|first| first.saturating_duration_since(Instant::now()));
        let found = match poll(&mut fds, left.map(timespec).as_ref()) {
            Err(Linux::INTR) => continue,
            found => found?,
        };
        if found > 0 || first.is_some_and(|first| first <= Instant::now()) {
            return Ok(fds.iter().map(PollFd::revents).collect());
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Nanoseconds in 64 bits are fewer seconds than this type holds.
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// The event of a descriptor that is `ready`, if that is what was awaited.
fn event(what: &Descriptor, ready: PollFlags, awaited: PollFlags) -> Option<EventFdReadwrite> {
    let ended = PollFlags::HUP | PollFlags::ERR;
    if !ready.intersects(awaited | ended | PollFlags::NVAL) {
        return None;
    }
    let bytes = |fd: BorrowedFd<'_>| ioctl_fionread(fd).unwrap_or(1);
    let nbytes = match (awaited == PollFlags::IN, what) {
        (true, Descriptor::Socket(socket)) => bytes(socket.fd()),
        (true, Descriptor::Stream(stream)) => stream.with_fd(bytes),
        (false, _) => 1,
    };
    let flags = match ready.intersects(ended) {
        true => Eventrwflags::FD_READWRITE_HANGUP,
        false => Eventrwflags::empty(),
    };
    Some(EventFdReadwrite { nbytes, flags })
}

fn readwrite(nbytes: u64) -> EventFdReadwrite {
    EventFdReadwrite { nbytes, flags: Eventrwflags::empty() }
}

fn describe(subscription: &Subscription, result: Result<EventFdReadwrite, Errno>) -> Event {
    let (error, fd_readwrite) = match result {
        Ok(fd_readwrite) => (Errno::Success, fd_readwrite),
        Err(error) => (error, readwrite(0)),
    };
    let type_ = match subscription.u {
        SubscriptionU::Clock(_) => Eventtype::Clock,
        SubscriptionU::FdRead(_) => Eventtype::FdRead,
        SubscriptionU::FdWrite(_) => Eventtype::FdWrite,
    };
    Event { userdata: subscription.userdata, error, type_, fd_readwrite }
}
