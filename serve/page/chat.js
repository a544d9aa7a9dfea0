// The conversation: turns of a question and its answers, one or two beside each other.

import { Answer } from './answer.js';
import { TextView, element } from './text.js';

const SAID_MOST = 400; // characters without the end of a sentence

function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
}

export class Chat {
  /**
   * app: { model, settings(), system(), changes, layer, onToken(answer, list, token), onFlush(), onState(),
   * onRecount() }; log is the element that scrolls, said the live region.
   */
  constructor(log, said, app) {
    this.log = log;
    this.said = said;
    this.app = app;
    this.turns = [];
    this.waiting = new Set(); // answers with something new to show
    this.scheduled = false;
  }

  get running() {
    return this.turns.some((turn) => turn.answers.some((answer) => answer.running));
  }

  get last() {
    return this.turns[this.turns.length - 1];
  }

  clear() {
    this.stop();
    for (const turn of this.turns) {
      turn.section.remove();
    }
    this.turns = [];
    this.app.onRecount();
    this.app.onState();
  }

  stop() {
    for (const turn of this.turns) {
      turn.answers.forEach((answer) => answer.stop());
    }
  }

  /** Texts of the conversation that goes on, for statistics and traces. */
  lists() {
    return this.turns.flatMap((turn) => {
      const answer = turn.answers[turn.picked];
      return answer ? [answer.prompt, answer.list] : [];
    });
  }

  views() {
    return this.turns.flatMap((turn) => turn.answers.flatMap((answer) => answer.promptView
      ? [answer.promptView, answer.view] : [answer.view]));
  }

  ask(text, both) {
    const section = element('section', '', this.log, 'turn');
    const question = element('div', '', section, 'question');
    element('p', text, question);
    const turn = { text, section, question, answers: [], picked: 0 };
    this.turns.push(turn);
    this.answer(turn, both);
  }

  again(both) {
    if (this.last && !this.running) {
      this.answer(this.last, both);
    }
  }

  /** Takes the last question back; returns its text. */
  edit() {
    if (!this.last || this.running) {
      return null;
    }
    const turn = this.turns.pop();
    turn.section.remove();
    this.app.onRecount();
    this.app.onState();
    return turn.text;
  }

  request(turn, seed, changed) {
    const { model, settings, changes } = this.app;
    const before = this.turns.slice(0, this.turns.indexOf(turn));
    const body = { model: model.name, stream: true, stream_options: { include_usage: true }, seed, ...settings() };
    if (model.layers.length > 0) {
      body.routing = true;
    }
    if (changed) {
      Object.assign(body, changes.fields());
    }
    if (!model.chat) {
      body.prompt = before.map((past) => past.text + past.answers[past.picked].text).join('') + turn.text;
      return ['/v1/completions', body];
    }
    body.messages = this.app.system() === '' ? [] : [{ role: 'system', content: this.app.system() }];
    for (const past of before) {
      body.messages.push({ role: 'user', content: past.text },
        { role: 'assistant', content: past.answers[past.picked].text });
    }
    body.messages.push({ role: 'user', content: turn.text });
    return ['/v1/chat/completions', body];
  }

  answer(turn, both) {
    const { model, changes } = this.app;
    const before = this.turns[this.turns.indexOf(turn) - 1];
    const earlier = before ? before.answers[before.picked].sequence : [];
    const seed = this.app.seed() === null ? randomSeed() : this.app.seed();
    if (turn.columns) {
      turn.columns.remove();
      turn.prompted.remove();
    }
    turn.answers = [];
    turn.picked = 0;
    this.app.onRecount();
    turn.prompted = element('details', '', turn.section, 'prompted');
    turn.prompted.hidden = true;
    turn.columns = element('div', '', turn.section, both ? 'columns two' : 'columns');
    const kinds = both ? [false, true] : [changes.any()];
    for (const changed of kinds) {
      const title = both ? (changed ? 'With ' + changes.words() : 'As the model is') : changed ? 'With ' + changes.words() : '';
      const answer = new Answer(model, turn.columns, { seed, title });
      answer.changed = changed ? changes.words() : '';
      answer.counted = turn.answers.length === 0;
      turn.answers.push(answer);
    }
    for (const answer of turn.answers) {
      const [path, body] = this.request(turn, seed, answer.changed !== '');
      answer.run(path, body, earlier, (list, token) => this.app.onToken(answer, list, token),
        () => this.changed(turn, answer));
    }
    this.app.onState();
    this.log.scrollTop = this.log.scrollHeight;
  }

