// @ts-check
/** Messages: what the policy passes on or says itself, and what the user writes. */
import { $, element, nameOf, notify, page } from './page.js';

/** A text of somebody is `{type: "chat", from, text}`; anything else of the policy is shown as it is. @param {any} value */
export function hearMessage(value) {
  page.messages.push(value);
  const text = typeof value === 'string' ? value : (value?.text ?? value?.message ?? JSON.stringify(value));
  if (value?.from !== undefined && value.from === page.client?.id) return; // our own, echoed
  const who = value?.from === undefined ? 'Room' : nameOf(String(value.from));
  write(who, String(text), false);
  if ($('chat').hidden) notify(`${who}: ${text}`, 'note');
}

/** @param {string} who @param {string} text @param {boolean} mine */
function write(who, text, mine) {
  const line = element('li', mine ? 'mine' : '', '');
  line.append(element('b', '', who), ` ${text}`);
  $('messages').append(line);
  line.scrollIntoView();
}

$('say').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  page.client.send({ type: 'chat', text });
  write('You', text, true);
  $('text').value = '';
});
