// Experts on disk: what was there, what was read, and what other memory would have brought.

import { drawHits } from './charts.js';
import { getJson } from './client.js';
import { element } from './text.js';

const EVERY = 2000; // milliseconds between looks

const percent = (share) => (100 * share).toFixed(1) + '\u00a0%';
const whole = (count) => count.toLocaleString('en');

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = count;
  for (; value >= 999.5 && unit < units.length - 1; unit++) {
    value /= 1000;
  }
  return value.toFixed(unit > 0 && value < 99.95 ? 1 : 0) + '\u00a0' + units[unit];
}

// The share of `part` in `all` since the look before, where there was something.
function lately(now, before, part, all) {
  const of = before ? now[all] - before[all] : 0;
  return of > 0 ? ', lately ' + percent((now[part] - before[part]) / of) : '';
}

/** Rows [name, words] of statistics, `before` being those of the look before or null. */
export function facts(now, before) {
  const rows = [];
  rows.push(['Hits', now.requests === 0 ? 'nothing was wanted yet'
    : percent(now.hits / now.requests) + ' of ' + whole(now.requests) + ' wishes' +
      lately(now, before, 'hits', 'requests') + '; chance ' + percent(Math.min(1, now.slots / now.experts))]);
  rows.push(['Read', bytes(now.bytes_read) + (now.disk_seconds > 0
    ? ', ' + bytes(now.bytes_read / now.disk_seconds) + ' a second while reads are under way' : '')]);
  rows.push(['Waiting', now.seconds > 0
    ? percent(now.wait_seconds / now.seconds) + ' of the time of steps' + lately(now, before, 'wait_seconds', 'seconds') +
      '; reads under way ' + percent(Math.min(1, now.disk_seconds / now.seconds)) : 'not yet']);
  rows.push(['Memory', bytes(now.memory) + ': weights ' + bytes(now.resident_bytes) + ', caches and plans ' +
    bytes(now.other_bytes) + ', ' + whole(now.slots) + ' of ' + whole(now.experts) + ' experts ' + bytes(now.pool_bytes)]);
  rows.push(['Read ahead', (now.prefetching ? 'on' : 'off') +
    (now.prefetch_recall === null ? '' : ', ' + percent(now.prefetch_recall) + ' of a layer\u2019s choices foreseen') +
    (now.prefetched > 0 ? '; ' + whole(now.prefetch_used) + ' of ' + whole(now.prefetched) + ' were used, ' +
      bytes(now.prefetch_bytes_wasted) + ' for nothing' : '')]);
  rows.push(['Room is made', 'by ' + now.policy + ', files are read by ' + now.reader]);
  return rows;
}

/** In words where the pool is below what one token works with; ''. */
export function warning(now) {
  return now.slots < now.experts && now.pool_bytes < now.token_bytes
    ? 'Memory holds ' + bytes(now.pool_bytes) + ' of experts, and one token works with ' + bytes(now.token_bytes) +
      ': most of what is read is gone before it is wanted again.' : '';
}

export class Store {
  /** parts: { panel, rate, warning, table, figure, chart, words, button } */
  constructor(parts) {
    this.parts = parts;
    this.before = null;
    parts.panel.addEventListener('toggle', () => this.look());
    parts.button.addEventListener('click', () => this.survey());
    document.addEventListener('visibilitychange', () => this.look());
  }

  begin() {
    this.parts.panel.hidden = false;
    this.parts.panel.open = true; // which looks
  }

  // Once, and again as long as somebody sees it.
  async look() {
    clearTimeout(this.timer);
    if (!this.parts.panel.open || document.hidden) {
      return;
    }
    try {
      const now = await getJson('/v1/store');
      if (now.stored) {
        this.show(now);
      }
    } catch (error) {
      this.parts.rate.textContent = ': ' + error.message;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), EVERY);
  }

  show(now) {
    const { parts } = this;
    const warn = warning(now);
    parts.rate.textContent = now.requests > 0 ? ': ' + percent(now.hits / now.requests) + ' hits' : '';
    parts.warning.hidden = warn === '';
    parts.warning.textContent = warn;
    const body = element('tbody');
    for (const [name, words] of facts(now, this.before)) {
      const row = element('tr', '', body);
      element('th', name, row).scope = 'row';
      element('td', words, row, 'experts');
    }
    parts.table.replaceChildren(body);
    this.before = now;
  }

  async survey() {
    const { parts } = this;
    parts.button.disabled = true;
    try {
      const { points, now } = await getJson('/v1/store/curve');
      parts.figure.hidden = points.length === 0;
      if (points.length > 0) {
        drawHits(parts.chart, points, now, bytes);
        const here = points[now];
        parts.words.textContent = bytes(here.memory) + ' now: ' + percent(here.own) + '; LRU ' + percent(here.lru) + ', LFU ' +
          percent(here.lfu) + ', the optimum ' + percent(here.optimum);
      }
    } catch (error) {
      parts.figure.hidden = false;
      parts.words.textContent = error.message;
    }
    parts.button.disabled = false;
  }
}
