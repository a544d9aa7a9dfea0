// What is known of one token, or of one expert.

import { expertClass } from './colour.js';
import { element } from './text.js';

const WORDS = 24; // of those that an expert took

/** Text of a token with its spaces to be seen. */
export function visible(text) {
  return text.replace(/ /g, '␣').replace(/\n/g, '↵').replace(/\t/g, '⇥') || '(part of a character)';
}

function percent(share) {
  return (100 * share).toFixed(1) + '\u00a0%';
}

// Two digits that count: margins of scores are small.
function marginText(margin) {
  return Number.isNaN(margin) ? '–' : margin >= 1 ? margin.toFixed(2) : margin.toPrecision(2);
}

export class Details {
  /** app: { model, statistics, lists(), changes, onExpert(layer, expert), onChange(layer, expert, what), onClose() } */
  constructor(panel, app) {
    this.panel = panel;
    this.app = app;
    panel.addEventListener('click', (event) => {
      const chip = event.target.closest('[data-layer]');
      if (chip) {
        app.onExpert(Number(chip.dataset.layer), Number(chip.dataset.expert));
      }
    });
  }

  open(title) {
    this.panel.replaceChildren();
    this.panel.hidden = false;
    const head = element('div', '', this.panel, 'head');
    const name = element('h2', '', head);
    const close = element('button', '×', head, 'close');
    close.type = 'button';
    close.setAttribute('aria-label', 'Close');
    close.addEventListener('click', () => this.close());
    name.append(...title);
  }

  close() {
    this.panel.hidden = true;
    this.app.onClose();
  }

  chip(parent, layer, expert) {
    const chip = element('button', String(expert), parent, 'chip ' + expertClass(expert));
    chip.type = 'button';
    chip.dataset.layer = layer;
    chip.dataset.expert = expert;
    chip.setAttribute('aria-label', 'expert ' + expert + ' of layer ' + this.app.model.layers[layer]);
  }

  /** here: the layer whose colours are shown. */
  token(list, token, here) {
    this.open([element('code', visible(list.texts[token] || list.names[token] || ''))]);
    const about = list.ids[token] < 0 ? 'The server says nothing about this piece of text.'
      : 'Token ' + list.ids[token] + ', number ' + (token + 1) + ' of ' + list.length + '.' +
        (list.known[token] ? '' : ' The model has not read it, so it went to no experts.');
    element('p', about, this.panel, 'note');
    if (!list.known[token]) {
      return;
    }
    const box = element('div', '', this.panel, 'scroll');
    const table = element('table', '', box);
    const head = element('tr', '', element('thead', '', table));
    element('th', 'Layer', head).scope = 'col';
    element('th', 'Experts and weights', head).scope = 'col';
    const compared = this.app.model.layers.some((_, layer) => !Number.isNaN(list.margin(token, layer)));
    if (compared) {
      element('th', 'Margin', head).scope = 'col';
    }
    const body = element('tbody', '', table);
    for (let layer = 0; layer < list.layers; layer++) {
      const row = this.layerRow(body, list, token, layer, layer === here);
      if (compared) {
        element('td', marginText(list.margin(token, layer)), row);
      }
    }
    const row = body.children[here];
    box.scrollTop = row.offsetTop - box.offsetTop - (box.clientHeight - row.offsetHeight) / 2;
    if (compared) {
      element('p', 'Margin: how far the last expert that was chosen stands above the best one that was not, in the ' +
        'numbers that the layer compares (logits, or scores with their bias).', this.panel, 'note');
    }
  }

  layerRow(body, list, token, layer, here) {
    const row = element('tr', '', body, here ? 'here' : '');
    element('th', String(this.app.model.layers[layer]), row).scope = 'row';
    const cell = element('td', '', row, 'experts');
    list.each(token, layer, (expert, weight) => {
      const pair = element('span', '', cell, 'pairing');
      this.chip(pair, layer, expert);
      element('span', weight.toFixed(2), pair);
    });
    if (!cell.hasChildNodes()) {
      cell.textContent = 'none';
    }
    return row;
  }

  expert(layer, expert) {
    const { model, statistics, changes } = this.app;
    const title = element('span', '');
    this.open([title]);
    title.append('Expert ', element('span', String(expert), null, 'chip ' + expertClass(expert)),
      ' of layer ' + model.layers[layer]);
    const took = statistics.load[layer * model.experts + expert];
    const first = statistics.first[layer * model.experts + expert];
    element('p', statistics.tokens === 0 ? 'Nothing was written yet.'
      : 'Took ' + took + ' of ' + statistics.tokens + ' tokens so far, ' + first + ' as their first choice: ' +
        percent(took / statistics.choices[layer]) + ' of the layer’s choices, where all alike would have ' +
        percent(1 / model.experts) + '.', this.panel);
    const cell = layer * model.experts + expert;
    const row = element('p', '', this.panel, 'row');
    for (const [what, set, word] of [['off', changes.off, 'Switch off'], ['force', changes.forced, 'Force']]) {
      const button = element('button', word, row);
      button.type = 'button';
      button.setAttribute('aria-pressed', set.has(cell));
      button.addEventListener('click', () => this.app.onChange(layer, expert, what));
    }
    this.words(layer, expert);
  }

  // The words that it took, most often first.
  words(layer, expert) {
    const counts = new Map();
    for (const list of this.app.lists()) {
      for (let token = 0; token < list.length; token++) {
        if (list.known[token] && list.weightOf(token, layer, expert) >= 0) {
          const text = list.texts[token] || list.names[token];
          counts.set(text, (counts.get(text) || 0) + 1);
        }
      }
    }
    const sorted = [...counts].sort((a, b) => b[1] - a[1]);
    if (sorted.length > 0) {
      const line = element('p', '', this.panel, 'words');
      for (const [text, count] of sorted.slice(0, WORDS)) {
        const item = element('span', '', line, 'item');
        element('code', visible(text), item);
        item.append(count > 1 ? ' × ' + count : '');
      }
      element('p', (sorted.length > WORDS ? sorted.length - WORDS + ' more words. ' : '') +
        'Its tokens are framed in the conversation.', this.panel, 'note');
    }
  }
}
