//! The provided-buffer ring: memory that the kernel fills with datagrams and gives back by number.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, Submitter};

use super::pages::Pages;

/// The group that receives name; a ring of ours has one.
pub(super) const GROUP: u16 = 0;

/// `entries` buffers of `stride` bytes. A buffer is either the kernel's (put, not yet completed) or ours.
pub(super) struct BufRing {
    entries: u16,
    stride: usize,
    ring: Pages,
    memory: Pages,
    tail: u16,
}

impl BufRing {
    /// Registers `entries` buffers, a power of two, all of them the kernel's at first.
    ///
    /// # Safety
    /// The ring behind `submitter` must be closed, or its receives cancelled, before the value is dropped.
    pub(super) unsafe fn new(submitter: &Submitter<'_>, entries: u16, stride: usize) -> io::Result<Self> {
        assert!(entries.is_power_of_two(), "{entries} receive buffers");
        let ring = Pages::new(usize::from(entries) * size_of::<BufRingEntry>())?;
        let memory = Pages::new(usize::from(entries) * stride)?;
        // SAFETY: the pages are zeroed, page-aligned, long enough, and live as the caller promised.
        unsafe { submitter.register_buf_ring_with_flags(ring.as_ptr() as u64, entries, GROUP, 0)? };
        let mut buffers = Self { entries, stride, ring, memory, tail: 0 };
        (0..entries).for_each(|id| buffers.put(id));
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes of a buffer that the kernel completed and that was not put back since.
    pub(super) fn get(&mut self, id: u16) -> &mut [u8] {
        assert!(id < self.entries, "buffer {id} of {}", self.entries);
        // SAFETY: in bounds by the assertion; the kernel writes only to buffers that were put, and `&mut self` keeps
        // this one from being put while the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(usize::from(id) * self.stride), self.stride) }
    }

    /// Gives a buffer back; the kernel sees it after [`BufRing::publish`].
    pub(super) fn put(&mut self, id: u16) {
        assert!(id < self.entries, "buffer {id} of {}", self.entries);
        let slot = usize::from(self.tail & (self.entries - 1));
        // SAFETY: both indices are in bounds; the slot is free, as there are as many slots as buffers; entries are
        // plain integers, so zeroed memory is a valid value. The first entry's spare field is the tail: only the
        // three setters write, none of which touches it.
        unsafe {
            let entry = &mut *self.ring.as_ptr().cast::<BufRingEntry>().add(slot);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * self.stride) as u64);
            entry.set_len(self.stride as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was put.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies in the ring's first entry, aligned to 2; the kernel reads it as an atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the memory from the kernel.
    pub(super) fn unregister(&self, ring: &IoUring) -> io::Result<()> {
        ring.submitter().unregister_buf_ring(GROUP)
    }
}
