// What stands around the map: the layer, the expert, the text, its tokens, and the beginning.

// -- Layer and expert -----------------------------------------------------------------------------

let colours = new Map(); // expert -> colour of the palette, at the layer shown

function controls(place) {
  place.replaceChildren();
  const all = views();
  if (traces.length > 1) {
    const names = [[0, traces[0].json.name || 'first'], [1, traces[1].json.name || 'second']];
    if (sameShape) names.push([2, 'second / first']);
    choice(place, 'Model', names, state.m, (m) => go({ m }));
  }
  const group = (legend, found) => {
    const names = Object.entries(all).filter(([, view]) => (view.found === true) === found).map(([key, view]) => [key, view.name]);
    if (names.length > 0) choice(place, legend, names, state.v, (v) => go({ v }));
  };
  group('Show', false);
  group('mixt probe', true);
  if (state.v === 'domain' || state.v === 'maskd') list(place, 'Domain', domains, state.d, (d) => go({ d }));
  if (state.v === 'class' || state.v === 'maskc') list(place, 'Class', classes, state.c, (c) => go({ c }));
  const zoom = make('span', place, undefined, { class: 'set', role: 'group', 'aria-label': 'Zoom' });
  button(zoom, '−', () => mapZoom(1 / 1.5, state), { 'aria-label': 'Zoom out' });
  button(zoom, '+', () => mapZoom(1.5, state), { 'aria-label': 'Zoom in' });
  button(zoom, 'whole', () => mapZoom(0, null));
  downloads(place, 'map ' + state.v, mapAlone, mapRows);
}

/** A slider over the layers; the same one stands by the map and by the text. */
function slider(place) {
  const made = place.querySelector('.slider');
  if (made) { // it may be in the hand
    made.querySelector('input').max = model().L - 1;
    made.querySelector('input').value = state.l;
    made.querySelector('output').textContent = model().layers[state.l];
    return;
  }
  const label = make('label', place, 'Layer ', { class: 'set slider' });
  const input = make('input', label, undefined, { type: 'range', min: 0, max: model().L - 1, step: 1 });
  input.value = state.l;
  const said = make('output', label, String(model().layers[state.l]));
  input.addEventListener('input', () => {
    said.textContent = model().layers[input.value];
    go({ l: Number(input.value) }, false);
  });
}

/** Buttons that leave domains out everywhere, and take them in again. */
function filter(place) {
  place.replaceChildren();
  if (domains.length < 2) return;
  const out = left();
  const group = make('span', place, undefined, { class: 'set', role: 'group', 'aria-label': 'Domains shown' });
  make('span', group, 'Domains', { class: 'group' });
  domains.forEach((name, d) => button(group, name, () => {
    if (out.has(d)) out.delete(d);
    else if (out.size + 1 < domains.length) out.add(d);
    go({ f: [...out].sort((a, b) => a - b).join('.') });
  }, { 'aria-pressed': String(!out.has(d)) }));
}

const valueAt = (values, l, e) => values[l * model().E + e];

function showLayer(place) {
  place.replaceChildren();
  const trace = model();
  const rank = rankOf(trace);
  const order = Array.from({ length: trace.E }, (_, e) => e)
    .sort((a, b) => (valueAt(map.view.values, state.l, b) || 0) - (valueAt(map.view.values, state.l, a) || 0));
  bars(place, `Layer ${trace.layers[state.l]}: ${map.view.says}`, order.map((e) => ({
    name: 'expert ' + e, value: valueAt(map.view.values, state.l, e), level: map.view.level,
    mark: ['  ×', '  •', ''][rank[state.l * trace.E + e]] + (isSuper(trace, state.l * trace.E + e) ? '  ◯' : ''), note: RANK_WORDS[rank[state.l * trace.E + e]].slice(2),
    act: () => go({ e }) })), map.view.format);
}

/** How an expert's choices differ from its layer's, over domains and classes; length 1. */
function profileOf(trace, layer) {
  const all = [[trace.any, domains.length], [trace.byClass, classes.length]].map(([counts, rows]) => ({ counts, rows }));
  const profiles = Array.from({ length: trace.E }, () => []);
  for (const { counts, rows } of all) {
    const base = layer * rows * trace.E;
    const sums = new Float64Array(trace.E);
    const row = new Float64Array(rows);
    for (let r = 0; r < rows; r++) {
      for (let e = 0; e < trace.E; e++) {
        sums[e] += counts[base + r * trace.E + e];
        row[r] += counts[base + r * trace.E + e];
      }
    }
    const sum = total(row);
    for (let e = 0; e < trace.E; e++) {
      for (let r = 0; r < rows; r++) profiles[e].push(sums[e] > 0 && sum > 0 ? counts[base + r * trace.E + e] / sums[e] - row[r] / sum : 0);
    }
  }
  return profiles.map((profile) => {
    const length = Math.hypot(...profile);
    return length > 0 ? profile.map((part) => part / length) : null;
  });
}

