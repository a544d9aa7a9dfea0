// Tokens on the page. They are put into blocks of some sixty, so that another token lays few of them
// out anew, and blocks into chapters, which the browser leaves alone while they are out of sight: so
// another token costs about the same however long the text is.

import { expertClass } from './colour.js';

const BLOCK = 60; // tokens; a block ends with the line in which it reaches so many
const BLOCK_MOST = 300; // ... or behind this many, at a space
const CHAPTER = 10; // blocks

export function element(name, text, parent, classes) {
  const made = document.createElement(name);
  if (text !== undefined && text !== '') {
    made.textContent = text;
  }
  if (classes) {
    made.className = classes;
  }
  if (parent) {
    parent.append(made);
  }
  return made;
}

const views = new WeakMap(); // of the elements that hold tokens

/** The view and index of the token that an element shows. */
export function tokenOf(node) {
  const span = node.closest ? node.closest('.t') : null;
  const holder = span ? span.closest('.tokens') : null;
  return holder && views.has(holder) ? { view: views.get(holder), token: span.token } : null;
}

export function viewOf(holder) {
  return views.get(holder);
}

/** Shows a TokenList in an element, as far as `update` was told. */
export class TextView {
  constructor(holder, list) {
    this.holder = holder;
    this.list = list;
    this.spans = [];
    this.block = null;
    this.blocks = 0;
    this.inBlock = 0;
    this.closing = false;
    this.stale = []; // tokens on the page whose experts have become known since
    holder.classList.add('tokens');
    views.set(holder, this);
  }

  /** Puts tokens that are new behind the others. */
  append(layer) {
    let fragment = document.createDocumentFragment();
    for (let token = this.spans.length; token < this.list.length; token++) {
      const text = this.list.texts[token];
      const spaced = /^\s/.test(text);
      if (this.block === null || this.closing || (this.inBlock >= BLOCK_MOST && spaced)) {
        if (this.block !== null) {
          this.block.append(fragment);
          fragment = document.createDocumentFragment();
        }
        if (this.blocks % CHAPTER === 0) {
          this.chapter = element('div', '', this.holder, 'chapter');
        }
        this.block = element('div', '', this.chapter);
        this.blocks++;
        this.inBlock = 0;
        this.closing = false;
      }
      const span = document.createElement('span');
      span.token = token;
      span.textContent = text;
      this.spans.push(span);
      this.paintToken(token, layer);
      fragment.append(span);
      this.inBlock++;
      if (this.inBlock >= BLOCK && text.endsWith('\n')) { // the block's end is the end of the line
        span.textContent = text.slice(0, -1);
        this.closing = true;
      }
    }
    if (this.block !== null) {
      this.block.append(fragment);
    }
    this.stale.forEach((token) => token < this.spans.length && this.paintToken(token, layer));
    this.stale = [];
  }

  /** A token's text has changed. */
  rewrite(token) {
    if (token < this.spans.length) {
      this.spans[token].textContent = this.list.texts[token];
    }
  }

  paintToken(token, layer) {
    const span = this.spans[token];
    const marks = ['on', 'took', 'parted'].filter((mark) => span.classList.contains(mark));
    const expert = this.list.known[token] ? this.list.first(token, layer) : -1;
    span.className = ['t', expertClass(expert), ...marks].join(' ');
    span.dataset.e = expert < 0 ? '–' : expert;
  }

  /** Colours of another layer. */
  paint(layer) {
    for (let token = 0; token < this.spans.length; token++) {
      this.paintToken(token, layer);
    }
  }

  /** Marks the tokens that an expert of a layer took. Returns how many. */
  mark(layer, expert) {
    let count = 0;
    for (let token = 0; token < this.spans.length; token++) {
      const took = expert >= 0 && this.list.known[token] && this.list.weightOf(token, layer, expert) >= 0;
      this.spans[token].classList.toggle('took', took);
      count += took ? 1 : 0;
    }
    return count;
  }
}
