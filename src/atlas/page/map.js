// What a cell of the map shows, and the map.

// -- Views: what a cell of the map shows -----------------------------------------------------------

function loadOf(trace, counts) {
  const values = new Float64Array(trace.cells);
  const wanted = shownDomains();
  for (let l = 0; l < trace.L; l++) {
    const row = trace.row(counts, domains.length, l, wanted);
    const sum = total(row);
    for (let e = 0; e < trace.E; e++) values[l * trace.E + e] = sum > 0 ? row[e] / sum * trace.E : NaN;
  }
  return values;
}

/** A row's share over the share over all rows: 1 where the expert does not care. */
function liftOf(trace, counts, rows, wanted) {
  const values = new Float64Array(trace.cells);
  const every = Array.from({ length: rows }, (_, i) => i);
  for (let l = 0; l < trace.L; l++) {
    const own = trace.row(counts, rows, l, [wanted]);
    const all = trace.row(counts, rows, l, every);
    const ownSum = total(own);
    const allSum = total(all);
    for (let e = 0; e < trace.E; e++) {
      values[l * trace.E + e] = all[e] > 0 && ownSum > 0 ? own[e] / ownSum / (all[e] / allSum) : NaN;
    }
  }
  return values;
}

/** Effects [L, E] of masking on the tokens of one row of [L, rows, E]. */
function effectOf(effects, rows, row) {
  const E = reader.E;
  return Float64Array.from({ length: reader.cells }, (_, i) => effects[(Math.floor(i / E) * rows + row) * E + i % E]);
}

/** name, what a value is in words, the values of a trace; folded: told by its logarithm around 1; level:
 * what an even share would be; found: by mixt probe. */
function views() {
  const all = {
    load: { name: 'load', says: 'times an even part of the choices', of: (trace) => loadOf(trace, trace.any), format: times, level: 1 },
    first: { name: 'first choices', says: 'times an even part of the first choices', of: (trace) => loadOf(trace, trace.first), format: times, level: 1 },
    weight: { name: 'weight', says: 'mean weight where it is chosen', of: (trace) => trace.meanWeight, format: (v) => v.toFixed(3) },
    domain: { name: 'by domain', says: `times as often in ${domains[state.d]} as in all text`, folded: true, format: times, level: 1,
      of: (trace) => liftOf(trace, trace.any, domains.length, state.d) },
    class: { name: 'by class', says: `times as often for ${classes[state.c]} as for all tokens`, folded: true, format: times, level: 1,
      of: (trace) => liftOf(trace, trace.byClass, classes.length, state.c) },
  };
  return probe && state.m === 0 ? { ...all, ...probeViews() } : all;
}

const nats = (value) => Number.isFinite(value) ? value.toFixed(4) : '–';
const amount = (value) => Number.isFinite(value) ? Number(value.toPrecision(4)).toString() : '–';

function probeViews() {
  const known = {
    mask: [probe.mask, { name: 'masked', says: 'nats a token more when it is masked', signed: true, format: nats, of: () => Float64Array.from(probe.mask) }],
    maskd: [probe.domain, { name: 'masked, by domain', says: `nats a token more in ${domains[state.d]} when it is masked`, signed: true, format: nats,
      of: () => effectOf(probe.domain, domains.length, state.d) }],
    maskc: [probe.byClass, { name: 'masked, by class', says: `nats a token more on ${classes[state.c]} when it is masked`, signed: true, format: nats,
      of: () => effectOf(probe.byClass, classes.length, state.c) }],
    reap: [probe.reap, { name: 'REAP', says: 'REAP score: its gate times the norm of its output, mean over its tokens', format: amount, of: () => Float64Array.from(probe.reap) }],
    norm: [probe.norm, { name: 'norm', says: 'mean norm of its output', format: amount, of: () => Float64Array.from(probe.norm) }],
    largest: [probe.largest, { name: 'largest value', says: 'the largest absolute value of its output', format: amount, of: () => Float64Array.from(probe.largest) }],
  };
  return Object.fromEntries(Object.entries(known).filter(([, [values]]) => values).map(([key, [, view]]) => [key, { ...view, found: true }]));
}

const isSuper = (trace, i) => probe !== null && trace === reader && probe.super !== null && probe.super[i] === 1;

