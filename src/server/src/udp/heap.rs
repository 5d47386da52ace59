//! The allocator's free memory. It has nothing to do with sockets, and is here because `unsafe` is.

/// Gives the whole pages of the allocator's free memory back to the kernel; true when there were some. Other threads' allocations
/// wait meanwhile, for some milliseconds where hundreds of MiB are free. Nothing happens but with glibc.
pub(crate) fn give_back() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, touches free memory only, and locks the allocator's arenas while it does.
    let some = unsafe { libc::malloc_trim(0) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let some = false;
    some
}
