//! Which globals a script reads and assigns, from LuaJIT's bytecode: the compiler has resolved the scopes already, which
//! a reader of the text would have to do again.
//!
//! ```text
//! dump   = ESC 'L' 'J' version flags [name]  proto*  0
//! proto  = length  flags params frame upvalues  #kgc #kn #bc  [#debug firstline #lines]
//!          bc[4]*  upvalue[2]*  kgc*  kn*  lines ...            (numbers are ULEB128 where nothing else is said)
//! ```
//! The instructions' numbers are LuaJIT 2.1's (`lj_bc.h`); a test compiles a script and would fail with another's.

/// The format's version (`BCDUMP_VERSION`).
const VERSION: u8 = 2;
/// There are no line numbers and no name.
const FLAG_STRIPPED: u64 = 2;
const MOV: u8 = 18;
const UCLO: u8 = 50;
const GGET: u8 = 54;
const GSET: u8 = 55;
const TGETS: u8 = 57;
const TSETV: u8 = 60;
const TSETS: u8 = 61;
const TSETR: u8 = 64;
const CALLM: u8 = 65;
const LAST_COMPARISON: u8 = 17;
const FIRST_KGC_TEXT: u64 = 5;

/// A global, or what is in one, that a script names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) line: u32,
    /// `name`, or `table.name` when it is read from a global.
    pub(super) path: String,
    pub(super) assigned: bool,
}

/// Every use, by line. `None` when the bytecode is of another form.
pub(super) fn uses(bytecode: &[u8]) -> Option<Vec<Use>> {
    let mut reader = Reader { rest: bytecode };
    if reader.take(3)? != b"\x1bLJ" || reader.byte()? != VERSION {
        return None;
    }
    let flags = reader.number()?;
    if flags & FLAG_STRIPPED != 0 {
        return None;
    }
    let name = reader.number()?;
    reader.take(name as usize)?;
    let mut uses = Vec::new();
    loop {
        match reader.number()? {
            0 => break,
            length => proto(&mut Reader { rest: reader.take(length as usize)? }, &mut uses)?,
        }
    }
    uses.sort();
    uses.dedup();
    Some(uses)
}

fn proto(reader: &mut Reader<'_>, uses: &mut Vec<Use>) -> Option<()> {
    let head = reader.take(4)?;
    let upvalues = usize::from(head[3]);
    let (constants, numbers, count) = (reader.number()?, reader.number()?, reader.number()? as usize);
    let debug = reader.number()?;
    let (first, lines) = if debug > 0 { (reader.number()? as u32, reader.number()?) } else { (0, 0) };
    let code = reader.take(count.checked_mul(4)?)?;
    reader.take(upvalues * 2)?;
    let mut texts = Vec::new();
    for _ in 0..constants {
        texts.push(reader.constant()?);
    }
    texts.reverse(); // an instruction counts them from the end
    for _ in 0..numbers {
        // The lowest bit of the first part says whether there is a second.
        if reader.number_wide()? & 1 != 0 {
            reader.number()?;
        }
    }
    let width = if lines < 256 {
        1
    } else if lines < 65_536 {
        2
    } else {
        4
    };
    let line_of = |at: usize| {
        let bytes = reader.rest.get(at * width..(at + 1) * width).unwrap_or_default();
        first + bytes.iter().rev().fold(0, |line, byte| line << 8 | u32::from(*byte))
    };
    scan(code, &texts, line_of, uses);
    Some(())
}

/// Follows globals through the registers, as far as nothing jumps.
fn scan(code: &[u8], texts: &[Option<String>], line_of: impl Fn(usize) -> u32, uses: &mut Vec<Use>) {
    let mut registers: Vec<Option<String>> = vec![None; 256];
    let text = |at: usize| texts.get(at).cloned().flatten();
    for (at, word) in code.chunks_exact(4).enumerate() {
        let (op, a, c, b) = (word[0], usize::from(word[1]), usize::from(word[2]), usize::from(word[3]));
        let d = b << 8 | c;
        let mut found = |path: &Option<String>, assigned| {
            uses.extend(path.clone().map(|path| Use { line: line_of(at), path, assigned }));
        };
        let value = match op {
            GGET => {
                found(&text(d), false);
                text(d)
            }
            GSET => {
                found(&text(d), true);
                continue;
            }
            TGETS | TSETS => {
                let path = registers[b].as_ref().zip(text(c)).map(|(table, name)| format!("{table}.{name}"));
                found(&path, op == TSETS);
                if op == TSETS {
                    continue;
                }
                path
            }
            MOV => registers[d & 255].clone(),
            0..=LAST_COMPARISON | TSETV..=TSETR => continue,
            // Calls, loops and jumps: what the registers hold after them is not known.
            UCLO | CALLM.. => {
                registers.fill(None);
                continue;
            }
            _ => None,
        };
        registers[a] = value;
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number_wide(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn number(&mut self) -> Option<u64> {
        self.number_wide().filter(|number| *number <= u64::from(u32::MAX))
    }

    /// A constant, if it is a text.
    fn constant(&mut self) -> Option<Option<String>> {
        match self.number()? {
            0 => {}
            1 => {
                let (list, named) = (self.number()?, self.number()?);
                for _ in 0..list + 2 * named {
                    self.in_table()?;
                }
            }
            2 | 3 => drop((self.number()?, self.number()?)),
            4 => drop((self.number()?, self.number()?, self.number()?, self.number()?)),
            text => {
                let bytes = self.take((text - FIRST_KGC_TEXT) as usize)?;
                return Some(Some(String::from_utf8_lossy(bytes).into_owned()));
            }
        }
        Some(None)
    }

    fn in_table(&mut self) -> Option<()> {
        match self.number()? {
            0..=2 => {}
            3 => drop(self.number()?),
            4 => drop((self.number()?, self.number()?)),
            text => drop(self.take((text - FIRST_KGC_TEXT) as usize)?),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Script;

    fn seen(source: &str) -> Vec<(u32, String, bool)> {
        let script = Script::compile("room.lua", source.as_bytes()).unwrap();
        uses(script.bytecode()).unwrap().into_iter().map(|u| (u.line, u.path, u.assigned)).collect()
    }

    #[test]
    fn globals_are_found_with_their_lines_and_locals_are_not() {
        let read = |line, path: &str| (line, path.to_owned(), false);
        let set = |line, path: &str| (line, path.to_owned(), true);
        for (source, expected) in [
            ("local a = 1 return a", vec![]),
            ("x = 1", vec![set(1, "x")]),
            ("local function f()\n  return y + 1.5\nend\nreturn f", vec![read(2, "y")]),
            ("return sfu.json.encode({})", vec![read(1, "sfu"), read(1, "sfu.json"), read(1, "sfu.json.encode")]),
            ("string.rep = nil", vec![read(1, "string"), set(1, "string.rep")]),
            ("local t = { a = 1, 'x', [3] = 2.5, b = true }\nz = t.a", vec![set(2, "z")]),
            ("local t = sfu\nif t then\n  t = {}\nend\nreturn t.nothing", vec![read(1, "sfu")]),
        ] {
            assert_eq!(seen(source), expected, "{source}");
        }
        let long = format!("{}last = 1", "\n".repeat(300));
        assert_eq!(seen(&long), [set(301, "last")]);
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in
            [&b""[..], b"\x1bLJ\x02", b"\x1bLJ\x03\x08\x00\x00", b"\x1bLJ\x02\x02\x00", b"\x1bLJ\x02\x08\x00\x05"]
        {
            assert_eq!(uses(bytes), None);
        }
    }
}
