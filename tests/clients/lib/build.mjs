// What has to be compiled before a client can run.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD, HERE, ROOT } from './paths.mjs';

const COMPILE_MS = 20 * 60_000;

/** Go resolves the major versions in Debian's import paths (".../v3") for code in a GOPATH with a go.mod only. */
export function buildPion() {
  const source = join(BUILD, 'gopath/src');
  mkdirSync(source, { recursive: true });
  rmSync(join(source, 'pion'), { force: true });
  symlinkSync(join(HERE, 'clients/pion'), join(source, 'pion'));
  const cwd = join(source, 'pion');
  // Go takes PWD for the folder's name, which it needs: the link's, not what it leads to.
  const env = { ...process.env, PWD: cwd, GO111MODULE: 'off', GOPATH: `${join(BUILD, 'gopath')}:/usr/share/gocode` };
  execFileSync('go', ['build', '-o', join(BUILD, 'pion')], { cwd, env, stdio: 'inherit', timeout: COMPILE_MS });
}

export function buildStr0m() {
  // By name and for the whole workspace: another selection of packages has other features, and so other dependencies to build.
  const args = ['build', '--locked', '--workspace', '--bin', 'str0m-client'];
  execFileSync('cargo', args, { cwd: ROOT, stdio: 'inherit', timeout: COMPILE_MS });
}