/** The view as it is drawn: values [L, E] and the scale's ends. */
function current() {
  const view = { ...views()[state.v] };
  const trace = model();
  let values = view.of(trace);
  if (state.m === 2) {
    const other = view.of(traces[1]);
    values = values.map((value, i) => other[i] / value);
    view.says = `times as much in the second (${view.name})`;
    view.folded = true;
    view.format = times;
  }
  const sorted = Array.from(values).filter((v) => Number.isFinite(v) && v !== 0)
    .map((v) => view.folded ? Math.abs(Math.log2(v)) : Math.abs(v)).sort((a, b) => a - b);
  view.values = values;
  view.top = sorted.length > 0 ? Math.max(sorted[Math.ceil(0.995 * (sorted.length - 1))], 1e-9) : 1;
  if (view.folded) view.top = Math.min(Math.max(view.top, 0.25), 4);
  return view;
}

// One hue from light to dark for amounts; blue, paper, orange for what lies on two sides. In the dark
// the ends change places, so that more is always further from the paper.
const SCALES = {
  light: { one: [[250, 248, 242], [205, 222, 233], [120, 170, 206], [41, 108, 160], [8, 44, 84]],
    two: [[6, 56, 110], [96, 154, 200], [243, 241, 235], [228, 156, 78], [138, 62, 0]] },
  dark: { one: [[27, 31, 35], [28, 62, 89], [37, 106, 150], [93, 164, 207], [207, 233, 250]],
    two: [[150, 205, 250], [48, 110, 165], [36, 40, 44], [176, 104, 30], [255, 190, 110]] },
};
const darkness = matchMedia('(prefers-color-scheme: dark)');
let dark = false; // as the map was painted last: asking for each cell takes long

function mixed(stops, part) {
  const at = Math.min(Math.max(part, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (at - low)));
}

function colourOf(view, value) {
  const scale = SCALES[dark ? 'dark' : 'light'];
  if (!Number.isFinite(value)) return mixed(view.folded || view.signed ? scale.two : scale.one, view.folded || view.signed ? 0.5 : 0);
  if (view.folded) return mixed(scale.two, 0.5 + Math.max(-1, Math.min(1, Math.log2(value) / view.top)) / 2);
  if (view.signed) return mixed(scale.two, 0.5 + value / view.top / 2);
  return mixed(scale.one, Math.sqrt(value / view.top));
}

/** 0 never chosen, 1 never chosen first, 2 else; over the domains shown. */
function rankOf(trace) {
  const key = 'rank' + state.f;
  if (!(key in trace.kept)) {
    const wanted = shownDomains();
    const ranks = new Uint8Array(trace.cells);
    for (let l = 0; l < trace.L; l++) {
      const any = trace.row(trace.any, domains.length, l, wanted);
      const first = trace.row(trace.first, domains.length, l, wanted);
      for (let e = 0; e < trace.E; e++) ranks[l * trace.E + e] = first[e] > 0 ? 2 : any[e] > 0 ? 1 : 0;
    }
    trace.kept[key] = ranks;
  }
  return trace.kept[key];
}
const RANK_WORDS = ['; never chosen', '; never chosen first', ''];

// -- The map --------------------------------------------------------------------------------------

const LEFT = 36;
const ABOVE = 18;
const map = { zoom: 1, x: 0, y: 0, view: null };

function mapBuild(place) {
  const frame = make('div', place, undefined, { class: 'frame' });
  map.canvas = make('canvas', frame, undefined, { tabindex: 0, role: 'application',
    'aria-label': 'Layers and experts: arrow keys move, plus and minus zoom, Enter shows the expert', 'aria-describedby': 'said' });
  map.image = document.createElement('canvas');
  map.said = make('p', place, '', { id: 'said', class: 'note', 'aria-live': 'polite' });
  const canvas = map.canvas;
  let drag = null;
  canvas.addEventListener('pointerdown', (event) => {
    drag = { x: event.clientX, y: event.clientY, fromX: map.x, fromY: map.y, moved: false };
  });
  canvas.addEventListener('pointermove', (event) => {
    if (drag && event.buttons && map.zoom > 1) {
      drag.moved = drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
      if (drag.moved) mapLook(drag.fromX - (event.clientX - drag.x) / map.wide, drag.fromY - (event.clientY - drag.y) / map.high);
    }
    const cell = mapCell(event);
    if (cell) mapSay(cell);
  });
  canvas.addEventListener('pointerleave', () => mapSay(null));
  canvas.addEventListener('click', (event) => {
    const cell = mapCell(event);
    const moved = drag && drag.moved;
    drag = null;
    if (moved) return;
    if (cell) go({ l: cell.l, e: cell.e });
    else mapRow(event);
  });
  canvas.addEventListener('dblclick', (event) => mapZoom(2, mapCell(event)));
  canvas.addEventListener('wheel', (event) => {
    if (event.ctrlKey) { // also how two fingers say it
      event.preventDefault();
      mapZoom(event.deltaY < 0 ? 1.25 : 0.8, mapCell(event));
    }
  }, { passive: false });
  canvas.addEventListener('keydown', mapKey);
  new ResizeObserver(() => mapDraw()).observe(frame);
}

