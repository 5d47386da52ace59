// What a scenario has found: it has to hold, or goes into the table of all.

/** The rows of this process' scenario. */
export const rows = [];

/** Puts a row into the table: times in milliseconds of people, in words what else was found, and a goal of the times' p95. */
export function row(scenario, times, words, goalMs) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => (sorted.length === 0 ? undefined : Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]));
  const p95 = at(0.95);
  const goal = goalMs === undefined ? '' : `${goalMs} ${p95 <= goalMs ? 'met' : 'MISSED'}`;
  rows.push({ scenario, people: times.length, 'p50 ms': at(0.5), 'p95 ms': p95, 'goal p95': goal, found: words });
}

export function check(isSo, words) {
  if (!isSo) throw new Error(`it is not so: ${words}`);
}