  changed(turn, answer) {
    if (turn.answers.includes(answer)) {
      this.waiting.add(answer);
      if (answer.running) {
        this.schedule();
      } else {
        const follows = this.flush();
        this.finish(turn, answer);
        this.follow(follows);
      }
    }
  }

  // Once a frame; pages in the background have no frames.
  schedule() {
    if (!this.scheduled) {
      this.scheduled = true;
      const flush = () => {
        if (this.scheduled) {
          this.scheduled = false;
          this.flush();
        }
      };
      requestAnimationFrame(flush);
      setTimeout(flush, 200);
    }
  }

  // Returns whether the end was in sight, and so is again.
  flush() {
    const { log } = this;
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 90;
    for (const answer of this.waiting) {
      answer.view.append(this.app.layer);
    }
    if (this.last && this.waiting.has(this.last.answers[0])) {
      this.say(this.last.answers[0]);
    }
    this.waiting.clear();
    this.app.onFlush();
    this.follow(follows);
    return follows;
  }

  follow(follows) {
    if (follows) {
      this.log.scrollTop = this.log.scrollHeight;
    }
  }

  // To people who listen: whole sentences, or what has come to be long, and all that is left at the end.
  say(answer) {
    const rest = answer.text.slice(answer.said);
    const sentences = /^[^]*[.!?:\n](?=\s)/.exec(rest);
    const whole = !answer.running || rest.length > SAID_MOST ? rest : sentences ? sentences[0] : '';
    if (whole.trim() !== '') {
      this.said.textContent = whole;
    }
    answer.said += whole.length;
  }

  finish(turn, answer) {
    const tokens = answer.drawn || answer.list.length;
    const parts = [tokens + (tokens === 1 ? ' token' : ' tokens')];
    if (answer.seconds > 0 && tokens > 1) {
      parts.push((tokens / answer.seconds).toFixed(1) + ' a second');
    }
    parts.push('seed ' + answer.seed);
    if (answer.finish === 'length') {
      parts.push('cut at the limit');
    } else if (answer.finish === 'stopped') {
      parts.push('stopped');
    }
    answer.foot.textContent = parts.join(' · ');
    if (answer.counted && answer.prompt.length > 0) {
      this.showPrompt(turn, answer);
    }
    if (turn.answers.length === 2 && turn.answers.every((one) => !one.running)) {
      this.compare(turn);
    }
    this.app.onState();
  }

  // The prompt as the model read it, made when it is opened.
  showPrompt(turn, answer) {
    const { prompted } = turn;
    prompted.hidden = false;
    prompted.replaceChildren();
    element('summary', 'Read as ' + answer.prompt.length + ' tokens', prompted);
    const holder = element('div', '', prompted, 'text');
    holder.tabIndex = 0;
    holder.setAttribute('role', 'group');
    holder.setAttribute('aria-label', 'Prompt. Arrow keys walk from token to token.');
    prompted.addEventListener('toggle', () => {
      if (prompted.open && !answer.promptView) {
        answer.promptView = new TextView(holder, answer.prompt);
        answer.promptView.append(this.app.layer);
      }
    });
  }

  compare(turn) {
    const [left, right] = turn.answers;
    let same = 0;
    while (same < left.list.length && same < right.list.length && left.list.ids[same] === right.list.ids[same]) {
      same++;
    }
    const alike = same === left.list.length && same === right.list.length;
    turn.answers.forEach((answer, number) => {
      if (!alike && answer.view.spans[same]) {
        answer.view.spans[same].classList.add('parted');
      }
      const button = element('button', '', answer.article, 'pick');
      button.type = 'button';
      button.addEventListener('click', () => this.pick(turn, number));
    });
    const words = alike ? 'Both answers are the same.'
      : 'The answers part ' + (same === 0 ? 'at the first token.' : 'after ' + same + (same === 1 ? ' token.' : ' tokens.'));
    turn.columns.prepend(element('p', words, null, 'verdict'));
    this.pick(turn, turn.picked);
  }

  pick(turn, number) {
    turn.picked = number;
    turn.answers.forEach((answer, i) => {
      answer.counted = i === number;
      const button = answer.article.querySelector('.pick');
      button.setAttribute('aria-pressed', i === number);
      button.textContent = i === number ? 'The chat goes on with this one' : 'Go on with this one';
    });
    this.app.onRecount();
  }
}
