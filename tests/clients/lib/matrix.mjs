// The result for people (a table) and for programs (JSON).
import { DIRECTIONS } from './plan.mjs';

const CODECS = ['vp8', 'h264', 'vp9', 'av1', 'opus'];
/** Part of the sent frames that has to be decoded. */
export const ENOUGH = 0.95;
/** With fewer frames than that nothing is shown: the machine was too busy. */
const LEAST_FRAMES = 10;

export function passes({ sent, decoded, error }) {
  return !error && sent >= LEAST_FRAMES && decoded >= sent * ENOUGH;
}

/** `results`: `{client, codec, direction, sent, decoded, error}`. */
export function table(results) {
  const rows = [['client', 'direction', ...CODECS]];
  const names = [...new Set(results.map(({ client }) => client))];
  for (const name of names) {
    for (const direction of DIRECTIONS) {
      const mine = results.filter((r) => r.client === name && r.direction === direction);
      if (mine.length === 0) continue;
      rows.push([name, direction, ...CODECS.map((codec) => cell(mine.find((r) => r.codec === codec)))]);
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((text, column) => text.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

function cell(result) {
  if (!result) return '-';
  if (result.error) return 'FAILED';
  const figure = `${result.decoded}/${result.sent}`;
  if (!passes(result)) return `${figure} FAILED`;
  return result.tries > 1 ? `${figure} (2nd try)` : figure;
}

/** Why cells failed, each measurement once, with the last lines of what its clients wrote. */
export function failures(results, lines = 15) {
  const seen = new Set();
  const texts = [];
  for (const result of results.filter((r) => !passes(r))) {
    if (result.error && seen.has(result.room)) continue;
    seen.add(result.room);
    const why = result.error ?? `${result.decoded} of ${result.sent} frames were decoded`;
    texts.push(`${result.client} ${result.direction} ${result.codec}: ${why}`);
    for (const [direction, log] of Object.entries(result.logs ?? {})) {
      const last = log.slice(-lines);
      texts.push(...last.map((line) => `    ${direction}: ${line.slice(0, 300)}`));
    }
    texts.push(...(result.server_log ?? []).slice(-lines).map((line) => `    server: ${line.slice(0, 300)}`));
  }
  return texts.join('\n');
}
