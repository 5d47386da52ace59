//! What a room's script reads that no event tells of, kept for who records the room; and the other way round, what a
//! replay knows that cannot be found out again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::hook::ClientFacts;

/// Entries of one step of each kind.
const MAX_ENTRIES: usize = 1024;

/// What one step has read.
#[derive(Default)]
pub(crate) struct Read {
    /// Clients whose traffic or tracks were looked at.
    pub(crate) clients: Vec<Rc<ClientFacts>>,
    /// Signatures of tokens, and whether they held.
    pub(crate) signatures: Vec<(String, bool)>,
    /// Keys.
    pub(crate) secrets: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Reads {
    is_on: Cell<bool>,
    step: RefCell<Read>,
    replayed: RefCell<HashMap<String, bool>>,
}

impl Reads {
    /// Whether anybody wants to know.
    pub(crate) fn set_on(&self, is_on: bool) {
        self.is_on.set(is_on);
        if !is_on {
            self.step.take();
        }
    }

    pub(crate) fn take(&self) -> Read {
        self.step.take()
    }

    pub(crate) fn client(&self, client: &Rc<ClientFacts>) {
        self.note(|step| {
            if step.clients.len() < MAX_ENTRIES && !step.clients.iter().any(|known| Rc::ptr_eq(known, client)) {
                step.clients.push(client.clone());
            }
        });
    }

    /// A key that the script has signed or checked something with.
    pub(crate) fn secret(&self, key: &[u8]) {
        self.note(|step| {
            if step.secrets.len() < MAX_ENTRIES
                && let Ok(key) = std::str::from_utf8(key)
            {
                step.secrets.push(key.to_owned());
            }
        });
    }

    /// The signature of this token holds, or does not.
    pub(crate) fn signature(&self, token: &[u8], holds: bool) {
        self.note(|step| {
            if step.signatures.len() < MAX_ENTRIES
                && let Some(signature) = signature_of(token)
            {
                step.signatures.push((signature.to_owned(), holds));
            }
        });
    }

    fn note(&self, add: impl FnOnce(&mut Read)) {
        if self.is_on.get() {
            add(&mut self.step.borrow_mut());
        }
    }

    /// A replay knows whether this signature held.
    pub(crate) fn replay(&self, signatures: &[(String, bool)]) {
        self.replayed.borrow_mut().extend(signatures.iter().cloned());
    }

    /// Whether the signature of a token held that was left out of a recording; `None` for all others.
    pub(crate) fn replayed(&self, token: &[u8]) -> Option<bool> {
        let replayed = self.replayed.borrow();
        if replayed.is_empty() { None } else { replayed.get(signature_of(token)?).copied() }
    }
}

fn signature_of(token: &[u8]) -> Option<&str> {
    std::str::from_utf8(token).ok()?.rsplit_once('.').map(|(_, signature)| signature)
}
