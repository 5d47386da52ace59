// Chromium (over its debugging protocol) or Firefox (over WebDriver BiDi): node browser.mjs chromium|firefox OPTIONS
import { fail, obey, options, say } from '../lib/contract.mjs';
import { launch } from './launch.mjs';
import { install } from './page.mjs';

const browser = await launch(process.argv[2]);
say({ version: await browser.version() });
const page = await browser.newPage();
page.on('console', (message) => {
  if (!message.text().startsWith('Failed to load resource')) console.error(`page: ${message.text()}`); // there is no icon
});
page.on('pageerror', (error) => console.error(`page: ${error}`));
console.error('the browser has started');
// A page of the server's own, so that its certificate is accepted and requests have its origin.
await page.goto(new URL('/healthz', options.url).href);
console.error('the page is there');
await page.evaluate(install);
const overTcp = process.env.CLIENTS_OVER_TCP !== undefined;
await page.evaluate((o) => window.peer[o.direction](o), { ...options, overTcp }).catch(fail);
if (process.env.CLIENTS_SDP) console.error(await page.evaluate(() => window.peer.sdp()));
say({ state: 'connected' });
obey({
  counts: () => page.evaluate(() => window.peer.counts()),
  hold: () => page.evaluate(() => window.peer.hold()),
  run: () => page.evaluate(() => window.peer.run()),
  async stop() {
    await page.evaluate((o) => window.peer.leave(o), options);
    await browser.close();
  },
});
