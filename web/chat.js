// @ts-check
/** Messages: what the policy passes on or says itself, and what the user writes. */
import { $, element, nameOf, notify, page } from './page.js';

/** So many lines stay in the list. */
const MOST_LINES = 500;

let unread = 0;

/**
 * A text of somebody is `{type: "chat", from, text}`; a policy's own words are a string, or an object with a `text` or a
 * `message`. Anything else is between the policy and programs that know it.
 * @param {any} value
 */
export function hearMessage(value) {
  page.messages.push(value);
  if (page.messages.length > MOST_LINES) page.messages.shift();
  const text = typeof value === 'string' ? value : (value?.text ?? value?.message);
  if (typeof text !== 'string') return;
  const from = value?.from;
  if (from !== undefined && from === page.client?.id) return; // our own, echoed
  const who = from === undefined ? 'Room' : typeof from === 'string' ? nameOf(from) : 'Somebody';
  write(who, text, false);
  if (!$('chat').hidden) return;
  notify(`${who}: ${text}`, 'note');
  count(unread + 1);
}

/** @param {number} messages that nobody has read */
export function count(messages) {
  unread = messages;
  $('unread').textContent = String(messages);
  $('unread').hidden = messages === 0;
  if (messages > 0) $('show-chat').setAttribute('aria-label', `Messages, ${messages} unread`);
  else $('show-chat').removeAttribute('aria-label');
}

/** @param {string} who @param {string} text @param {boolean} mine */
function write(who, text, mine) {
  const line = element('li', mine ? 'mine' : '', '');
  line.append(element('b', '', who), ` ${text}`);
  $('messages').append(line);
  if ($('messages').children.length > MOST_LINES) $('messages').firstChild.remove();
  $('messages').scrollTop = $('messages').scrollHeight;
}

$('say').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  if (!page.client?.send({ type: 'chat', text })) return notify('There is no connection: it was not sent');
  write('You', text, true);
  $('text').value = '';
});
