// The atlas page: layers x experts as one map that leads to every expert, layer, domain and token. The
// numbers come from the page's block of JSON (src/atlas/page_data.c) and are drawn when they are asked
// for. Text of a trace is set as text alone, so nothing of it can become markup or code. The state is
// in the address: v view, l layer, e expert, t token, d domain, c class, m model, x excerpt, f domains
// left out, q search.
//
// This file: the numbers and the state. parts.js: elements, downloads, bars; map.js: the map;
// search.js: search; panels.js: everything around them. All are one script of the page, in this order.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';
const PALETTE = 12; // colours of experts in the style sheet; others are grey with their number
const ROWS = 16; // of a list before "show all"
const root = document.documentElement;
const find = (id) => document.getElementById(id);
root.className = 'js';
const data = JSON.parse(find('data').textContent);
const domains = data.domains;
const classes = data.classes;

// -- Data -----------------------------------------------------------------------------------------

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** Reads whole numbers in LEB128. */
function numbersOf(text) {
  const bytes = bytesOf(text);
  let at = 0;
  return () => {
    let value = 0;
    let scale = 1;
    let byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte > 127);
    return value;
  };
}

/** Counts with their runs of zeros: a 0 and how many. */
function countsOf(text, length) {
  const next = numbersOf(text);
  const counts = new Float64Array(length);
  for (let i = 0; i < length;) {
    const value = next();
    if (value === 0) i += next();
    else counts[i++] = value;
  }
  return counts;
}

/** Lists that end with a 0: [expert of a layer] of entries of `size` numbers. */
function listsOf(text, length, size) {
  const next = numbersOf(text);
  return Array.from({ length }, () => {
    const list = [];
    for (let head = next(); head !== 0; head = next()) {
      const entry = [head - 1];
      for (let i = 1; i < size; i++) entry.push(next());
      list.push(entry);
    }
    return list;
  });
}

function halfOf(bits) {
  const exponent = bits >> 10 & 31;
  const part = bits & 1023;
  const value = exponent === 0 ? part * 2 ** -24 : exponent === 31 ? NaN : (1 + part / 1024) * 2 ** (exponent - 15);
  return bits & 32768 ? -value : value;
}

const tokenCount = data.excerpts.reduce((sum, x) => sum + x[3], 0);

/** One trace; arrays are decoded when they are first looked at. */
class Trace {
  constructor(json) {
    this.json = json;
    this.E = json.experts;
    this.L = json.layers.length;
    this.k = json.k;
    this.cells = this.L * this.E;
    this.layers = json.layers;
    this.words = json.words;
    this.routed = json.routes !== undefined;
    this.kept = {};
  }

  keep(key, make) {
    if (!(key in this.kept)) this.kept[key] = this.json[key] === undefined ? null : make(this.json[key]);
    return this.kept[key];
  }

  get any() { return this.keep('any', (text) => countsOf(text, this.cells * domains.length)); }
  get first() { return this.keep('first', (text) => countsOf(text, this.cells * domains.length)); }
  get byClass() { return this.keep('class', (text) => countsOf(text, this.cells * classes.length)); }
  get top() { return this.keep('top', (text) => listsOf(text, this.cells, 3)); }
  get mates() { return this.keep('mates', (text) => listsOf(text, this.cells, 2)); }
  get routes() {
    return this.keep('routes', (text) => {
      const bytes = bytesOf(text);
      return this.json.wide ? new Uint16Array(bytes.buffer) : bytes;
    });
  }
  get weights() { return this.keep('weights', bytesOf); }
  get margins() { return this.keep('margins', (text) => new Uint16Array(bytesOf(text).buffer)); }
  get meanWeight() {
    return this.keep('weight', (text) => {
      const next = numbersOf(text);
      return Float64Array.from({ length: this.cells }, () => next() / 1000);
    });
  }
  get text() {
    return this.keep('text', (text) => {
      const next = numbersOf(text);
      return Array.from({ length: tokenCount }, next);
    });
  }

