// @ts-check
/** The canary on the operators' page: which rooms try the newest scripts, and what they do beside the rest. */
import { tableOf } from './rows.js';

/**
 * @typedef {{rooms: number, failing: number, hooks: number, failures: number, allowed: number, rejected: number, mean_us: number}} Side
 * @typedef {{state: string, reason: string | null, rooms: string, scripts: string[], seconds: number, of_seconds: number,
 *            canary: Side, rest: Side}} Canary
 */

/** Shows it; nothing when there has been none, or the server watches no scripts. @param {HTMLElement} place @param {Canary | undefined} canary */
export function showCanary(place, canary) {
  const isThere = canary !== undefined && canary.state !== 'none';
  place.hidden = !isThere;
  if (!isThere) return;
  const words = document.createElement('p');
  words.textContent = `The canary of ${canary.scripts.join(', ')} in ${canary.rooms} ${stateOf(canary)}`;
  words.classList.toggle('bad', canary.state === 'back');
  place.replaceChildren(words, table(canary));
}

/** In the words of `moonring canary`. @param {Canary} canary */
function stateOf({ state, reason, seconds, of_seconds }) {
  const after = `after ${seconds.toFixed(0)} s`;
  if (state === 'running') return `runs for ${seconds.toFixed(0)} of ${of_seconds.toFixed(0)} s.`;
  if (state === 'promoted') return `was good ${after}: all rooms have been given the new version.`;
  return `went back ${after}: ${reason ?? ''}.`;
}

/** @param {Canary} canary */
function table({ canary, rest }) {
  const made = tableOf(['', 'Rooms', 'Failing', 'Hooks', 'Failed', 'Allowed', 'Rejected', 'A step']);
  const body = made.createTBody();
  for (const [name, side] of /** @type {[string, Side][]} */ ([['Canary', canary], ['Rest', rest]])) {
    const row = body.insertRow();
    row.insertCell().textContent = name;
    const counts = [side.rooms, side.failing, side.hooks, side.failures, side.allowed, side.rejected];
    counts.forEach((count, at) => {
      const cell = row.insertCell();
      cell.textContent = count.toLocaleString('en');
      cell.classList.toggle('bad', (at === 1 || at === 3) && count > 0);
    });
    row.insertCell().textContent = `${side.mean_us.toFixed(1)} µs`;
  }
  return made;
}
