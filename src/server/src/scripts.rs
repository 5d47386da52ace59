//! The scripts folder: read whole, compiled where its text changed. Plain file system calls; `watch` says when.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::script_files::{self, Listing, Wanted};
use moonring_policy::library::{DEFAULT_SCRIPT, ScriptLibrary, ScriptRule};
use moonring_policy::settings::MAX_SOURCE_BYTES;
use moonring_policy::{MODULES_FOLDER, Script, ScriptError, module_file};

/// The scripts folder, as it was when it was last read.
#[derive(Debug)]
pub(crate) struct ScriptFolder {
    path: PathBuf,
    library: ScriptLibrary,
    /// What each file held.
    texts: HashMap<String, Text>,
    /// Scripts whose newest version is not in use, with the reason.
    failed: BTreeMap<String, String>,
    listing: Listing,
}

/// What a file held, as far as two readings are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Hash([u8; 32]),
    Unreadable(String),
}

impl Text {
    fn of(source: &io::Result<Vec<u8>>) -> Self {
        match source {
            Ok(source) => Self::Hash(Sha256::digest(source).into()),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What all files hold, for comparing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Texts(HashMap<String, Text>);

/// What reading the folder again has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refresh {
    /// Scripts whose text is another one, or that came or went, by name.
    pub changed: Vec<String>,
    /// Whether the library is another one: rooms may have to be reloaded.
    pub library: bool,
}

impl ScriptFolder {
    /// Reads the folder for the first time.
    pub(crate) fn open(path: &Path, rules: Vec<ScriptRule>) -> io::Result<Self> {
        let mut folder = Self {
            path: path.to_owned(),
            library: ScriptLibrary::new(rules),
            texts: HashMap::new(),
            failed: BTreeMap::new(),
            listing: Listing::default(),
        };
        folder.refresh()?;
        if !folder.library.contains(DEFAULT_SCRIPT) {
            let path = path.display();
            tracing::error!(
                "there is no {DEFAULT_SCRIPT} in {path}: rooms without a script of their own reject everybody"
            );
        }
        Ok(folder)
    }

    /// The newest version of every script that compiles.
    pub(crate) fn library(&self) -> &ScriptLibrary {
        &self.library
    }

    /// Scripts whose newest version is not in use, with the reason.
    pub(crate) fn failed(&self) -> &BTreeMap<String, String> {
        &self.failed
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What there is to watch: folders first, so that a bound on watches costs files.
    pub(crate) fn watchable(&self) -> impl Iterator<Item = &Path> {
        self.listing.folders.iter().chain(&self.listing.files).map(PathBuf::as_path)
    }

    /// What the files hold now; not yet in use.
    pub(crate) fn look(&self) -> io::Result<Texts> {
        let listing = script_files::list(&self.path, Wanted::Scripts)?;
        Ok(Texts(listing.files.iter().map(|path| (name_of(&self.path, path), Text::of(&read(path)))).collect()))
    }

    /// Whether the library was made of these texts.
    pub(crate) fn has_read(&self, texts: &Texts) -> bool {
        self.texts == texts.0
    }

    /// Reads every file again and compiles those that are different. A script that is broken, unreadable or gone stays
    /// in the library in its last good version where rooms depend on it. An error leaves all as it was.
    pub(crate) fn refresh(&mut self) -> io::Result<Refresh> {
        let listing = script_files::list(&self.path, Wanted::Scripts)?;
        for folder in listing.unreadable.iter().filter(|folder| !self.listing.unreadable.contains(folder)) {
            tracing::error!(folder = %folder.display(), "cannot be read: its scripts stay as they were");
        }
        let mut refresh = Refresh::default();
        let mut there = HashMap::with_capacity(listing.files.len());
        let named = listing.files.iter().map(|path| (name_of(&self.path, path), path));
        let (modules, scripts): (Vec<_>, Vec<_>) = named.partition(|(name, _)| is_module(name));
        let mut sources = Sources::new();
        for (name, path) in modules {
            let source = read(path);
            let text = Text::of(&source);
            if self.texts.get(&name) != Some(&text) {
                refresh.changed.push(name.clone());
            }
            there.insert(name.clone(), text);
            sources.insert(name, source);
        }
        let is_one_gone = self.texts.keys().any(|name| is_module(name) && !there.contains_key(name));
        let have_modules_changed = is_one_gone || !refresh.changed.is_empty();
        for (name, path) in scripts {
            let source = read(path);
            let text = Text::of(&source);
            let is_changed = self.texts.get(&name) != Some(&text);
            if is_changed || have_modules_changed && may_require(&source) {
                refresh.library |= self.replace(&name, source, &sources);
            }
            if is_changed {
                refresh.changed.push(name.clone());
            }
            there.insert(name, text);
        }
        let hidden = |name: &str| listing.unreadable.iter().any(|f| name.starts_with(&name_of(&self.path, f)));
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.texts.drain().filter(|(name, _)| !there.contains_key(name)).partition(|(name, _)| hidden(name));
        there.extend(kept);
        for (name, _) in gone {
            refresh.library |= self.forget(&name);
            refresh.changed.push(name);
        }
        (self.texts, self.listing) = (there, listing);
        refresh.changed.sort();
        Ok(refresh)
    }

    /// A file, or a module that it requires, has another text. True when the library has changed.
    fn replace(&mut self, name: &str, source: io::Result<Vec<u8>>, modules: &Sources) -> bool {
        let source = source.map_err(|error| ScriptError::unreadable(name, &error));
        let load = |module: &str| match modules.get(&module_file(module)) {
            Some(Ok(source)) => Ok(source.clone()),
            Some(Err(error)) => Err(format!("{}: {error}", module_file(module))),
            None => Err(format!("there is no {} in the scripts folder", module_file(module))),
        };
        let error = match source.and_then(|source| Script::compile_with(name, &source, &load)) {
            Ok(script) => {
                self.failed.remove(name);
                tracing::info!(script = name, version = format!("{:016x}", script.version()), "compiled");
                self.library.insert(name.to_owned(), Ok(Arc::new(script)));
                return true;
            }
            Err(error) => error,
        };
        self.failed.insert(name.to_owned(), error.to_string());
        if let Some(Ok(last)) = self.library.get(name) {
            let version = format!("{:016x}", last.version());
            tracing::error!(script = name, version, "{error}; the version before stays in use");
            return false;
        }
        tracing::error!(script = name, "{error}; rooms that are to run it reject newcomers");
        self.library.insert(name.to_owned(), Err(error));
        true
    }

    /// A file is gone. True when the library has changed.
    fn forget(&mut self, name: &str) -> bool {
        if self.library.is_depended_on(name) && matches!(self.library.get(name), Some(Ok(_))) {
            tracing::error!(script = name, "was deleted; its last version stays in use");
            self.failed.insert(name.to_owned(), format!("{name}: was deleted"));
            return false;
        }
        self.failed.remove(name);
        tracing::info!(script = name, "was deleted; rooms that run it are given the script that is now theirs");
        self.library.remove(name)
    }
}

/// The modules' sources, by file name.
type Sources = HashMap<String, io::Result<Vec<u8>>>;

/// Whether a file is not a script but one that scripts require.
fn is_module(name: &str) -> bool {
    name.strip_prefix(MODULES_FOLDER).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a script may require modules.
fn may_require(source: &io::Result<Vec<u8>>) -> bool {
    const WORD: &[u8] = b"require";
    source.as_ref().is_ok_and(|source| source.windows(WORD.len()).any(|window| window == WORD))
}

/// A file's bytes, at most one more than a script may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SOURCE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A script's name: its path below the folder, with `/`.
fn name_of(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}
