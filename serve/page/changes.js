// Changes of the routing that requests carry: experts per token, experts switched off or forced.

export class Changes {
  constructor(model) {
    this.model = model;
    this.top = 0; // 0: the model's own
    this.off = new Set(); // layer * experts + expert
    this.forced = new Set();
  }

  any() {
    return this.top > 0 || this.off.size > 0 || this.forced.size > 0;
  }

  clear() {
    this.top = 0;
    this.off.clear();
    this.forced.clear();
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
    if (this.top > 0) {
      fields.experts_per_token = this.top;
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
    if (this.top > 0) {
      all.push([this.top + (this.top === 1 ? ' expert' : ' experts') + ' per token', () => { this.top = 0; }]);
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
