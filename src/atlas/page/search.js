// Search over the text: all of it, or as much of it as the page holds, and the excerpts.

const HITS = 40; // listed at first, and again with each "more"
const AROUND = 10; // tokens that are shown on each side of a place
const WIDER = 80; // ... of one that is opened

/** Runs of tokens that are searched: { domain, document, start, count, slot: (i) => its word's number }.
 * Made when something is searched for first. */
let runs = null;
let small = null; // the words in small letters

function makeRuns() {
  const next = numbersOf(reader.json.order);
  const order = Array.from({ length: reader.json.orders }, next);
  const piece = numbersOf(reader.json.pieces);
  const place = numbersOf(reader.json.places);
  const words = new Uint32Array(reader.json.searched);
  for (let i = 0; i < words.length; i++) words[i] = order[place()];
  runs = [];
  small = reader.words.map((word) => word.toLowerCase());
  const held = new Map(); // document -> how many of its first tokens
  for (let from = 0; from < words.length;) {
    const [domain, document, count] = [piece(), piece(), piece()];
    const begin = from;
    runs.push({ domain, document, start: 0, count, slot: (i) => words[begin + i] });
    held.set(document, count);
    from += count;
  }
  for (const x of excerpts) { // what of them lies behind that
    const skip = Math.max((held.get(x.document) ?? 0) - x.start, 0);
    if (skip < x.count) {
      runs.push({ domain: x.domain, document: x.document, start: x.start + skip, count: x.count - skip, slot: (i) => reader.text[x.at + skip + i] });
    }
  }
}

/** Its text in small letters, kept. */
function lettersOf(run) {
  if (run.letters === undefined) {
    run.letters = '';
    for (let i = 0; i < run.count; i++) run.letters += small[run.slot(i)];
  }
  return run.letters;
}

/** Where each of its tokens begins in that. */
function startsOf(run) {
  let at = 0;
  return Array.from({ length: run.count }, (_, i) => {
    at += small[run.slot(i)].length;
    return at - small[run.slot(i)].length;
  });
}

/** The token of an excerpt that is token i of a run, or -1: of those the experts are known. */
function shownAt(run, i) {
  const x = excerpts.find((own) => own.document === run.document && run.start + i >= own.start && run.start + i < own.start + own.count);
  return x ? x.at + run.start + i - x.start : -1;
}

function runText(run, from, to) {
  let text = '';
  for (let i = Math.max(from, 0); i < Math.min(to, run.count); i++) text += reader.words[run.slot(i)];
  return text;
}

function hitItem(items, run, from, to) {
  const t = shownAt(run, from);
  if (t >= 0) {
    contextItem(items, t, `expert ${routed().firstOf(t, state.l)}`, t, Math.min(t + to - from, excerptOf(t).at + excerptOf(t).count));
    return;
  }
  const item = make('li', items);
  const paint = (around) => {
    act.replaceChildren();
    make('span', act, runText(run, from - around, from));
    make('b', act, runText(run, from, to));
    make('span', act, runText(run, to, to + around));
    make('span', act, ` ${domains[run.domain]}, document ${run.document}, token ${run.start + from}`, { class: 'n' });
  };
  const act = button(item, undefined, () => {
    const open = act.getAttribute('aria-expanded') !== 'true';
    act.setAttribute('aria-expanded', String(open));
    paint(open ? WIDER : AROUND);
  }, { class: 'context', 'aria-expanded': 'false' });
  paint(AROUND);
}

/** All places, in the order of the text: [run, first letter]. */
function placesOf(wanted) {
  const found = [];
  const out = left();
  for (const run of runs) {
    if (out.has(run.domain)) continue;
    const text = lettersOf(run);
    for (let i = text.indexOf(wanted); i >= 0; i = text.indexOf(wanted, i + wanted.length)) found.push([run, i]);
  }
  return found;
}

/** Where it stands often: places of each 100 000 tokens by domain, of what is searched. */
function hitBars(place, found) {
  const tokens = new Float64Array(domains.length);
  const hits = new Float64Array(domains.length);
  runs.forEach((run) => { tokens[run.domain] += run.count; });
  found.forEach(([run]) => { hits[run.domain]++; });
  const rows = shownDomains().map((d) => ({ name: domains[d], value: hits[d] / tokens[d] * 1e5, note: `${whole(hits[d])} places` })).filter((row) => row.value > 0);
  if (rows.length > 1) bars(place, `Places of \u201c${state.q}\u201d for each 100\u202f000 tokens`, rows, (v) => v.toFixed(v < 10 ? 1 : 0), 12);
}

function searchedWords() {
  const all = reader.json.tokens;
  const { searched } = reader.json;
  if (searched >= all) return `in the whole text of ${whole(all)} tokens`;
  return searched > 0 ? `in ${whole(searched)} of ${whole(all)} tokens, the first of each domain, as many as this page holds, and in the excerpts`
    : `in the excerpts, ${whole(tokenCount)} of ${whole(all)} tokens: this page holds no more text`;
}

function search(place) {
  place.replaceChildren();
  const wanted = state.q.toLowerCase();
  if (wanted === '') return;
  if (!runs) makeRuns();
  const found = placesOf(wanted);
  make('p', place, `${whole(found.length)} places ${searchedWords()}`, { class: 'note' });
  const items = make('ul', place, undefined, { class: 'contexts hits' });
  let shown = 0;
  let last = null;
  let starts = [];
  const more = () => {
    for (const [run, i] of found.slice(shown, shown + HITS)) {
      if (run !== last) starts = startsOf(run);
      last = run;
      hitItem(items, run, starts.findLastIndex((start) => start <= i), starts.findLastIndex((start) => start < i + wanted.length) + 1);
    }
    shown = Math.min(shown + HITS, found.length);
    rest.hidden = shown === found.length;
    rest.textContent = `more (${whole(shown)} of ${whole(found.length)} shown)`;
  };
  const rest = button(place, '', more, { class: 'more' });
  more();
  hitBars(place, found);
}
