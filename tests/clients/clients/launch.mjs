// Starts a Chromium (over its debugging protocol) or a Firefox (over WebDriver BiDi).
import puppeteer from 'puppeteer-core';

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

/** @param {string} which `chromium` or `firefox` */
export function launch(which) {
  const settings = which === 'firefox' ? FIREFOX : CHROMIUM;
  return puppeteer.launch({ ...settings, headless: true, acceptInsecureCerts: true, timeout: START_MS });
}
