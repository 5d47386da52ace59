// @ts-check
// The height of the picture, and what the server took the path for, over time: a panel per receiver.

const [WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM] = [900, 190, 60, 70, 34, 26];
const HEIGHTS = [135, 270, 540];

/** @typedef {import('./scene.mjs').Row} Row */

/** @param {Row[]} rows @returns {string} an SVG */
export function chart(rows) {
  const panels = rows.filter(({ phase }) => phase !== 'lifted');
  const body = panels.map((row, n) => `<g transform="translate(0 ${n * PANEL})">${panel(row)}</g>`).join('\n');
  const size = `width="${WIDTH}" height="${panels.length * PANEL}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
${body}
</svg>
`;
}

/** @param {Row} row */
function panel({ scene, link, samples, known, lifted }) {
  const end = Math.max(1, ...samples.map(({ t }) => t));
  const x = (/** @type {number} */ t) => LEFT + (t / end) * (WIDTH - LEFT - RIGHT);
  const bottom = PANEL - BOTTOM;
  const highest = Math.max(720, ...samples.map(({ height }) => height));
  const y = (/** @type {number} */ height) => bottom - (height / highest) * (bottom - TOP);
  // 10 kbit/s to 20 Mbit/s, as logarithm.
  const rate = (/** @type {number} */ bps) => bottom - ((Math.log10(Math.max(bps, 1e4)) - 4) / 3.3) * (bottom - TOP);
  // The server was watched for longer than the picture: both end together.
  const late = known.length > 0 ? Math.max(0, known[known.length - 1].at - end) : 0;
  const line = (/** @type {'estimate'|'target'} */ what) =>
    known.filter((k) => k[what] && k.at >= late).map((k) => `${x(k.at - late).toFixed(1)},${rate(k[what] ?? 0).toFixed(1)}`).join(' ');
  const steps = samples.map(({ t, height }, n) => `${x(t).toFixed(1)},${y(n > 0 ? samples[n - 1].height : height).toFixed(1)} ${x(t).toFixed(1)},${y(height).toFixed(1)}`);
  const still = samples.filter((sample, n) => n > 0 && sample.frames === samples[n - 1].frames && sample.frames > 0);
  return `<text x="${LEFT}" y="20" font-weight="bold">${scene}: ${link}</text>
<text x="${WIDTH - RIGHT}" y="20" text-anchor="end"><tspan fill="#1f6feb">picture height</tspan>, <tspan fill="#d9480f">estimate</tspan>, <tspan fill="#e8a33d">target</tspan>, <tspan fill="#c92a2a">no new picture</tspan></text>
${lifted > 0 ? `<rect x="${LEFT}" y="${TOP}" width="${(x(lifted) - LEFT).toFixed(1)}" height="${bottom - TOP}" fill="#f1f3f5"/>` : ''}
${HEIGHTS.map((h) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(h)}" y2="${y(h)}" stroke="#ddd"/><text x="${LEFT - 6}" y="${y(h) + 4}" text-anchor="end">${h}</text>`).join('')}
${[1e5, 1e6, 1e7].map((bps) => `<text x="${WIDTH - RIGHT + 6}" y="${rate(bps) + 4}" fill="#d9480f">${bps / 1e6} Mbit/s</text>`).join('')}
${still.map(({ t }) => `<rect x="${x(t - 0.25).toFixed(1)}" y="${bottom - 6}" width="${(x(0.25) - x(0)).toFixed(1)}" height="6" fill="#c92a2a"/>`).join('')}
<polyline points="${steps.join(' ')}" fill="none" stroke="#1f6feb" stroke-width="2"/>
<polyline points="${line('target')}" fill="none" stroke="#e8a33d"/>
<polyline points="${line('estimate')}" fill="none" stroke="#d9480f" stroke-width="1.5"/>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${bottom}" y2="${bottom}" stroke="#333"/>
${Array.from({ length: Math.floor(end / 5) + 1 }, (_, n) => `<text x="${x(n * 5)}" y="${bottom + 16}" text-anchor="middle">${n * 5} s</text>`).join('')}`;
}
