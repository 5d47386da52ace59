//! `moonring check`, `moonring test` and `moonring replay`: the files and the output around `policy::tools`.

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::script_files::{self, Wanted};
use moonring_policy::tools::check::{self, Level, Report, Role};
use moonring_policy::tools::names::Names;
use moonring_policy::tools::replay::{self, Recording};
use moonring_policy::tools::trial::{self, Case};
use moonring_policy::{MODULES_FOLDER, Script, module_file};

/// Stack of the thread that runs scripts, as a shard has it: LuaJIT does not check how deep C code nests.
const STACK: usize = 64 << 20;

/// Checks scripts; folders stand for the scripts in them. True when all may be used; with `strict`, when there is no
/// warning either.
pub(crate) fn check(paths: &[PathBuf], strict: bool, now: Instant, out: &mut dyn Write) -> anyhow::Result<bool> {
    let names = Names::of_sandbox(now)?;
    let (mut errors, mut warnings) = (0, 0);
    for path in some_scripts(paths, Wanted::Scripts)? {
        let report = check_file(&path, &names);
        errors += report.count(Level::Error);
        warnings += report.count(Level::Warning);
        write!(out, "{report}")?;
    }
    writeln!(out, "{errors} errors, {warnings} warnings")?;
    Ok(errors == 0 && (warnings == 0 || !strict))
}

/// Checks one script.
pub(crate) fn check_file(path: &Path, names: &Names) -> Report {
    let name = path.display().to_string();
    let is_module = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == MODULES_FOLDER);
    let role = if is_module { Role::Module } else { Role::Script };
    match fs::read(path) {
        Ok(source) => check::check_with(&name, &source, names, role, &|module| read_module(path, module)),
        Err(error) => Report::unreadable(&name, &error),
    }
}

/// Runs test files and writes TAP; folders stand for the test files in them. True when every test passed.
pub(crate) fn test(paths: &[PathBuf], now: Instant, out: &mut dyn Write) -> anyhow::Result<bool> {
    let (mut count, mut failed) = (0, 0);
    let files = some_scripts(paths, Wanted::Tests)?;
    writeln!(out, "TAP version 14")?;
    for path in files {
        let mut text = format!("# {}\n", path.display());
        for case in test_file(&path, now)? {
            count += 1;
            failed += usize::from(case.failure.is_some());
            case.tap(&mut text, count)?;
        }
        out.write_all(text.as_bytes())?;
    }
    writeln!(out, "1..{count}\n# {} passed, {failed} failed", count - failed)?;
    Ok(failed == 0 && count > 0)
}

/// Runs a recording through a script and shows what differs, with warnings on `warn`. True when nothing does.
pub(crate) fn replay(
    script: &Path,
    recording: &Path,
    now: Instant,
    out: &mut dyn Write,
    warn: &mut dyn Write,
) -> anyhow::Result<bool> {
    let name = script.display().to_string();
    let source = fs::read(script).with_context(|| name.clone())?;
    let compiled = Script::compile_with(&name, &source, &|module| read_module(script, module))?;
    let recording = read_recording(recording)?;
    let report = on_a_deep_stack(move || replay::replay(&recording, Arc::new(compiled), now))?;
    for warning in &report.warnings {
        writeln!(warn, "warning: {warning}")?;
    }
    write!(out, "{report}")?;
    Ok(report.is_same())
}

/// Writes a recording as a test file for a script of this name, which need not be there.
pub(crate) fn replay_as_test(script: &Path, recording: &Path, now: Instant, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = script.file_name().and_then(|name| name.to_str()).context("the script's name is not text")?.to_owned();
    let read = read_recording(recording)?;
    let written = on_a_deep_stack(move || replay::as_test(&read, &name, now))?;
    let text = written.map_err(anyhow::Error::msg).with_context(|| recording.display().to_string())?;
    out.write_all(text.as_bytes()).context("cannot write the test")
}

fn read_recording(path: &Path) -> anyhow::Result<Recording> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    Recording::read(BufReader::new(file)).with_context(|| path.display().to_string())
}

/// Runs what runs scripts on a thread with a shard's stack.
fn on_a_deep_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let thread = std::thread::Builder::new().name("policy tools".into()).stack_size(STACK).spawn(run)?;
    thread.join().map_err(|_| anyhow::anyhow!("the scripts' thread has panicked"))
}

/// Runs one test file; the scripts it names are looked for beside it.
pub(crate) fn test_file(path: &Path, now: Instant) -> anyhow::Result<Vec<Case>> {
    let name = path.display().to_string();
    let source = fs::read(path).with_context(|| name.clone())?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let run = move || {
        let load = move |script: &str| {
            let path = folder.join(script);
            let module = script.strip_prefix(MODULES_FOLDER).and_then(|rest| rest.strip_prefix('/'));
            match module.and_then(|module| module.strip_suffix(".lua")) {
                Some(module) => read_module(&folder.join("test"), module),
                None => fs::read(&path).map_err(|error| format!("{}: {error}", path.display())),
            }
        };
        trial::run(&name, &source, Rc::new(load), now)
    };
    on_a_deep_stack(run).with_context(|| path.display().to_string())
}

/// The scripts to upload, each with its name, and whether they are those of a folder.
pub(crate) fn to_upload(path: &Path, name: Option<String>) -> anyhow::Result<(Vec<(String, PathBuf)>, bool)> {
    let below = |file: &Path| file.strip_prefix(path).ok().and_then(Path::to_str).map(str::to_owned);
    let named = |file: PathBuf| Some((below(&file)?, file));
    if path.is_dir() {
        ensure!(name.is_none(), "--as names one script, and {} is a folder", path.display());
        return Ok((scripts(&[path.to_owned()], Wanted::Scripts)?.into_iter().filter_map(named).collect(), true));
    }
    let own = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = name.or(own).context("the script's name is not text")?;
    Ok((vec![(name, path.to_owned())], false))
}

/// A module's source: of the nearest `lib` folder beside or above the script.
fn read_module(script: &Path, module: &str) -> Result<Vec<u8>, String> {
    let file = module_file(module);
    let mut folders = script.ancestors().skip(1).take(script_files::MAX_DEPTH + 1);
    let path = folders.find_map(|folder| Some(folder.join(&file)).filter(|path| path.is_file()));
    let path = path.ok_or_else(|| format!("there is no {file} beside the script or above it"))?;
    fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The same as [`scripts`]; a folder without any is an error: whoever names it means another one, or has not written
/// them yet, and a check of nothing would pass for ever.
fn some_scripts(paths: &[PathBuf], wanted: Wanted) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let files = scripts(std::slice::from_ref(path), wanted)?;
        let what = match wanted {
            Wanted::Scripts => "script (*.lua, other than *_test.lua)",
            Wanted::Tests => "test file (*_test.lua)",
        };
        ensure!(!files.is_empty(), "there is no {what} in {}", path.display());
        found.extend(files);
    }
    Ok(found)
}

/// The files that are named, and the wanted ones of the folders that are named.
pub(crate) fn scripts(paths: &[PathBuf], wanted: Wanted) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let listing = script_files::list(path, wanted).with_context(|| path.display().to_string())?;
        if let Some(folder) = listing.unreadable.first() {
            bail!("folder {} cannot be read", folder.display());
        }
        found.extend(listing.files);
    }
    Ok(found)
}