function similarTo(trace, layer, expert) {
  const profiles = profileOf(trace, layer);
  const own = profiles[expert];
  if (!own) return [];
  return profiles.map((other, e) => ({ e, cosine: other && e !== expert ? total(other.map((part, i) => part * own[i])) : -2 }))
    .sort((a, b) => b.cosine - a.cosine).slice(0, 6).filter((row) => row.cosine > 0);
}

function shareRows(trace, counts, names, l, e) {
  const sums = names.map((_, r) => total(trace.row(counts, names.length, l, [r])));
  const own = names.map((_, r) => counts[(l * names.length + r) * trace.E + e]);
  const all = total(own) / total(sums);
  return names.map((name, r) => ({ name, value: own[r] / sums[r] / all, note: `${whole(own[r])} choices, ${percent(own[r] / sums[r], 2)} of them` }))
    .filter((row) => Number.isFinite(row.value));
}

function expertFacts(place, trace, l, e) {
  const i = l * trace.E + e;
  const load = loadOf(trace, trace.any)[i];
  const facts = make('p', place, `It gets ${times(load)} an even part of the choices, ${times(loadOf(trace, trace.first)[i])} of the first ones, ` +
    `with a mean weight of ${trace.meanWeight[i].toFixed(3)}${RANK_WORDS[rankOf(trace)[i]]}.`);
  if (probe && trace === reader) facts.append(...probeFacts(i));
}

/** Its place among the experts of its layer, the largest first. */
function placeOf(values, i) {
  const base = i - i % reader.E;
  const own = Array.from(values.subarray(base, base + reader.E)).filter((value) => value > values[i]);
  return own.length + 1;
}

/** What mixt probe found of expert i of all, in sentences. */
function probeFacts(i) {
  const said = [];
  const interval = (low, high, format) => Number.isFinite(low?.[i]) && Number.isFinite(high?.[i]) ? ` (95\u202f% interval ${format(low[i])} to ${format(high[i])})` : '';
  const known = (values) => values && Number.isFinite(values[i]);
  if (known(probe.mask)) said.push(` Masked, the loss changes by ${nats(probe.mask[i])} nats a token${interval(probe.halves('maskLow'), probe.halves('maskHigh'), nats)}.`);
  else if (probe.mask) said.push(' Of masking it nothing is known.');
  if (known(probe.reap)) {
    said.push(` Its REAP score is ${amount(probe.reap[i])}${interval(probe.halves('reapLow'), probe.halves('reapHigh'), amount)}, number ${placeOf(probe.reap, i)} of the layer's ${reader.E}.`);
  }
  if (known(probe.norm)) said.push(` Its output has a mean norm of ${amount(probe.norm[i])}, number ${placeOf(probe.norm, i)} of the layer.`);
  if (known(probe.largest)) said.push(` The largest value in it is ${amount(probe.largest[i])}${isSuper(reader, i) ? ': a super expert' : ''}.`);
  return said;
}

/** Its tokens in the excerpts, the surest first, each with what stands around it. */
function contexts(place, trace, l, e) {
  const found = [];
  for (let t = 0; t < tokenCount && trace.routed; t++) {
    const own = trace.experts(t, l).find((choiceOf) => choiceOf.expert === e);
    if (own) found.push([own.weight, t]);
  }
  found.sort((a, b) => b[0] - a[0]);
  make('h4', place, `Contexts: ${whole(found.length)} of the ${whole(tokenCount)} tokens shown, heaviest first`);
  const items = make('ul', place, undefined, { class: 'contexts' });
  const room = new Map(); // two of a domain, so that one does not fill the list
  const some = found.filter(([, t]) => {
    const { domain } = excerptOf(t);
    room.set(domain, (room.get(domain) ?? 0) + 1);
    return room.get(domain) <= Math.max(2, 8 / shownDomains().length);
  });
  some.slice(0, 12).forEach(([weight, t]) => contextItem(items, t, weight.toFixed(3)));
  if (found.length === 0) make('li', items, 'none');
}

