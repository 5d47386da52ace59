//! The scripts folder: read whole, compiled where its text changed. Plain file system calls; `watch` says when.

mod mistakes;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::script_files::{self, Listing, Wanted};
use crate::script_set::{FailedScript, ScriptSet};
use mistakes::Mistakes;
use moonring_policy::library::{DEFAULT_SCRIPT, ScriptLibrary, ScriptRule};
use moonring_policy::settings::MAX_SOURCE_BYTES;
use moonring_policy::{MODULES_FOLDER, Script, ScriptError, module_file};
pub(crate) use uploads::Uploads;

/// The scripts folder, as it was when it was last read.
#[derive(Debug)]
pub(crate) struct ScriptFolder {
    path: PathBuf,
    /// Scripts that stand in the place of files of the same name; none where nothing can be kept.
    uploads: Option<Uploads>,
    library: ScriptLibrary,
    /// What each file held.
    texts: HashMap<String, Text>,
    /// Scripts whose newest version is not in use, with the reason.
    failed: BTreeMap<String, String>,
    listing: Listing,
    mistakes: Mistakes,
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
    /// Reads the folder, and what was uploaded beside it, for the first time.
    pub(crate) fn open(path: &Path, rules: Vec<ScriptRule>, uploads: Option<Uploads>) -> io::Result<Self> {
        let mut folder = Self {
            path: path.to_owned(),
            uploads,
            library: ScriptLibrary::new(rules),
            texts: HashMap::new(),
            failed: BTreeMap::new(),
            listing: Listing::default(),
            mistakes: Mistakes::new(),
        };
        folder.refresh()?;
        if !folder.library.contains(DEFAULT_SCRIPT) {
            let path = path.display();
            tracing::error!(
                "there is no {DEFAULT_SCRIPT} in {path}: rooms without a script of their own reject everybody"
            );
        }
        for missing in folder.library.missing() {
            let path = folder.path.display();
            tracing::error!("there is no {missing} in {path}, which room_scripts names: its rooms reject everybody");
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
        let files = self.files(&script_files::list(&self.path, Wanted::Scripts)?)?;
        Ok(Texts(files.into_iter().map(|(name, path)| (name, Text::of(&read(&path)))).collect()))
    }

    /// The files of a listing by the names of their scripts, uploaded ones in the place of those of the folder.
    fn files(&self, listing: &Listing) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut files: BTreeMap<_, _> =
            listing.files.iter().map(|path| (name_of(&self.path, path), path.clone())).collect();
        let Some(current) = self.uploads.as_ref().map(Uploads::current) else { return Ok(files) };
        match script_files::list(&current, Wanted::Scripts) {
            Ok(uploaded) => files.extend(uploaded.files.into_iter().map(|path| (name_of(&current, &path), path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(files)
    }

    /// What was uploaded.
    pub(crate) fn uploaded(&self) -> io::Result<ScriptSet> {
        self.uploads.as_ref().map_or_else(|| Ok(ScriptSet::default()), Uploads::read)
    }

    /// What would not compile if these were the uploaded scripts, and does so now.
    pub(crate) fn check(&self, set: &ScriptSet) -> io::Result<Vec<FailedScript>> {
        let listing = script_files::list(&self.path, Wanted::Scripts)?;
        let own = listing.files.iter().map(|path| (name_of(&self.path, path), path));
        let (modules, scripts): (Vec<_>, Vec<_>) =
            own.filter(|(name, _)| set.text(name).is_none()).partition(|(name, _)| is_module(name));
        let mut sources: Sources = modules.into_iter().map(|(name, path)| (name, read(path))).collect();
        let uploaded = || set.scripts().map(|(name, text)| (name.to_owned(), Ok(text.as_bytes().to_vec())));
        sources.extend(uploaded().filter(|(name, _)| is_module(name)));
        let depend =
            scripts.into_iter().map(|(name, path)| (name, read(path))).filter(|(_, source)| may_require(source));
        let compiled = uploaded().filter(|(name, _)| !is_module(name)).chain(depend);
        let error = |(name, source): (String, io::Result<Vec<u8>>)| {
            let is_uploaded = set.text(&name).is_some();
            let error = compile(&name, &source, &sources).err()?.to_string();
            (is_uploaded || !self.failed.contains_key(&name)).then_some(FailedScript { script: name, error })
        };
        Ok(compiled.filter_map(error).collect())
    }

    /// Puts these in the place of what was uploaded. They are in use once [`ScriptFolder::refresh`] has read them.
    pub(crate) fn upload(&self, set: &ScriptSet) -> io::Result<()> {
        let uploads = self.uploads.as_ref();
        uploads.ok_or_else(|| io::Error::other("data_dir is empty: uploaded scripts have no place"))?.write(set)?;
        let hidden: Vec<_> = set.scripts().map(|(name, _)| name).filter(|name| self.path.join(name).exists()).collect();
        if !hidden.is_empty() {
            let names = hidden.join(" ");
            tracing::info!(names, "uploaded scripts stand in the place of files in the scripts folder");
        }
        Ok(())
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
        let (modules, scripts): (Vec<_>, Vec<_>) =
            self.files(&listing)?.into_iter().partition(|(name, _)| is_module(name));
        let mut sources = Sources::new();
        for (name, path) in modules {
            let source = read(&path);
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
            let source = read(&path);
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
        let hidden =
            |name: &str| listing.unreadable.iter().any(|f| Path::new(name).starts_with(name_of(&self.path, f)));
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
        let error = match compile(name, &source, modules) {
            Ok(script) => {
                self.failed.remove(name);
                tracing::info!(script = name, version = format!("{:016x}", script.version()), "compiled");
                self.mistakes.tell(&script, source.as_deref().unwrap_or_default());
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

/// Compiles a script with the modules that it requires.
fn compile(name: &str, source: &io::Result<Vec<u8>>, modules: &Sources) -> Result<Script, ScriptError> {
    let source = source.as_ref().map_err(|error| ScriptError::unreadable(name, error))?;
    Script::compile_with(name, source, &|module: &str| match modules.get(&module_file(module)) {
        Some(Ok(source)) => Ok(source.clone()),
        Some(Err(error)) => Err(format!("{}: {error}", module_file(module))),
        None => Err(format!("there is no {} in the scripts folder", module_file(module))),
    })
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
