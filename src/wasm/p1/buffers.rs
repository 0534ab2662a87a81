//! The guest's buffers of one read or write.

use std::borrow::Cow;
use std::io::IoSlice;

use rustix::io::Errno as Linux;
use wasmtime_wasi::p1::types::{CiovecArray, Errno, Error, IovecArray, Size};
use wiggle::{GuestMemory, GuestPtr};

use super::errno;

/// The most buffers that one call may have (`UIO_MAXIOV` of Linux).
const MAX_BUFFERS: usize = 1024;
/// The most bytes that are copied on their way: those of scattered or shared buffers.
const MAX_COPY: usize = 1 << 20;

/// Writes what is in the buffers by one call of `write`, at most `limit` bytes.
///
/// # Errors
/// Those of `write`, and buffers outside the guest's memory, which trap.
pub fn write(
    memory: &GuestMemory<'_>,
    buffers: CiovecArray,
    limit: usize,
    write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, Linux>,
) -> Result<Size, Error> {
    let mut left = if memory.is_shared_memory() { limit.min(MAX_COPY) } else { limit };
    let mut parts: Vec<Cow<'_, [u8]>> = Vec::new();
    for buffer in buffers.iter().take(MAX_BUFFERS) {
        let buffer = memory.read(buffer?)?;
        let length = buffer.buf_len.min(u32::try_from(left).unwrap_or(u32::MAX));
        left -= length as usize;
        if length > 0 {
            parts.push(memory.as_cow(buffer.buf.as_array(length))?);
        }
    }
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    Ok(Size::try_from(write(&slices).map_err(errno::wasi)?)?)
}

/// Reads into the buffers by one call of `read`.
///
/// # Errors
/// As [`write`].
pub fn read(
    memory: &mut GuestMemory<'_>,
    buffers: IovecArray,
    read: impl FnOnce(&mut [u8]) -> Result<usize, Linux>,
) -> Result<Size, Error> {
    let mut places: Vec<GuestPtr<[u8]>> = Vec::new();
    for buffer in buffers.iter().take(MAX_BUFFERS) {
        let buffer = memory.read(buffer?)?;
        if buffer.buf_len > 0 {
            places.push(buffer.buf.as_array(buffer.buf_len));
        }
    }
    if let [place] = places[..]
        && let Some(bytes) = memory.as_slice_mut(place)?
    {
        return Ok(Size::try_from(read(bytes).map_err(errno::wasi)?)?);
    }
    let room: usize = places.iter().map(|place| place.len() as usize).sum();
    let mut bytes = vec![0; room.min(MAX_COPY)];
    let count = read(&mut bytes).map_err(errno::wasi)?;
    scatter(memory, &places, &bytes[..count])?;
    Ok(Size::try_from(count)?)
}

fn scatter(
    memory: &mut GuestMemory<'_>,
    places: &[GuestPtr<[u8]>],
    mut bytes: &[u8],
) -> Result<(), Error> {
    for place in places {
        let length = bytes.len().min(place.len() as usize);
        let (now, rest) = bytes.split_at(length);
        let place = place.get_range(0..u32::try_from(length)?).ok_or(Errno::Fault)?;
        memory.copy_from_slice(now, place)?;
        bytes = rest;
    }
    Ok(())
}
