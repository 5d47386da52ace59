// Installs what the chosen clients need and is not there: Debian packages, npm packages, a Python virtual environment.
// Only the registries are asked. Uses nothing but node itself.
import { createHash } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD, HERE, VENV } from './paths.mjs';

const INSTALL_MS = 15 * 60_000;

export function install(clients) {
  mkdirSync(BUILD, { recursive: true });
  debian([...new Set(['iproute2', 'python3-venv', ...clients.flatMap(({ apt }) => apt ?? [])])]);
  npm();
  python();
  for (const { name, build } of clients) {
    if (!build) continue;
    progress(`Building the client ${name}`);
    build();
  }
}

export function progress(text) {
  console.log(`== ${text}`);
}

function run(command, args, env = {}) {
  execFileSync(command, args, { stdio: 'inherit', timeout: INSTALL_MS, env: { ...process.env, ...env } });
}

function debian(packages) {
  const status = (name) => spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status}', name]).stdout?.toString();
  const missing = packages.filter((name) => status(name) !== 'installed');
  if (missing.length === 0) return;
  progress(`Installing with apt: ${missing.join(' ')}`);
  const wait = ['-o', 'DPkg::Lock::Timeout=600'];
  run('apt-get', [...wait, 'update', '-qq']);
  const how = ['install', '-y', '-qq', '--no-install-recommends'];
  run('apt-get', [...wait, ...how, ...missing], { DEBIAN_FRONTEND: 'noninteractive' });
}

function npm() {
  const [lock, done] = [join(HERE, 'package-lock.json'), join(HERE, 'node_modules/.package-lock.json')];
  if (existsSync(done) && statSync(done).mtimeMs >= statSync(lock).mtimeMs) return;
  progress("Installing the clients' npm packages");
  run('npm', ['--prefix', HERE, 'ci', '--no-audit', '--no-fund']);
}

function python() {
  const requirements = join(HERE, 'requirements.txt');
  const stamp = join(VENV, 'installed');
  const wanted = createHash('sha256').update(readFileSync(requirements)).digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  progress('Installing the Python packages into tests/clients/.venv');
  run('/usr/bin/python3', ['-m', 'venv', '--clear', VENV]);
  run(join(VENV, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', '--no-deps', '-r', requirements]);
  writeFileSync(stamp, wanted);
}
