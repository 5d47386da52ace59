// @ts-check
/**
 * At what size tracks are shown, so that the server sends each in the layer that is worth it, and nothing of what nobody
 * looks at: the element's size in device pixels while it is in view, 0 x 0 otherwise.
 *
 * @typedef {{width: number, height: number}} Size
 * @typedef {{track: string, visible: boolean, onresize: () => void}} Shown
 */

/** Changes are collected this long, so that a track's size is told at most five times a second. */
const COLLECT_MS = 200;
/** The server takes 20 messages a second from a client for long: this many milliseconds for each that is sent. */
const MS_PER_MESSAGE = 60;
/** And 200 at once, from which others have to come, too: what is beyond would be refused, and never told. */
const MOST_AT_ONCE = 100;
/** A hidden page still counts as watched for this long: people look into another tab and come back. */
const HIDDEN_AFTER_MS = 3000;
/** Smaller changes are not worth a message. */
const WORTH_TELLING = 0.1;

export class Views {
  #tell;
  /** @type {Map<HTMLElement, Shown>} */ #elements = new Map();
  /** Tracks that are shown, or were and are no more. @type {Set<string>} */ #watched = new Set();
  /** What the server was told last. @type {Map<string, Size>} */ #told = new Map();
  #timer = 0;
  #hiddenTimer = 0;
  #pageHidden = false;
  #resizes = new ResizeObserver(() => this.#soon());
  #sights = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const shown = this.#elements.get(/** @type {HTMLElement} */ (target));
      if (shown) shown.visible = isIntersecting;
    }
    this.#soon();
  });
  #onVisibility = () => {
    clearTimeout(this.#hiddenTimer);
    const hidden = document.visibilityState === 'hidden';
    this.#hiddenTimer = setTimeout(() => {
      this.#pageHidden = hidden;
      this.#soon();
    }, hidden ? HIDDEN_AFTER_MS : 0);
  };

  /** @param {(track: string, size: Size) => boolean} tell Says a size to the server; false if it cannot be told now. */
  constructor(tell) {
    this.#tell = tell;
  }

  /** From now on the track is shown in the element, and no other one there. @param {string} track @param {HTMLElement} element */
  watch(track, element) {
    this.unwatch(element);
    if (this.#elements.size === 0) {
      document.addEventListener('visibilitychange', this.#onVisibility);
      clearTimeout(this.#hiddenTimer);
      this.#pageHidden = document.visibilityState === 'hidden'; // nobody has looked since the last one
    }
    const onresize = () => this.#soon();
    // Until the browser has looked it counts as visible, so that the picture does not begin with a pause.
    this.#elements.set(element, { track, visible: true, onresize });
    this.#watched.add(track);
    element.addEventListener('resize', onresize); // of a video: its picture has another shape
    this.#resizes.observe(element);
    this.#sights.observe(element);
    this.#soon();
  }

  /** @param {HTMLElement} element */
  unwatch(element) {
    const shown = this.#elements.get(element);
    if (!shown) return;
    this.#elements.delete(element);
    if (this.#elements.size === 0) document.removeEventListener('visibilitychange', this.#onVisibility);
    element.removeEventListener('resize', shown.onresize);
    this.#resizes.unobserve(element);
    this.#sights.unobserve(element);
    this.#soon();
  }

  /** A track has ended: nobody is to be told of it. @param {string} track */
  forget(track) {
    this.#told.delete(track);
    this.#watched.delete(track);
    for (const [element, shown] of this.#elements) if (shown.track === track) this.unwatch(element);
  }

  /** The server has forgotten what it was told. */
  repeat() {
    this.#told.clear();
    this.#soon();
  }

  /** A track can be told of now that could not before. */
  refresh() {
    this.#soon();
  }

  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#hiddenTimer);
    for (const element of [...this.#elements.keys()]) this.unwatch(element);
    clearTimeout(this.#timer);
    this.#resizes.disconnect();
    this.#sights.disconnect();
  }

  #soon() {
    this.#timer ||= setTimeout(() => this.#flush(), COLLECT_MS);
  }

  #flush() {
    this.#timer = 0;
    let sent = 0;
    for (const [track, size] of this.#sizes()) {
      const told = this.#told.get(track);
      if (sent >= MOST_AT_ONCE) break; // the rest has its turn after a pause
      if (told && !isOther(told, size)) continue;
      if (!this.#tell(track, size)) continue;
      this.#told.set(track, size);
      sent++;
    }
    if (sent > 0) this.#timer = setTimeout(() => this.#flush(), Math.max(COLLECT_MS, sent * MS_PER_MESSAGE));
  }

  /** The largest size of each track; 0 x 0 of those that were shown and are no more. */
  #sizes() {
    /** @type {Map<string, Size>} */
    const sizes = new Map([...this.#watched].map((track) => [track, { width: 0, height: 0 }]));
    for (const [element, { track, visible }] of this.#elements) {
      const inWindow = document.pictureInPictureElement === element;
      const size = inWindow || (visible && !this.#pageHidden) ? pictureSize(element) : { width: 0, height: 0 };
      const known = sizes.get(track);
      if (!known || size.width * size.height > known.width * known.height) sizes.set(track, size);
    }
    return sizes;
  }
}

/** @param {Size} told @param {Size} size */
function isOther(told, size) {
  if ((told.width === 0) !== (size.width === 0)) return true;
  return Math.abs(told.width - size.width) > WORTH_TELLING * told.width
    || Math.abs(told.height - size.height) > WORTH_TELLING * told.height;
}

/** The size of the picture in the element, without the bars beside it. @param {HTMLElement} element @returns {Size} */
function pictureSize(element) {
  const ratio = window.devicePixelRatio || 1;
  const box = { width: element.clientWidth * ratio, height: element.clientHeight * ratio };
  if (box.width === 0 || box.height === 0) return { width: 0, height: 0 };
  const { videoWidth, videoHeight } = /** @type {Partial<HTMLVideoElement>} */ (element);
  if (!videoWidth || !videoHeight) return rounded(box);
  const scales = [box.width / videoWidth, box.height / videoHeight];
  const scale = getComputedStyle(element).objectFit === 'cover' ? Math.max(...scales) : Math.min(...scales);
  return rounded({ width: videoWidth * scale, height: videoHeight * scale });
}

/** @param {Size} size */
const rounded = ({ width, height }) => ({ width: Math.round(width), height: Math.round(height) });
