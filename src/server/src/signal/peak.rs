//! After a peak of clients the memory that they took is given back.
//!
//! What ends frees all that it had, but glibc keeps free pages that lie between used ones: of 800 clients that had come and gone
//! 105 MiB stayed resident, of which 75 were free.

use std::time::{Duration, Instant};

use super::directory::Directory;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Clients that have left since the highest number: at least so many, and half of all.
const LEAST: usize = 32;

/// Gives free memory back to the kernel; true when there was some.
pub(crate) type GiveBack = fn() -> bool;

/// The highest number of clients since memory was given back.
#[derive(Debug, Default)]
struct Peak {
    highest: usize,
    /// It was over at the last look, too: who left then has been freed since.
    is_over: bool,
}

impl Peak {
    /// Takes in how many clients there are; true when memory is to be given back.
    fn look(&mut self, clients: usize) -> bool {
        self.highest = self.highest.max(clients);
        let is_over = self.highest - clients >= LEAST.max(self.highest / 2);
        let was_over = std::mem::replace(&mut self.is_over, is_over);
        if is_over && was_over {
            *self = Self { highest: clients, is_over: false };
            return true;
        }
        false
    }
}

/// Gives memory back after each peak, until it is dropped.
pub(super) async fn give_back_after_peaks(directory: Directory, give_back: GiveBack) {
    let mut peak = Peak::default();
    let mut looks = tokio::time::interval(INTERVAL);
    loop {
        looks.tick().await;
        if peak.look(directory.client_count()) {
            let began = Instant::now();
            // An error says that it panicked, which it cannot.
            if let Ok(true) = tokio::task::spawn_blocking(give_back).await {
                tracing::debug!(took = ?began.elapsed(), "free memory is given back after a peak of clients");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_when_half_of_many_have_left_and_stay_away() {
        for (clients, expected) in [
            (&[10, 40, 4, 4, 4][..], &[false, false, false, true, false][..]),
            (&[100, 51, 51, 50, 50], &[false, false, false, false, true]),
            (&[100, 50, 90, 50, 50, 50], &[false, false, false, false, true, false]),
            (&[31, 0, 0], &[false, false, false]),
            (&[800, 0, 0, 0, 600, 300, 300, 150], &[false, false, true, false, false, false, true, false]),
        ] {
            let mut peak = Peak::default();
            let given: Vec<bool> = clients.iter().map(|clients| peak.look(*clients)).collect();
            assert_eq!(given, expected, "{clients:?}");
        }
    }
}
