// @ts-check
/** Live figures on the tiles: bitrate, picture size, frames a second. */
import { $, kept, page, write } from './page.js';

const PERIOD_MS = 1000;

/** Without a choice of the user's, the style sheet shows them where there is room. */
function show() {
  const shown = kept.get('figures');
  $('tiles').dataset.figures = shown ?? '';
  $('figures').setAttribute('aria-pressed', String(shown === 'on'));
}

export function toggleFigures() {
  kept.set('figures', kept.get('figures') === 'on' ? 'off' : 'on');
  show();
}

$('figures').addEventListener('click', toggleFigures);
show();

setInterval(async () => {
  const { client } = page;
  if (!client?.peerConnection) return;
  for (const [key, tile] of page.tiles) {
    const source = key === 'me' ? page.published.camera?.sender : tile.video && client.receiver(tile.video);
    if (!source || !tile.stats) continue;
    const report = /** @type {Map<string, any>} */ (/** @type {unknown} */ (await source.getStats()));
    write(tile.stats, describe(tile, [...report.values()]));
  }
}, PERIOD_MS);

/** @param {import('./tile.js').Tile} tile @param {any[]} reports */
function describe(tile, reports) {
  const streams = reports.filter(({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp');
  const total = streams.reduce((sum, s) => sum + (s.bytesReceived ?? s.bytesSent ?? 0), 0);
  const now = performance.now();
  const rate = tile.at ? Math.max(0, ((total - tile.bytes) * 8000) / (now - tile.at)) : 0;
  tile.bytes = total;
  tile.at = now;
  const largest = streams.reduce((a, b) => ((b.frameHeight ?? 0) > (a?.frameHeight ?? 0) ? b : a), streams[0]);
  const parts = [rate > 1e6 ? `${(rate / 1e6).toFixed(1)} Mb/s` : `${Math.round(rate / 1e3)} kb/s`];
  if (largest?.frameHeight) parts.push(`${largest.frameWidth}×${largest.frameHeight}`);
  if (largest?.framesPerSecond !== undefined) parts.push(`${Math.round(largest.framesPerSecond)} fps`);
  return parts.join(' · ');
}