/** A place in an excerpt, with what stands around it; it leads there. */
function contextItem(items, t, before, from = t, to = t + 1) {
  const x = excerptOf(t);
  const item = make('li', items);
  const act = button(item, undefined, () => { go({ t, x: x.place, f: '' }); shownToken(); }, { class: 'context' });
  if (before) make('span', act, before + ' ', { class: 'n' });
  make('span', act, textOf(Math.max(x.at, from - 8), from));
  make('b', act, textOf(from, to));
  make('span', act, textOf(to, Math.min(x.at + x.count, to + 8)));
  make('span', act, ' ' + domains[x.domain], { class: 'n' });
}

function showExpert(place) {
  place.replaceChildren();
  place.hidden = state.e < 0;
  if (state.e < 0) return;
  const trace = model();
  const { l, e } = state;
  make('h3', place, `Layer ${trace.layers[l]}, expert ${e}`, { tabindex: -1 });
  expertFacts(place, trace, l, e);
  const other = sameShape ? traces[trace === reader ? 1 : 0] : null;
  const grid = make('div', place, undefined, { class: 'pair' });
  [['Domains: times as often as in all text', trace.any, domains, 'any'], ['Classes: times as often as for all tokens', trace.byClass, classes, 'byClass']]
    .forEach(([title, counts, names, key]) => {
      const rows = shareRows(trace, counts, names, l, e).map((row) => ({ ...row, level: 1 }));
      const second = other ? new Map(shareRows(other, other[key], names, l, e).map((row) => [row.name, row.value])) : null;
      if (second) rows.forEach((row) => { row.other = second.get(row.name) ?? NaN; });
      const name = names === domains ? 'd' : 'c';
      rows.forEach((row) => { row.act = () => go({ v: names === domains ? 'domain' : 'class', [name]: names.indexOf(row.name) }); });
      bars(grid, title, rows, times, 64);
    });
  if (probe && trace === reader) {
    [['domain', domains, probe.domain, 'd', 'maskd'], ['class', classes, probe.byClass, 'c', 'maskc']].forEach(([what, names, effects, key, v]) => {
      const rows = names.map((name, r) => ({ name, value: effects ? effects[(l * names.length + r) * trace.E + e] : NaN, act: () => go({ v, [key]: r }) }))
        .filter((row) => Number.isFinite(row.value));
      if (rows.length > 0) bars(grid, `Masked, by ${what}: nats a token more`, rows, nats, 64);
    });
  }
  make('h4', place, 'Tokens that go here first more often than chance, % of their occurrences');
  topTokens(make('p', place, undefined, { class: 'items' }), trace, l, e);
  contexts(place, trace, l, e);
  const near = make('div', place, undefined, { class: 'pair' });
  neighbours(near, 'Most similar use (cosine over domains and classes)', similarTo(trace, l, e).map((row) => [row.e, row.cosine.toFixed(2)]));
  if (trace.mates) neighbours(near, 'Chosen together more often than their load says', trace.mates[l * trace.E + e].map(([mate, lift]) => [mate, times(lift / 100)]));
  if (probe && trace === reader) {
    [['nearOutputs', 'Most similar output (cosine of mean outputs)'], ['nearWeights', 'Most similar weights (cosine)']].forEach(([key, title]) => {
      const lists = probe.near(key);
      if (lists) neighbours(near, title, lists[l * trace.E + e].map(([other, cosine]) => [other, cosine.toFixed(2)]));
    });
  }
}

/** Other experts of the layer, each with its number. */
function neighbours(grid, title, rows) {
  const box = make('div', grid);
  make('h4', box, title);
  const line = make('p', box, undefined, { class: 'items' });
  rows.forEach(([other, said]) => {
    chip(line, other, '', () => go({ e: other }));
    line.append(` ${said}  `);
  });
  if (rows.length === 0) line.append('none');
}

function topTokens(place, trace, l, e) {
  const rows = trace.top[l * trace.E + e];
  rows.forEach(([word, share, seen]) => {
    const item = button(place, undefined, () => { go({ q: trace.words[word].trim() || trace.words[word] }); find('text').scrollIntoView(); }, { class: 'item', title: `${whole(seen)} occurrences; search` });
    make('code', item, trace.words[word].replace(/ /g, '␣'));
    item.append(` ${(share / 10).toFixed(0)}`);
  });
  if (rows.length === 0) place.append('none');
}

