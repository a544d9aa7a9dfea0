// Colours of experts: the eight hues of the atlas page, which stay apart for colour-blind eyes, each in
// four lightnesses; from 32 experts on in four kinds of underline.

export const HUES = 8;
const MIXES = [['ink', 0], ['ink', 0.42], ['paper', 0.45], ['ink', 0.66]]; // page.css has the same

/** Classes of the colour of an expert, or of a token without one. */
export function expertClass(expert) {
  if (expert < 0) {
    return 'none';
  }
  return 'h' + (expert % HUES) + ' l' + (Math.floor(expert / HUES) % 4) + ' s' + (Math.floor(expert / 32) % 4);
}

function channels(text) {
  const number = parseInt(text.trim().slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** The palette in force as [r, g, b]: names of page.css's variables without their dashes. */
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const palette = { hues: [] };
  for (const name of ['paper', 'card', 'line', 'ink', 'soft', 'accent']) {
    palette[name] = channels(style.getPropertyValue('--' + name));
  }
  for (let hue = 0; hue < HUES; hue++) {
    palette.hues.push(channels(style.getPropertyValue('--h' + hue)));
  }
  return palette;
}

/** The same colour as [r, g, b]. */
export function expertColour(palette, expert) {
  const [towards, part] = MIXES[Math.floor(expert / HUES) % 4];
  return palette.hues[expert % HUES].map((value, i) => value + (palette[towards][i] - value) * part);
}

export function css(colour) {
  return 'rgb(' + colour.join(',') + ')';
}
