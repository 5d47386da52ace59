// Chromium (over its debugging protocol) or Firefox (over WebDriver BiDi): node browser.mjs chromium|firefox OPTIONS
import puppeteer from 'puppeteer-core';
import { fail, obey, options, say } from '../lib/contract.mjs';
import { install } from './page.mjs';

const CHROMIUM = {
  browser: 'chrome',
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  pipe: true, // so that it ends with this process, however that ends
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--autoplay-policy=no-user-gesture-required',
  ],
};
const FIREFOX = {
  browser: 'firefox',
  executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
  extraPrefsFirefox: {
    'media.autoplay.default': 0,
    'media.autoplay.blocking_policy': 0,
    'media.autoplay.block-webaudio': false,
    'media.peerconnection.ice.obfuscate_host_addresses': false,
    'privacy.reduceTimerPrecision': false,
  },
};

const START_MS = 60_000; // on a busy machine
const which = process.argv[2] === 'firefox' ? FIREFOX : CHROMIUM;
const browser = await puppeteer.launch({ ...which, headless: true, acceptInsecureCerts: true, timeout: START_MS });
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
await page.evaluate((o) => window.peer[o.direction](o), options).catch(fail);
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