function mapKey(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6], End: [0, 1e6], PageUp: [-8, 0], PageDown: [8, 0] };
  const step = steps[event.key];
  if (step) {
    const trace = model();
    go({ l: Math.min(Math.max(state.l + step[0], 0), trace.L - 1), e: Math.min(Math.max(state.e + step[1], 0), trace.E - 1) }, false);
    mapSay({ l: state.l, e: state.e });
  } else if (event.key === '+' || event.key === '=') mapZoom(1.5, state);
  else if (event.key === '-') mapZoom(1 / 1.5, state);
  else if (event.key === '0') mapZoom(0, null);
  else if (event.key === 'Enter') find('expert').scrollIntoView({ block: 'start' });
  else return;
  event.preventDefault();
}

function mapCell(event) {
  const box = map.canvas.getBoundingClientRect();
  const e = Math.floor(map.x + (event.clientX - box.left - LEFT) / map.wide);
  const l = Math.floor(map.y + (event.clientY - box.top - ABOVE) / map.high);
  const inside = event.clientX - box.left >= LEFT && event.clientY - box.top >= ABOVE;
  return inside && e >= 0 && l >= 0 && e < model().E && l < model().L ? { e, l } : null;
}

function mapRow(event) { // a layer's number
  const box = map.canvas.getBoundingClientRect();
  const l = Math.floor(map.y + (event.clientY - box.top - ABOVE) / map.high);
  if (event.clientX - box.left < LEFT && l >= 0 && l < model().L) go({ l, e: -1 });
}

function mapSay(cell) {
  const view = map.view;
  if (!cell || cell.e < 0) {
    map.said.textContent = 'Point at a cell, tap it, or move with the arrow keys; Ctrl and the wheel zoom.';
    return;
  }
  const i = cell.l * model().E + cell.e;
  const value = view.values[i];
  map.said.textContent = `Layer ${model().layers[cell.l]}, expert ${cell.e}: ` +
    (Number.isFinite(value) ? `${view.format(value)} (${view.says})` : 'nothing known') + RANK_WORDS[rankOf(model())[i]] +
    (isSuper(model(), i) ? '; a super expert' : '');
}

function mapLook(x, y) {
  const trace = model();
  const across = trace.E / map.zoom;
  const down = trace.L / map.zoom;
  map.x = Math.min(Math.max(x, 0), trace.E - across);
  map.y = Math.min(Math.max(y, 0), trace.L - down);
  mapDraw();
}

function mapZoom(factor, at) {
  const old = map.zoom;
  map.zoom = factor === 0 ? 1 : Math.min(Math.max(old * factor, 1), Math.max(1, model().E / 8));
  const e = at && at.e >= 0 ? at.e + 0.5 : map.x + model().E / old / 2;
  const l = at ? at.l + 0.5 : map.y + model().L / old / 2;
  mapLook(e - (e - map.x) * old / map.zoom, l - (l - map.y) * old / map.zoom);
}

