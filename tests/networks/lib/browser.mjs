// @ts-check
// A Chromium in a place of its own.
import { CHROMIUM, startBrowser } from '../../e2e/lib.mjs';

/** Starts it; `NETWORKS_NICE` puts it before what else the machine does. @param {import('./net.mjs').Place} place @param {string} [flags] */
export function browserIn(place, flags = '') {
  return startBrowser(place.wrap(`nice -n ${process.env.NETWORKS_NICE ?? 0} ${CHROMIUM} ${flags}`), ['WebRtcHideLocalIpsWithMdns']);
}
