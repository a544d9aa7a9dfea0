// The small charts below the grid.

const HEIGHT = 150; // pixels of the page; the width is the chart's own
const LEFT = 34;
const BOTTOM = 128;
const TOP = 10;

function shape(svg, name, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key of Object.keys(attributes)) {
    made.setAttribute(key, attributes[key]);
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  svg.append(made);
  return made;
}

// Empties a chart; its width.
function begin(svg) {
  const width = svg.clientWidth || 400;
  svg.replaceChildren();
  svg.setAttribute('viewBox', '0 0 ' + width + ' ' + HEIGHT);
  return width;
}

// The next of 1, 2, 5, 10, 20, 50, 100 per cent above a share.
function ceiling(share) {
  return [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((step) => share <= step) || 1;
}

function axis(svg, top, width) {
  for (const part of [0, 0.5, 1]) {
    const y = BOTTOM - part * (BOTTOM - TOP);
    const percent = 100 * top * part;
    shape(svg, 'path', { class: 'rule', d: 'M' + LEFT + ' ' + y + 'H' + width });
    shape(svg, 'text', { class: 'y', x: LEFT - 6, y: y + 4 },
      (percent < 1 && percent > 0 ? percent.toFixed(1) : percent.toFixed(percent % 1 ? 1 : 0)) + (part === 1 ? ' %' : ''));
  }
}

// Some numbers below a chart: the first, the last, and a few between.
function ticks(svg, count, xOf, nameOf) {
  const step = Math.max(1, Math.ceil(count / 8));
  for (let i = 0; i < count; i += step) {
    shape(svg, 'text', { class: 'x', x: xOf(i), y: HEIGHT - 5 }, nameOf(i));
  }
}

/** Shares of a layer's choices by expert. */
export function drawLoad(svg, shares, marked) {
  const wide = begin(svg);
  const top = ceiling(Math.max(1 / shares.length, ...shares));
  const width = (wide - LEFT) / shares.length;
  const y = (share) => BOTTOM - share / top * (BOTTOM - TOP);
  let bars = '';
  let one = '';
  shares.forEach((share, expert) => {
    const bar = 'M' + (LEFT + expert * width + width * 0.1).toFixed(2) + ' ' + BOTTOM + 'V' + y(share).toFixed(2) +
      'h' + (width * 0.8).toFixed(2) + 'V' + BOTTOM + 'z';
    if (expert === marked) {
      one = bar;
    } else {
      bars += bar;
    }
  });
  axis(svg, top, wide);
  shape(svg, 'path', { class: 'bars', d: bars });
  shape(svg, 'path', { class: 'bars marked', d: one });
  shape(svg, 'path', { class: 'dashed', d: 'M' + LEFT + ' ' + y(1 / shares.length) + 'H' + wide });
  ticks(svg, shares.length, (i) => LEFT + (i + 0.5) * width, String);
}

function line(values, xOf, yOf) {
  let path = '';
  values.forEach((value, i) => {
    if (!Number.isNaN(value)) {
      path += (path === '' ? 'M' : 'L') + xOf(i).toFixed(2) + ' ' + yOf(value).toFixed(2);
    }
  });
  return path;
}

/** Hits by memory: this policy, LRU, the optimum and chance; `now` is the point that is. */
export function drawHits(svg, points, now, sizeOf) {
  const wide = begin(svg);
  const first = points[0].memory;
  const span = Math.max(1, points[points.length - 1].memory - first);
  const x = (i) => LEFT + 12 + (points[i].memory - first) * (wide - LEFT - 36) / span;
  const y = (share) => BOTTOM - share * (BOTTOM - TOP);
  axis(svg, 1, wide);
  for (const [name, key] of [['even', 'uniform'], ['dashed', 'lru'], ['dotted', 'optimum'], ['value', 'own']]) {
    shape(svg, 'path', { class: name, d: line(points.map((point) => point[key]), x, y) });
  }
  shape(svg, 'circle', { class: 'dot here', cx: x(now), cy: y(points[now].own), r: 4 });
  for (const i of [0, Math.floor((points.length - 1) / 2), points.length - 1]) {
    shape(svg, 'text', { class: 'x', x: x(i), y: HEIGHT - 5 }, sizeOf(points[i].memory));
  }
}

/** By layer: measured, at random, and from the experts' own use; `here` is the layer that is shown. */
export function drawRepetition(svg, layers, { measured, random, usage }, here) {
  const wide = begin(svg);
  const top = ceiling(Math.max(...random, ...measured.filter((v) => v >= 0), ...usage.filter((v) => v >= 0)));
  const inner = wide - LEFT - 24;
  const x = (i) => LEFT + 12 + (layers.length > 1 ? i * inner / (layers.length - 1) : inner / 2);
  const y = (share) => BOTTOM - share / top * (BOTTOM - TOP);
  axis(svg, top, wide);
  if (layers.length === 1) { // a line of one point is none
    for (const [name, values] of [['dashed', random], ['dotted', usage]]) {
      if (values[0] >= 0) {
        shape(svg, 'path', { class: name, d: 'M' + LEFT + ' ' + y(values[0]) + 'H' + wide });
      }
    }
  } else {
    shape(svg, 'path', { class: 'dashed', d: line(random, x, y) });
    shape(svg, 'path', { class: 'dotted', d: line(usage, x, y) });
    shape(svg, 'path', { class: 'value', d: line(measured, x, y) });
  }
  measured.forEach((value, i) => {
    if (!Number.isNaN(value) && (layers.length <= 32 || i === here)) {
      shape(svg, 'circle', { class: i === here ? 'dot here' : 'dot', cx: x(i), cy: y(value), r: i === here ? 4 : 2.5 });
    }
  });
  ticks(svg, layers.length, x, (i) => String(layers[i]));
}
