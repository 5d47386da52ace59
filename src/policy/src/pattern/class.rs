//! Character classes (`%a`) and sets (`[a-z]`), in the C locale.

const ESCAPE: u8 = b'%';

/// Whether `byte` is in the class that the letter names; any other letter stands for itself.
fn in_class(byte: u8, letter: u8) -> bool {
    let lower = letter.to_ascii_lowercase();
    let member = match lower {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | 9..=13),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return byte == letter,
    };
    member == (letter == lower)
}

/// Whether `byte` is in the set, given from its `[` up to, without, its closing `]`.
pub(super) fn in_set(byte: u8, set: &[u8]) -> bool {
    let (negated, members) = match set {
        [_, b'^', members @ ..] => (true, members),
        [_, members @ ..] => (false, members),
        [] => (false, set),
    };
    set_lists(byte, members) != negated
}

fn set_lists(byte: u8, mut members: &[u8]) -> bool {
    loop {
        members = match *members {
            [] => return false,
            // What follows a range may begin with the second half of `%%`: LuaJIT then reads on into the closing bracket.
            [ESCAPE] => return byte == b']',
            [ESCAPE, letter, ref rest @ ..] => {
                if in_class(byte, letter) {
                    return true;
                }
                rest
            }
            [low, b'-', high, ref rest @ ..] => {
                if (low..=high).contains(&byte) {
                    return true;
                }
                rest
            }
            [member, ref rest @ ..] => {
                if member == byte {
                    return true;
                }
                rest
            }
        };
    }
}

/// Whether `byte` fits one item of a pattern: `.`, `%a`, a set with its brackets, or a character.
pub(super) fn fits(byte: u8, item: &[u8]) -> bool {
    match *item {
        [b'.', ..] => true,
        [ESCAPE, letter, ..] => in_class(byte, letter),
        [b'[', .., b']'] => in_set(byte, &item[..item.len() - 1]),
        [literal, ..] => literal == byte,
        [] => false,
    }
}
