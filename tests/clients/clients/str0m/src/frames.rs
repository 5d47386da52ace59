//! IVF files: 32 bytes of header; per frame its length, its number as 64 bits, its bytes.

use std::fs::File;
use std::io::Write;

use anyhow::Context;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 12;

/// All frames of a file; one that is cut off at the end is left out.
pub(crate) fn read(path: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| path.to_owned())?;
    let mut frames = Vec::new();
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    while let Some(length) = rest.first_chunk::<4>() {
        let end = FRAME_HEADER + u32::from_le_bytes(*length) as usize;
        let Some(frame) = rest.get(FRAME_HEADER..end) else { break };
        frames.push(frame.to_vec());
        rest = &rest[end..];
    }
    Ok(frames)
}

/// A file that is being written, its frames numbered from 0.
pub(crate) struct Writer {
    file: File,
    pub(crate) frames: u64,
}

impl Writer {
    pub(crate) fn create(path: &str, codec: &str, fps: u32) -> anyhow::Result<Self> {
        let mut file = File::create(path).with_context(|| path.to_owned())?;
        let name = match codec {
            "vp8" => b"VP80",
            "vp9" => b"VP90",
            "av1" => b"AV01",
            "h264" => b"H264",
            _ => b"OPUS",
        };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(b"DKIF\0\0");
        header.extend_from_slice(&(HEADER as u16).to_le_bytes());
        header.extend_from_slice(name);
        header.extend_from_slice(&[0; 4]); // width and height: the stream says it
        header.extend_from_slice(&fps.to_le_bytes());
        header.extend_from_slice(&1_u32.to_le_bytes());
        header.resize(HEADER, 0);
        file.write_all(&header)?;
        Ok(Self { file, frames: 0 })
    }

    pub(crate) fn write(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(&(frame.len() as u32).to_le_bytes())?;
        self.file.write_all(&self.frames.to_le_bytes())?;
        self.file.write_all(frame)?;
        self.frames += 1;
        Ok(())
    }
}