// -- Text -----------------------------------------------------------------------------------------

let at = 0;
const excerpts = data.excerpts.map(([domain, document, start, count], i, all) => {
  const x = { domain, document, start, count, at, place: all.slice(0, i).filter((before) => before[0] === domain).length };
  at += count;
  return x;
});
const excerptOf = (t) => excerpts.find((x) => t < x.at + x.count);
const wordOf = (t) => reader.words[reader.text[t]];
function textOf(from, to) {
  let text = '';
  for (let t = from; t < to; t++) text += wordOf(t);
  return text;
}

function shownExcerpts() {
  return shownDomains().map((domain) => {
    const own = excerpts.filter((x) => x.domain === domain);
    return own[state.x % Math.max(own.length, 1)];
  }).filter((x) => x !== undefined);
}

const routed = () => model().routed ? model() : reader;

/** Twelve colours for the layer's experts: all of up to twelve, else those that come first most often in
 * the text shown, and the one that is looked at. */
function chooseColours() {
  const trace = routed();
  const often = new Float64Array(trace.E);
  for (const x of shownExcerpts()) {
    for (let t = x.at; t < x.at + x.count; t++) {
      const expert = trace.firstOf(t, state.l);
      if (expert >= 0) often[expert]++;
    }
  }
  let order = Array.from({ length: trace.E }, (_, e) => e);
  if (trace.E > PALETTE) {
    order.sort((a, b) => (b === state.e) - (a === state.e) || often[b] - often[a]);
    order = order.slice(0, PALETTE).filter((e) => often[e] > 0 || e === state.e);
  }
  colours = new Map(order.map((e, i) => [e, trace.E > PALETTE ? i : e]));
}

function paintToken(span, t) {
  const expert = routed().firstOf(t, state.l);
  span.dataset.p = colours.get(expert) ?? 'none';
  span.dataset.n = expert < 0 ? '–' : expert;
  span.classList.toggle('dim', state.e >= 0 && !routed().experts(t, state.l).some((own) => own.expert === state.e));
  span.classList.toggle('on', t === state.t);
}

const texts = { key: '', spans: new Map(), waiting: [], seeks: false };

const AT_ONCE = 600; // tokens that are drawn in one frame

function showTexts(place) {
  const key = `${state.f}/${state.x}`;
  if (texts.key !== key) {
    texts.key = key;
    texts.spans.clear();
    place.replaceChildren();
    texts.waiting = shownExcerpts().map((x) => {
      const box = make('div', place, undefined, { class: 'excerpt' });
      make('h3', box, domains[x.domain]);
      return [x, make('p', box, undefined, { class: 'text', tabindex: 0, role: 'group', 'aria-label': `Text of ${domains[x.domain]}; arrow keys move from token to token` })];
    });
  }
  texts.spans.forEach(paintToken);
  moreText();
}

/** Draws the excerpts that wait, some of them a frame. */
function moreText() {
  for (let drawnNow = 0; texts.waiting.length > 0 && drawnNow < AT_ONCE;) {
    const [x, text] = texts.waiting.shift();
    drawnNow += x.count;
    for (let t = x.at; t < x.at + x.count; t++) {
      texts.spans.set(t, make('span', text, wordOf(t), { class: 't', 'data-t': t }));
      paintToken(texts.spans.get(t), t);
      if (wordOf(t).endsWith('⏎')) text.append('\n');
    }
  }
  if (texts.waiting.length > 0) soon(moreText);
  else if (texts.seeks && texts.spans.has(state.t)) seekToken();
}

/** Moves to the token that is looked at, once its text is drawn. */
function shownToken() {
  texts.seeks = true;
  if (texts.spans.has(state.t)) seekToken();
  else find('texts').scrollIntoView();
}

function seekToken() {
  texts.seeks = false;
  texts.spans.get(state.t).scrollIntoView({ block: 'center' });
}

function readerControls(place) {
  place.replaceChildren();
  const most = Math.max(...domains.map((_, d) => excerpts.filter((x) => x.domain === d).length));
  if (most > 1) choice(place, 'Excerpt', Array.from({ length: most }, (_, i) => [i, i + 1]), state.x % most, (x) => go({ x, t: -1 }));
  filter(make('div', place));
  const key = make('p', place, undefined, { class: 'key', 'aria-label': 'Experts of the text' });
  colours.forEach((_, expert) => chip(key, expert, 'show its tokens alone', () => go({ e: state.e === expert ? -1 : expert })));
  if (routed().E > colours.size) make('span', key, ' others are grey, with their number');
  if (state.e >= 0) button(key, 'all tokens', () => go({ e: -1 }));
}

