// Tokens with their experts, and what is counted of them.

export const NONE = 65535;

/**
 * Tokens of one text. Experts and weights are [token][layer][rank], NONE where there is no expert; margins
 * [token][layer], NaN where there is none.
 */
export class TokenList {
  constructor(layers, chosen) {
    this.layers = layers;
    this.chosen = chosen;
    this.length = 0;
    this.ids = [];
    this.texts = []; // as they are shown
    this.names = []; // as the vocabulary has them
    this.bytes = []; // of tokens that are no whole characters, otherwise undefined
    this.known = []; // whether the experts are
    this.reserve(64);
  }

  reserve(tokens) {
    const size = tokens * this.layers * this.chosen;
    const experts = new Uint16Array(size).fill(NONE);
    const weights = new Float32Array(size);
    const margins = new Float32Array(tokens * this.layers).fill(NaN);
    if (this.experts) {
      experts.set(this.experts);
      weights.set(this.weights);
      margins.set(this.margins);
    }
    this.capacity = tokens;
    this.experts = experts;
    this.weights = weights;
    this.margins = margins;
  }

  /** Returns the token's index. */
  add(id, name, bytes) {
    if (this.length === this.capacity) {
      this.reserve(this.capacity * 2);
    }
    this.ids.push(id);
    this.texts.push(name);
    this.names.push(name);
    this.bytes.push(bytes);
    this.known.push(false);
    return this.length++;
  }

  at(token, layer) {
    return (token * this.layers + layer) * this.chosen;
  }

  /** experts: for each layer [[id, weight], ...], best first, null for none; margins: a number or null for each. */
  setExperts(token, experts, margins) {
    for (let layer = 0; layer < this.layers && layer < experts.length; layer++) {
      const at = this.at(token, layer);
      const count = Math.min(experts[layer].length, this.chosen);
      for (let rank = 0; rank < count; rank++) {
        if (experts[layer][rank]) {
          this.experts[at + rank] = experts[layer][rank][0];
          this.weights[at + rank] = experts[layer][rank][1];
        }
      }
      const margin = margins ? margins[layer] : null;
      this.margins[token * this.layers + layer] = margin === null ? NaN : margin;
    }
    this.known[token] = true;
  }

  /** Calls take(expert, weight, rank) for each that a layer chose. */
  each(token, layer, take) {
    const at = this.at(token, layer);
    for (let rank = 0; rank < this.chosen; rank++) {
      if (this.experts[at + rank] !== NONE) {
        take(this.experts[at + rank], this.weights[at + rank], rank);
      }
    }
  }

  margin(token, layer) {
    return this.margins[token * this.layers + layer];
  }

  /** First choice, or -1. */
  first(token, layer) {
    const expert = this.experts[this.at(token, layer)];
    return expert === NONE ? -1 : expert;
  }

  /** Weight that an expert has for a token; -1: it was not chosen. */
  weightOf(token, layer, expert) {
    const at = this.at(token, layer);
    for (let rank = 0; rank < this.chosen; rank++) {
      if (this.experts[at + rank] === expert) {
        return this.weights[at + rank];
      }
    }
    return -1;
  }
}

/** Counts by layer: choices of each expert, first choices, and pairs of neighbours that share theirs. */
export class Statistics {
  constructor(layers, experts) {
    this.layers = layers;
    this.experts = experts;
    this.clear();
  }

  clear() {
    const cells = this.layers * this.experts;
    this.tokens = 0;
    this.load = new Uint32Array(cells);
    this.first = new Uint32Array(cells);
    this.choices = new Uint32Array(this.layers);
    this.firsts = new Uint32Array(this.layers);
    this.same = new Uint32Array(this.layers);
    this.pairs = new Uint32Array(this.layers);
  }

  /** A token whose experts have become known; neighbours are taken from the same list. */
  add(list, token) {
    this.tokens++;
    for (let layer = 0; layer < this.layers; layer++) {
      list.each(token, layer, (expert) => {
        this.load[layer * this.experts + expert]++;
        this.choices[layer]++;
      });
      const first = list.first(token, layer);
      if (first >= 0) {
        this.first[layer * this.experts + first]++;
        this.firsts[layer]++;
      }
      this.addPair(list, layer, token - 1, token);
      this.addPair(list, layer, token, token + 1);
    }
  }

  // A pair counts once: with the token of the two that becomes known last.
  addPair(list, layer, left, right) {
    if (left >= 0 && right < list.length && list.known[left] && list.known[right]) {
      const first = list.first(left, layer);
      if (first >= 0 && list.first(right, layer) >= 0) {
        this.pairs[layer]++;
        this.same[layer] += first === list.first(right, layer) ? 1 : 0;
      }
    }
  }

  /** All tokens of the lists anew. */
  count(lists) {
    this.clear();
    for (const list of lists) {
      const known = list.known;
      list.known = new Array(list.length).fill(false); // so that each pair counts once
      for (let token = 0; token < list.length; token++) {
        if (known[token]) {
          list.known[token] = true;
          this.add(list, token);
        }
      }
    }
  }

  repetition(layer) {
    return this.pairs[layer] ? this.same[layer] / this.pairs[layer] : NaN;
  }

  /** How often two tokens drawn at random from those so far share their first choice. */
  usage(layer) {
    let sum = 0;
    for (let expert = 0; expert < this.experts; expert++) {
      const share = this.first[layer * this.experts + expert] / this.firsts[layer];
      sum += share * share;
    }
    return sum;
  }

  share(layer, expert) {
    return this.load[layer * this.experts + expert] / this.choices[layer];
  }
}
