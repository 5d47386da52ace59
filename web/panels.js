// @ts-check
/** What opens and closes: people, messages, the menu, the dialogs; the invite link; single-key shortcuts. */
import { count } from './chat.js';
import { toggle, toggleScreen } from './controls.js';
import { toggleFigures } from './figures.js';
import { $, kept, notify, page } from './page.js';
import { isPinned, pin, toggleFullScreen, toggleView } from './stage.js';

/** @type {Record<string, string>} */
const PANELS = { people: 'show-people', chat: 'show-chat' };

/** Opens a panel and closes the other one, or closes it; the focus goes in, and back to the button. @param {string} id */
function togglePanel(id) {
  const opens = $(id).hidden;
  const hadFocus = $(id).contains(document.activeElement);
  for (const [panel, button] of Object.entries(PANELS)) {
    $(panel).hidden = panel !== id || !opens;
    $(button).setAttribute('aria-expanded', String(!$(panel).hidden));
  }
  if (opens && id === 'chat') {
    count(0);
    $('text').focus();
  }
  if (!opens && hadFocus) $(PANELS[id]).focus();
}

/** Everything closed, as before the call. */
export function closePanels() {
  for (const panel of Object.keys(PANELS)) if (!$(panel).hidden) togglePanel(panel);
  $('more').hidePopover?.();
  for (const dialog of ['settings', 'shortcuts']) $(dialog).close();
}

/** The token goes behind the `#`: it is in nobody's log. */
export function inviteLink() {
  const link = new URL(location.pathname, location.origin);
  link.searchParams.set('room', page.form.room);
  if (page.form.token) link.hash = new URLSearchParams({ token: page.form.token }).toString();
  return link.href;
}

async function invite() {
  const link = inviteLink();
  try {
    await navigator.clipboard.writeText(link);
    notify('The invite link is in the clipboard. Whoever has it can come in.', 'note');
  } catch {
    prompt('The invite link', link);
  }
}

function showShortcuts() {
  $('more').hidePopover?.();
  if (!$('shortcuts').open) $('shortcuts').showModal();
}

/** @type {Record<string, () => void>} */
const KEYS = {
  m: () => toggle('mic'),
  v: () => toggle('camera'),
  s: toggleScreen,
  p: () => togglePanel('people'),
  c: () => togglePanel('chat'),
  g: toggleView,
  f: toggleFullScreen,
  i: invite,
  d: toggleFigures,
  '?': showShortcuts,
};

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (document.body.dataset.state !== 'call' || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key === 'Escape') return escape(target);
  const writes = target.closest('input:not([type=checkbox]), textarea, select, dialog, [contenteditable]');
  const action = KEYS[event.key.toLowerCase()];
  if (writes || !action || !$('use-keys').checked) return;
  event.preventDefault();
  action();
}

/** @param {HTMLElement} target */
function escape(target) {
  const open = Object.keys(PANELS).find((panel) => $(panel).contains(target));
  if (open) togglePanel(open);
  else if (isPinned() && !document.querySelector('dialog[open], :popover-open')) pin(undefined);
}

for (const [panel, button] of Object.entries(PANELS)) $(button).addEventListener('click', () => togglePanel(panel));
$('invite').addEventListener('click', invite);
$('keys').addEventListener('click', showShortcuts);
$('choose').addEventListener('click', () => {
  $('more').hidePopover?.();
  $('settings').showModal();
});
for (const id of ['view', 'full', 'figures']) $(id).addEventListener('click', () => $('more').hidePopover?.());
$('use-keys').checked = kept.get('keys') !== 'off';
$('use-keys').addEventListener('change', () => kept.set('keys', $('use-keys').checked ? 'on' : 'off'));
document.addEventListener('keydown', onKey);