function showDetail() {
  const place = find('detail');
  place.replaceChildren();
  place.hidden = state.t < 0;
  if (state.t < 0) return;
  const x = excerptOf(state.t);
  const head = make('p', place);
  make('code', head, wordOf(state.t));
  head.append(` in ${domains[x.domain]}, document ${x.document}, token ${x.start + state.t - x.at}: its experts and their weights in all layers `);
  button(head, 'close', () => go({ t: -1 }), { class: 'close' });
  const table = make('table', make('div', place, undefined, { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Experts by layer' }));
  const row = make('tr', make('thead', table));
  const shown = traces.filter((trace) => trace.routed);
  make('th', row, 'Layer');
  shown.forEach((trace, i) => {
    make('th', row, shown.length > 1 ? trace.json.name || ['first', 'second'][i] : 'Experts, weights');
    if (trace.margins) make('th', row, 'Margin', { title: 'how far the last chosen logit lies above the best one that was not chosen' });
  });
  const body = make('tbody', table);
  for (let l = 0; l < reader.L; l++) {
    const line = make('tr', body, undefined, l === state.l ? { class: 'here' } : {});
    button(make('th', line, undefined, { scope: 'row' }), reader.layers[l], () => go({ l }));
    shown.forEach((trace) => {
      const cell = make('td', line);
      trace.experts(state.t, l).forEach(({ expert, weight }) => {
        const made = chip(cell, expert, `expert ${expert}, weight ${weight.toFixed(3)}`, () => go({ l, e: expert }));
        if (l !== state.l) made.dataset.p = 'none'; // colours are of the layer shown
        make('small', cell, ` ${weight.toFixed(2)} `);
      });
      if (trace.margins) {
        const margin = halfOf(trace.margins[l * tokenCount + state.t]);
        make('td', line, Number.isFinite(margin) ? margin.toFixed(2) : '–');
      }
    });
  }
  const here = body.querySelector('.here');
  if (here) table.parentElement.scrollTop = here.offsetTop - 60;
}

// -- The other sections ----------------------------------------------------------------------------

function showTakes(place, rows) {
  place.replaceChildren();
  const trace = model();
  const table = make('table', make('div', place, undefined, { class: 'scroll' }), undefined, { class: 'top' });
  make('caption', table, `Layer ${trace.layers[state.l]}`);
  for (let e = 0; e < Math.min(rows, trace.E); e++) {
    const line = make('tr', table);
    chip(make('th', line, undefined, { scope: 'row' }), e, '', () => go({ e }));
    topTokens(make('td', line), trace, state.l, e);
  }
  if (rows < trace.E) button(place, `all ${trace.E} experts`, () => showTakes(place, trace.E));
}

function showShares(place) {
  place.replaceChildren();
  const trace = model();
  const grid = make('div', place, undefined, { class: 'wide' });
  for (const d of shownDomains()) {
    const row = trace.row(trace.any, domains.length, state.l, [d]);
    const sum = total(row);
    const order = Array.from(row, (count, e) => ({ name: 'expert ' + e, value: count / sum, level: 1 / trace.E, note: whole(count) + ' choices', act: () => go({ e }) }))
      .sort((a, b) => b.value - a.value);
    if (sum > 0) bars(grid, domains[d], order, percent, 8);
  }
}

/** What comes near while the page is scrolled, one section a frame, so that no frame takes long. */
const due = [];
let awaited = false; // the next frame

function soon(work) {
  if (!due.includes(work)) due.push(work);
  if (!awaited) requestAnimationFrame(nextDue);
  awaited = true;
}

function nextDue() {
  const work = due.shift();
  awaited = due.length > 0;
  if (awaited) requestAnimationFrame(nextDue);
  work();
}

/** Draws a section when it comes near the window, and again when the state has changed. */
function lazily(id, paint) {
  const place = find(id);
  const job = { stale: true, near: false };
  const work = () => {
    if (job.stale && job.near) {
      job.stale = false;
      paint(place);
    }
  };
  new IntersectionObserver((entries) => {
    job.near = entries[entries.length - 1].isIntersecting;
    soon(work);
  }, { rootMargin: '900px' }).observe(place.parentElement);
  return () => {
    job.stale = true;
    work();
  };
}

let drawn = '';
let jobs = [];

function render() {
  const key = ['v', 'd', 'c', 'm', 'f'].map((name) => state[name]).join('/');
  if (key !== drawn) mapPaint();
  drawn = key;
  chooseColours();
  keepFocus(find('controls'), controls);
  mapDraw();
  find('scale').replaceChildren();
  legend(find('scale'));
  jobs.forEach((job) => job());
  showDetail();
}

let waiting = false;

/** Once for all that changes before the next frame. */
function renderSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    render();
  });
}

