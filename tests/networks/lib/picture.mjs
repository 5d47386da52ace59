// @ts-check
// A moving picture that is hard to compress, as a file for Chromium's fake camera: drawing it in a page would take more
// of a small machine than encoding it.
import { closeSync, openSync, writeSync } from 'node:fs';

export const [WIDTH, HEIGHT, FPS] = [960, 540, 15];
const FRAMES = 30;

/** @param {string} path of a .y4m file */
export function writePicture(path) {
  const file = openSync(path, 'w');
  writeSync(file, `YUV4MPEG2 W${WIDTH} H${HEIGHT} F${FPS}:1 Ip A1:1 C420\n`);
  // Grain of several sizes, so that the small layers have some too; the same in every run.
  const fine = grain(2 * WIDTH * HEIGHT);
  const coarse = grain(2 * WIDTH * HEIGHT);
  const luma = Buffer.alloc(WIDTH * HEIGHT);
  const chroma = Buffer.alloc((WIDTH * HEIGHT) / 2, 128);
  for (let n = 0; n < FRAMES; n++) {
    for (let y = 0; y < HEIGHT; y++) {
      for (let x = 0; x < WIDTH; x++) {
        const block = coarse[((y + 4 * n) >> 3) * WIDTH + ((x + 7 * n) >> 3)];
        luma[y * WIDTH + x] = 60 + (block >> 1) + (fine[y * WIDTH + x + n * 7919] >> 2);
      }
    }
    writeSync(file, 'FRAME\n');
    writeSync(file, luma);
    writeSync(file, chroma);
  }
  closeSync(file);
}

/** @param {number} length */
function grain(length) {
  let state = 12345;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 24);
}
