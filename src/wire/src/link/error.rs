//! What is no frame.

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end within a frame.
    #[error("ends after {0} bytes of a frame")]
    Short(usize),
    /// A kind that this version does not know.
    #[error("has a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// A body that is shorter or longer than its kind allows.
    #[error("has a frame of kind {kind} with a body of {bytes} bytes")]
    Length {
        /// The frame's kind.
        kind: u8,
        /// The length of its body.
        bytes: usize,
    },
    /// A layer above the highest.
    #[error("names layer {0}")]
    Layer(u8),
}
