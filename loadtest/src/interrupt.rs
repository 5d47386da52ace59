//! Ctrl-C: the first one ends the run with a report of what was measured so far, the second one ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a run that was cut short: 128 and the number of SIGINT, as of shells.
pub const EXIT_CODE: u8 = 130;

/// Whether Ctrl-C was pressed.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let pressed = Self::default();
        let told = pressed.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if told.0.swap(true, Ordering::Relaxed) {
                        end_at_once();
                    }
                }
            });
        })?;
        Ok(pressed)
    }

    /// True once it was.
    pub fn is_pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[expect(clippy::disallowed_methods, reason = "who presses Ctrl-C twice does not want to wait for goodbyes")]
fn end_at_once() {
    std::process::exit(i32::from(EXIT_CODE));
}
