// One answer as it is written: its stream, its tokens, and what is shown of them.

import { events } from './client.js';
import { TokenList } from './record.js';
import { TextView, element } from './text.js';

/**
 * An answer has two lists: the prompt's tokens as the model read them (those that no earlier answer
 * has shown), and its own.
 */
export class Answer {
  constructor(model, parent, { seed, title }) {
    this.model = model;
    this.seed = seed;
    this.text = '';
    this.said = 0; // characters of it that were told to people who listen
    this.finish = '';
    this.drawn = 0; // tokens, as the server counts them
    this.began = 0;
    this.seconds = 0;
    this.running = false;
    this.counted = true; // in the statistics of the chat
    this.controller = new AbortController();
    this.list = new TokenList(model.layers.length, model.chosenMost);
    this.prompt = new TokenList(model.layers.length, model.chosenMost);
    this.positions = new Map(); // of tokens whose experts are not known yet
    this.sequence = []; // ids by position
    this.shared = true; // so far with the answer before
    this.article = element('article', '', parent, 'answer');
    if (title) {
      element('h3', title, this.article);
    }
    const holder = element('div', '', this.article, 'text');
    holder.tabIndex = 0;
    holder.setAttribute('role', 'group');
    holder.setAttribute('aria-label', 'Answer. Arrow keys walk from token to token.');
    this.view = new TextView(holder, this.list);
    this.foot = element('p', '', this.article, 'foot');
  }

  stop() {
    this.controller.abort();
  }

  /** Reads the stream to its end. onToken(list, token) for each whose experts have become known. */
  async run(path, body, earlier, onToken, onChange) {
    this.running = true;
    this.began = performance.now();
    this.article.setAttribute('aria-busy', 'true');
    try {
      for await (const event of events(path, body, this.controller.signal)) {
        for (const choice of event.choices || []) {
          this.take(choice, choice.routing || event.routing, earlier, onToken);
        }
        this.drawn = event.usage ? event.usage.completion_tokens : this.drawn;
        onChange(this);
      }
    } catch (error) {
      if (error.name === 'AbortError') {
        this.finish = 'stopped';
      } else {
        this.finish = 'failed';
        element('p', error.message, this.article, 'problem').setAttribute('role', 'alert');
      }
    }
    this.seconds = (performance.now() - this.began) / 1000;
    this.running = false;
    this.article.removeAttribute('aria-busy');
    onChange(this);
  }

  take(choice, routing, earlier, onToken) {
    const text = choice.delta ? choice.delta.content || '' : choice.text || '';
    const entries = routing ? routing.tokens : [];
    const fresh = [];
    for (const entry of entries) {
      const list = entry.prompt ? this.prompt : this.list;
      this.sequence[entry.position] = entry.id;
      this.shared = this.shared && entry.prompt && earlier[entry.position] === entry.id;
      if (this.shared) {
        continue;
      }
      let token = this.positions.get(entry.position);
      if (token === undefined) {
        token = list.add(entry.id, entry.token, entry.bytes);
        if (!entry.prompt) {
          fresh.push(token);
        }
      }
      this.positions.set(entry.position, token);
      if (entry.layers) {
        list.setExperts(token, entry.layers, entry.margins);
        if (list === this.list && !fresh.includes(token)) {
          this.view.stale.push(token);
        }
        onToken(list, token, entry.prompt);
      }
    }
    this.show(text, fresh);
    this.finish = choice.finish_reason || this.finish;
  }

  // What is shown is the text that the server gives, which is whole characters; pieces of one are
  // tokens without a text of their own.
  show(text, fresh) {
    this.text += text;
    if (fresh.map((token) => this.list.texts[token]).join('') === text) {
      return;
    }
    for (const token of fresh) {
      this.list.texts[token] = '';
    }
    const last = this.list.length - 1;
    if (fresh.length === 0 && (last < 0 || !this.positions.size)) {
      this.list.add(-1, text, undefined); // no routing comes with it
    } else {
      this.list.texts[last] += text;
      this.view.rewrite(last);
    }
  }
}
