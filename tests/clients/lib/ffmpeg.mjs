// The ffmpeg that PyPI's imageio-ffmpeg carries: Debian's is too old for WHIP.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { VENV } from './paths.mjs';

/** Its path; the virtual environment has to be installed. */
export function ffmpeg() {
  const python = readdirSync(join(VENV, 'lib')).find((name) => name.startsWith('python3'));
  const folder = join(VENV, 'lib', python, 'site-packages/imageio_ffmpeg/binaries');
  return join(folder, readdirSync(folder).find((name) => name.startsWith('ffmpeg')));
}
