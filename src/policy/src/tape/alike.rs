//! Secrets that begin with the same bytes, in which the longest that a text begins with is found soon.

/// Secrets that begin with the same bytes. What a text begins with is found without a look at each of them: who sends what
/// is recorded also chooses the secrets, and how many there are.
#[derive(Default)]
pub(super) struct Alike {
    secrets: Vec<Secret>,
    /// Places in `secrets`, in the order of their texts.
    order: Vec<usize>,
}

/// One of them.
pub(super) struct Secret {
    pub(super) text: String,
    pub(super) number: usize,
    /// The place of the longest other one with which this one begins.
    within: Option<usize>,
}

impl Alike {
    /// Adds one that is not among them.
    pub(super) fn add(&mut self, text: &str, number: usize) {
        let new = self.secrets.len();
        let at = self.order.partition_point(|place| self.secrets[*place].text.as_str() < text);
        let within = self.place_in(text.as_bytes());
        // Those that begin with the new one come next.
        for place in &self.order[at..] {
            let longer = &self.secrets[*place];
            if !longer.text.starts_with(text) {
                break;
            }
            if longer.within == within {
                self.secrets[*place].within = Some(new);
            }
        }
        self.secrets.push(Secret { text: text.to_owned(), number, within });
        self.order.insert(at, new);
    }

    /// The longest of them with which `rest` begins.
    pub(super) fn longest_in(&self, rest: &[u8]) -> Option<&Secret> {
        self.place_in(rest).map(|place| &self.secrets[place])
    }

    /// Whatever `rest` begins with is also what the last one before it begins with, or is that one.
    fn place_in(&self, rest: &[u8]) -> Option<usize> {
        let after = self.order.partition_point(|place| self.secrets[*place].text.as_bytes() <= rest);
        let last = self.order[..after].last().copied()?;
        let common = self.secrets[last].text.bytes().zip(rest).take_while(|(a, b)| a == *b).count();
        let mut chain = std::iter::successors(Some(last), |place| self.secrets[*place].within);
        chain.find(|place| self.secrets[*place].text.len() <= common)
    }
}