  /** [E] sums over the rows `wanted` of a layer of counts [L, rows, E]. */
  row(counts, rows, layer, wanted) {
    const sum = new Float64Array(this.E);
    for (const row of wanted) {
      const base = (layer * rows + row) * this.E;
      for (let e = 0; e < this.E; e++) sum[e] += counts[base + e];
    }
    return sum;
  }

  experts(token, layer) {
    const base = (layer * tokenCount + token) * this.k;
    const list = [];
    for (let c = 0; c < this.k; c++) {
      const expert = this.routes[base + c];
      if (expert < this.E) list.push({ expert, weight: this.weights[base + c] / 255 * this.json.scale });
    }
    return list;
  }

  firstOf(token, layer) {
    const expert = this.routes[(layer * tokenCount + token) * this.k];
    return expert < this.E ? expert : -1;
  }
}

const traces = data.traces.map((json) => new Trace(json));
const reader = traces[0]; // whose text is shown
const sameShape = traces.length > 1 && traces[1].E === reader.E && traces[1].L === reader.L;

/** Results of mixt probe, of the first trace's model; null where something was not measured. */
class Probe {
  constructor(json) {
    this.json = json;
    this.kept = {};
  }

  keep(key, make) {
    if (!(key in this.kept)) this.kept[key] = this.json[key] === undefined ? null : make(this.json[key]);
    return this.kept[key];
  }

  floats(key) { return this.keep(key, (text) => new Float32Array(bytesOf(text).buffer)); }
  halves(key) { return this.keep(key, (text) => Float32Array.from(new Uint16Array(bytesOf(text).buffer), halfOf)); }
  get mask() { return this.floats('mask'); }
  get reap() { return this.floats('reap'); }
  get norm() { return this.floats('norm'); }
  get largest() { return this.floats('largest'); }
  get super() { return this.halves('super'); }
  get domain() { return this.halves('domain'); }
  get byClass() { return this.halves('class'); }
  near(key) {
    return this.keep(key, (text) => listsOf(text, reader.cells, 2).map((list) => list.map(([e, moved]) => [e, moved / 1000 - 1])));
  }
}
const probe = data.probe ? new Probe(data.probe) : null;

// -- State ----------------------------------------------------------------------------------------

const START = { v: 'load', l: data.start, e: -1, t: -1, d: 0, c: 0, m: 0, x: 0, f: '', q: '' };
const state = { ...START };

const model = () => traces[state.m === 1 ? 1 : 0];
const left = () => new Set(state.f === '' ? [] : state.f.split('.').map(Number));
function shownDomains() {
  const out = left();
  return domains.map((_, d) => d).filter((d) => !out.has(d));
}

function limited(value, low, high, otherwise) {
  return Number.isInteger(value) && value >= low && value <= high ? value : otherwise;
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (!location.hash.includes('=')) return;
  const number = (key, low, high) => limited(Number(said.get(key) ?? START[key]), low, high, START[key]);
  state.m = number('m', 0, sameShape ? 2 : traces.length - 1);
  state.v = views()[said.get('v')] ? said.get('v') : 'load';
  state.l = number('l', 0, model().L - 1);
  state.e = number('e', -1, model().E - 1);
  state.t = number('t', -1, tokenCount - 1);
  state.d = number('d', 0, domains.length - 1);
  state.c = number('c', 0, classes.length - 1);
  state.x = number('x', 0, 99);
  state.f = /^[0-9.]*$/.test(said.get('f') ?? '') ? said.get('f') ?? '' : '';
  state.q = said.get('q') ?? '';
}

function writeAddress(push) {
  const said = new URLSearchParams();
  for (const key of Object.keys(START)) {
    if (state[key] !== START[key]) said.set(key, state[key]);
  }
  const hash = '#' + (said.size > 0 ? said.toString() : 'v=load');
  if (hash !== location.hash) history[push ? 'pushState' : 'replaceState'](null, '', hash);
}

/** Changes the state and draws what depends on it. */
function go(changes, push = true) {
  Object.assign(state, changes);
  state.l = Math.min(state.l, model().L - 1);
  state.e = Math.min(state.e, model().E - 1);
  if (!views()[state.v]) state.v = START.v; // what is known of one model alone
  writeAddress(push);
  if (push) render();
  else renderSoon(); // what comes fast: a slider, keys, typing
}