/** The cells as an image of a pixel each, drawn enlarged: a frame costs the same however many. */
function mapPaint() {
  const trace = model();
  map.view = current();
  dark = darkness.matches;
  map.image.width = trace.E;
  map.image.height = trace.L;
  const context = map.image.getContext('2d');
  const pixels = context.createImageData(trace.E, trace.L);
  for (let i = 0; i < trace.cells; i++) {
    const [red, green, blue] = colourOf(map.view, map.view.values[i]);
    pixels.data.set([red, green, blue, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

function mapDraw() {
  const trace = model();
  map.canvas.parentElement.classList.toggle('broad', trace.E > 64);
  const width = map.canvas.parentElement.clientWidth;
  if (width === 0 || !map.view) return;
  const rowHigh = Math.min(Math.max(600 / trace.L, 9), 26);
  const height = Math.ceil(ABOVE + Math.min(trace.L * rowHigh, 1600));
  const ratio = window.devicePixelRatio || 1;
  map.wide = (width - LEFT) / trace.E * map.zoom;
  map.high = (height - ABOVE) / trace.L * map.zoom;
  map.canvas.width = width * ratio;
  map.canvas.height = height * ratio;
  map.canvas.style.height = height + 'px';
  const c = map.canvas.getContext('2d');
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(name).trim();
  const [mark, ink, paper] = ['--mark', '--ink', '--paper'].map(colour);
  c.scale(ratio, ratio);
  c.clearRect(0, 0, width, height);
  c.save();
  c.beginPath();
  c.rect(LEFT - 5, ABOVE - 4, width - LEFT + 5, height - ABOVE + 4); // with room for what marks the outer cells
  c.clip();
  c.imageSmoothingEnabled = false;
  c.drawImage(map.image, map.x, map.y, trace.E / map.zoom, trace.L / map.zoom, LEFT, ABOVE, width - LEFT, height - ABOVE);
  const ranks = rankOf(trace);
  const toX = (e) => LEFT + (e - map.x) * map.wide;
  const toY = (l) => ABOVE + (l - map.y) * map.high;
  const endL = Math.min(trace.L, Math.ceil(map.y + trace.L / map.zoom));
  const endE = Math.min(trace.E, Math.ceil(map.x + trace.E / map.zoom));
  c.textAlign = 'center';
  c.font = '10px system-ui, sans-serif';
  const [dots, crosses] = [new Path2D(), new Path2D()];
  const numbered = map.wide >= 24 && map.high >= 14;
  for (let l = Math.floor(map.y); l < endL; l++) {
    for (let e = Math.floor(map.x); e < endE; e++) {
      const rank = ranks[l * trace.E + e];
      if (rank < 2) {
        const size = numbered ? (rank === 0 ? 6 : 2.5) : Math.max(Math.min(map.wide, map.high) / (rank === 0 ? 3 : 7), 0.9);
        const [x, y] = [toX(e + 0.5) + (numbered ? Math.min(map.wide / 3, 14) : 0), toY(l + 0.5)]; // beside the number
        if (rank === 0) { // a cross; never first: a dot
          crosses.moveTo(x - size / 2, y - size / 2);
          crosses.lineTo(x + size / 2, y + size / 2);
          crosses.moveTo(x + size / 2, y - size / 2);
          crosses.lineTo(x - size / 2, y + size / 2);
        } else if (size < 1.5) {
          dots.rect(x - size, y - size, 2 * size, 2 * size);
        } else {
          dots.moveTo(x + size, y);
          dots.arc(x, y, size, 0, 7);
        }
      }
      if (isSuper(trace, l * trace.E + e)) { // a ring, wider than a small cell, seen on every colour
        c.beginPath();
        c.arc(toX(e + 0.5), toY(l + 0.5), Math.max(Math.min(map.wide, map.high) * 0.45, 4), 0, 7);
        [[paper, 4], [ink, 2]].forEach(([stroke, width_]) => {
          c.strokeStyle = stroke;
          c.lineWidth = width_;
          c.stroke();
        });
        c.lineWidth = 1;
      }
      if (numbered) {
        const [red, green, blue] = colourOf(map.view, map.view.values[l * trace.E + e]);
        c.fillStyle = red * 0.3 + green * 0.59 + blue * 0.11 > 140 ? '#111' : '#fff';
        c.fillText(e, toX(e + 0.5), toY(l + 0.5) + 4);
      }
    }
  }
  c.fillStyle = c.strokeStyle = mark;
  c.fill(dots);
  c.stroke(crosses);
  c.strokeStyle = ink;
  c.lineWidth = 1;
  c.strokeRect(LEFT - 5, toY(state.l) - 0.5, trace.E * map.wide + 10, map.high + 1);
  if (state.e >= 0) {
    c.lineWidth = 4;
    c.strokeStyle = paper;
    c.strokeRect(toX(state.e) - 2, toY(state.l) - 2, map.wide + 4, map.high + 4);
    c.lineWidth = 2;
    c.strokeStyle = mark;
    c.strokeRect(toX(state.e) - 2, toY(state.l) - 2, map.wide + 4, map.high + 4);
  }
  c.restore();
  mapLetter(c, colour('--soft'), toX, toY, endL, endE);
}

function mapLetter(c, ink, toX, toY, endL, endE) {
  const trace = model();
  const everyL = Math.ceil(11 / map.high);
  const everyE = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].find((step) => step * map.wide >= 26) ?? 1024;
  c.fillStyle = ink;
  c.textAlign = 'right';
  for (let l = Math.ceil(map.y); l < endL; l++) {
    if (l % everyL === 0 || l === state.l) {
      if (l !== state.l && everyL > 1 && Math.abs(l - state.l) < everyL) continue;
      c.font = (l === state.l ? 'bold ' : '') + '10px system-ui, sans-serif';
      c.fillText(trace.layers[l], LEFT - 8, toY(l + 0.5) + 3.5);
    }
  }
  c.font = '10px system-ui, sans-serif';
  c.textAlign = 'center';
  for (let e = Math.ceil(map.x / everyE) * everyE; e < endE; e += everyE) c.fillText(e, toX(e + 0.5), 11);
}

function mapAlone() {
  const trace = model();
  const svg = document.createElementNS(SVG, 'svg');
  const size = 8;
  svg.setAttribute('viewBox', `0 0 ${40 + trace.E * size} ${20 + trace.L * size}`);
  svg.setAttribute('font-family', 'sans-serif');
  svg.setAttribute('font-size', '7');
  for (let l = 0; l < trace.L; l++) {
    draw('text', svg, { x: 34, y: 20 + (l + 0.8) * size, 'text-anchor': 'end' }, trace.layers[l]);
    for (let e = 0; e < trace.E; e++) {
      draw('rect', svg, { x: 40 + e * size, y: 20 + l * size, width: size, height: size,
        fill: `rgb(${colourOf(map.view, map.view.values[l * trace.E + e]).join()})` });
    }
  }
  for (let e = 0; e < trace.E; e += trace.E > 32 ? 8 : 1) draw('text', svg, { x: 40 + (e + 0.5) * size, y: 14, 'text-anchor': 'middle' }, e);
  return new XMLSerializer().serializeToString(svg);
}

function mapRows() {
  const trace = model();
  const ranks = rankOf(trace);
  const marked = trace === reader && probe?.super;
  const rows = [['layer', 'expert', state.v, 'never_chosen', 'never_first', ...(marked ? ['super'] : [])]];
  for (let i = 0; i < trace.cells; i++) {
    rows.push([trace.layers[Math.floor(i / trace.E)], i % trace.E, Number.isFinite(map.view.values[i]) ? map.view.values[i] : '',
      Number(ranks[i] === 0), Number(ranks[i] < 2), ...(marked ? [Number(isSuper(trace, i))] : [])]);
  }
  return rows;
}

/** The scale with its numbers. */
function legend(place) {
  const view = map.view;
  const line = make('p', place, undefined, { class: 'legend scale' });
  const parts = [0, 0.25, 0.5, 0.75, 1];
  const values = parts.map((part) => view.folded ? 2 ** ((2 * part - 1) * view.top) : view.signed ? (2 * part - 1) * view.top : part * part * view.top);
  values.forEach((value) => {
    const cell = make('span', line, view.format(value), { class: 'shade' });
    const [red, green, blue] = colourOf(view, value);
    cell.style.background = `rgb(${red},${green},${blue})`;
    cell.style.color = red * 0.3 + green * 0.59 + blue * 0.11 > 140 ? '#111' : '#fff';
  });
  make('span', line, view.says);
  const mark = (sign, says, look = 'mark') => {
    const both = make('span', line);
    make('span', both, sign, { class: look });
    both.append('\u00a0' + says);
  };
  mark('•', 'never chosen first');
  mark('×', 'never chosen');
  if (probe && probe.super && state.m === 0) mark('◯', 'super expert', 'ring');
}
