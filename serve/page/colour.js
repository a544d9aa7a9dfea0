// Colours of experts: eight hues that stay apart for colour-blind eyes, four kinds of underline, and
// dark or light, as on the atlas page. The hues are page.css's.

export const HUES = 8;

/** Classes of the colour of an expert, or of a token without one. */
export function expertClass(expert) {
  if (expert < 0) {
    return 'none';
  }
  const line = Math.floor(expert / HUES) % 4;
  const dark = Math.floor(expert / 32) % 2;
  return 'h' + (expert % HUES) + ' s' + line + (dark ? ' dark' : '');
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

export function css(colour) {
  return 'rgb(' + colour.join(',') + ')';
}