/** Paints what may hold the focus, which stays on the same control. */
function keepFocus(place, paint) {
  const held = place.contains(document.activeElement) ? [...place.querySelectorAll('button,input,select')].indexOf(document.activeElement) : -1;
  paint(place);
  if (held >= 0) place.querySelectorAll('button,input,select')[held]?.focus();
}

// -- Beginning -------------------------------------------------------------------------------------

function build() {
  const explore = find('explore');
  make('div', explore, undefined, { id: 'controls', class: 'bar' });
  mapBuild(explore);
  make('div', explore, undefined, { id: 'scale' });
  make('div', explore, undefined, { id: 'slide', class: 'bar' });
  make('div', explore, undefined, { id: 'filter', class: 'bar' });
  make('div', explore, undefined, { id: 'layer' });
  explore.after(make('div', null, undefined, { id: 'expert', hidden: '' }));
  const text = find('reader');
  const box = make('input', make('label', text, 'Search ', { class: 'set' }), undefined, { type: 'search', id: 'search', placeholder: 'tokens' });
  box.addEventListener('input', () => go({ q: box.value }, false));
  make('div', text, undefined, { id: 'hits' });
  make('div', text, undefined, { id: 'slideText', class: 'bar' });
  make('div', text, undefined, { id: 'keys', class: 'bar' });
  const place = make('div', text, undefined, { class: 'texts numbered', id: 'texts' });
  place.addEventListener('click', (event) => {
    const t = event.target.dataset.t;
    if (t !== undefined) go({ t: Number(t) });
  });
  place.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const own = [...event.target.querySelectorAll('.t')].map((span) => Number(span.dataset.t));
    if (!step || own.length === 0) return;
    event.preventDefault();
    const next = own.includes(state.t) ? Math.min(Math.max(state.t + step, own[0]), own[own.length - 1]) : own[0];
    go({ t: next }, false);
    texts.spans.get(next).scrollIntoView({ block: 'nearest' });
  });
  make('div', find('shares'), undefined, { id: 'slideShares', class: 'bar' });
  make('div', find('shares'), undefined, { id: 'shareGrid' });
  make('div', document.body, undefined, { id: 'detail', 'aria-live': 'polite', hidden: '' });
  ['explore', 'reader', 'takes', 'shares'].forEach((id) => { find(id).hidden = false; });
  document.querySelectorAll('figure > svg.chart').forEach((svg) => {
    downloads(svg.parentElement.querySelector('figcaption'), svg.querySelector('title').textContent, svg,
      () => svg.dataset.csv.split(';').map((row) => row.split(',')));
  });
  document.querySelectorAll('nav a').forEach((link) => link.addEventListener('click', (event) => {
    event.preventDefault(); // the address is the state's
    document.querySelector(link.getAttribute('href')).scrollIntoView();
  }));
}

function begin() {
  build();
  readAddress();
  find('search').value = state.q;
  jobs = [
    ...['slide', 'slideText', 'slideShares'].map((id) => lazily(id, slider)),
    lazily('filter', (place) => keepFocus(place, filter)),
    lazily('layer', showLayer),
    lazily('expert', showExpert),
    lazily('keys', (place) => keepFocus(place, readerControls)),
    lazily('texts', showTexts),
    lazily('hits', search),
    lazily('takes', (place) => showTakes(place, 24)),
    lazily('shareGrid', showShares),
  ];
  mapPaint();
  mapSay(null);
  render();
  if (state.t >= 0) shownToken();
  window.addEventListener('popstate', () => {
    Object.assign(state, START);
    readAddress();
    find('search').value = state.q;
    render();
  });
  [darkness, matchMedia('print')].forEach((query) => query.addEventListener('change', () => {
    drawn = '';
    render();
  }));
  root.className = 'js ready';
}

begin();
