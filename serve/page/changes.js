// Changes of the routing that requests carry: experts per token, experts switched off or forced.

const EVERY = -1; // layer, as the server means it

export class Changes {
  constructor(model) {
    this.model = model;
    this.tops = new Map(); // experts per token, by the model's number of the layer; EVERY: all layers
    this.off = new Set(); // layer * experts + expert
    this.forced = new Set();
  }

  any() {
    return this.tops.size > 0 || this.off.size > 0 || this.forced.size > 0;
  }

  clear() {
    this.tops.clear();
    this.off.clear();
    this.forced.clear();
  }

  /** Experts per token of a layer; null, or what it has without: no change. */
  setTop(layer, top) {
    const without = layer !== EVERY && this.tops.has(EVERY) ? this.tops.get(EVERY) : this.model.chosen;
    if (top === null || top === without) {
      this.tops.delete(layer);
    } else {
      this.tops.set(layer, top);
    }
  }

  /** what: "off" or "force"; an expert is one of them at most. */
  toggle(layer, expert, what) {
    const cell = layer * this.model.experts + expert;
    const [set, other] = what === 'off' ? [this.off, this.forced] : [this.forced, this.off];
    other.delete(cell);
    if (!set.delete(cell)) {
      set.add(cell);
    }
  }

  pair(cell) {
    return [this.model.layers[Math.floor(cell / this.model.experts)], cell % this.model.experts];
  }

  /** As the server wants them. */
  fields() {
    const fields = {};
    if (this.tops.size > 0) { // that of every layer first, which the others change
      fields.experts_per_token = [...this.tops].sort((a, b) => a[0] - b[0]);
    }
    if (this.off.size > 0) {
      fields.expert_mask = [...this.off].map((cell) => this.pair(cell));
    }
    if (this.forced.size > 0) {
      fields.expert_force = [...this.forced].map((cell) => this.pair(cell));
    }
    return fields;
  }

  /** Each change with what takes it back: [text, undo]. */
  each() {
    const all = [];
    for (const [layer, top] of this.tops) {
      all.push([(layer === EVERY ? '' : 'layer ' + layer + ': ') + top + (top === 1 ? ' expert' : ' experts') +
        ' per token', () => this.tops.delete(layer)]);
    }
    for (const [set, word] of [[this.off, 'off'], [this.forced, 'forced']]) {
      for (const cell of set) {
        const [layer, expert] = this.pair(cell);
        all.push(['layer ' + layer + ': expert ' + expert + ' ' + word, () => set.delete(cell)]);
      }
    }
    return all;
  }

  words() {
    const all = this.each();
    return all.length === 1 ? all[0][0] : all.length <= 3 ? all.map((one) => one[0]).join(', ') : all.length + ' changes';
  }
}
