// Many browsers in one room: as many encoders and decoders as the machine bears, so that no other file runs beside it.
import { test } from 'node:test';
import { flows, keepScreenshot, shared } from './lib.mjs';

const { withTabs } = shared({});

test('five browsers: twenty videos and twenty audios at once', async () => {
  await withTabs('five', ['Ada', 'Grace', 'Linus', 'Margaret', 'Dennis'], async (tabs) => {
    for (const tab of tabs) await flows(tab, { videos: 4, audios: 4 });
    // Once more when all are there, all at the same time.
    await Promise.all(tabs.map((tab) => flows(tab, { videos: 4, audios: 4 })));
    await tabs[0].waitForTimeout(1500); // the tiles' figures
    await keepScreenshot(tabs[0], 'five-browsers');
  });
});
