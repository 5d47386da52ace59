// Where things are.
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const HERE = resolve(fileURLToPath(new URL('..', import.meta.url)));
export const ROOT = resolve(HERE, '../..');
export const ARTIFACTS = join(ROOT, 'artifacts');
/** What is built or generated here; not in git. */
export const BUILD = join(HERE, '.build');
export const VENV = join(HERE, '.venv');
