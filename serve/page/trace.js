// A chat as a trace file that `mixt atlas` opens (docs/traces.md): safetensors.

import { NONE } from './record.js';

function halfOf(value) {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) { // 65520 and above
    return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  }
  if (magnitude < 0x38800000) { // below 2^-14: steps of 2^-24
    return sign | roundEven(Math.abs(value) * 16777216);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
}

function roundEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

// Stretches of tokens whose experts are known: neighbours stay neighbours.
function stretches(documents) {
  const found = [];
  for (const { domain, list } of documents) {
    let begin = -1;
    for (let token = 0; token <= list.length; token++) {
      if (token < list.length && list.known[token]) {
        begin = begin < 0 ? token : begin;
      } else if (begin >= 0) {
        found.push({ domain, list, begin, end: token });
        begin = -1;
      }
    }
  }
  return found;
}

// The most experts that each layer chose for any token.
function chosenByLayer(parts, layers) {
  const most = new Array(layers).fill(1);
  for (const { list, begin, end } of parts) {
    for (let token = begin; token < end; token++) {
      for (let layer = 0; layer < layers; layer++) {
        list.each(token, layer, (expert, weight, rank) => { most[layer] = Math.max(most[layer], rank + 1); });
      }
    }
  }
  return most;
}

// Bytes of the entries that the chat has; all others are empty.
function vocabulary(parts) {
  const encoder = new TextEncoder();
  const entries = new Map();
  let last = 0;
  for (const { list, begin, end } of parts) {
    for (let token = begin; token < end; token++) {
      const id = list.ids[token];
      last = Math.max(last, id);
      if (!entries.has(id) || list.bytes[token]) {
        entries.set(id, list.bytes[token] ? Uint8Array.from(list.bytes[token])
          : encoder.encode(list.names[token]));
      }
    }
  }
  const offsets = new Int32Array(last + 2);
  let total = 0;
  for (let id = 0; id <= last; id++) {
    total += entries.has(id) ? entries.get(id).length : 0;
    offsets[id + 1] = total;
  }
  const bytes = new Uint8Array(total);
  for (const [id, entry] of entries) {
    bytes.set(entry, offsets[id]);
  }
  return { offsets, bytes };
}

function tensorsOf(parts, domains, layers, chosen) {
  const count = parts.reduce((sum, part) => sum + part.end - part.begin, 0);
  const words = vocabulary(parts);
  const tokens = new Int32Array(count);
  const document = new Int32Array(count);
  const domain = new Uint16Array(count);
  const experts = new Uint16Array(layers * count * chosen).fill(NONE);
  const weights = new Uint16Array(layers * count * chosen);
  let holes = false;
  let at = 0;
  parts.forEach((part, number) => {
    for (let token = part.begin; token < part.end; token++, at++) {
      tokens[at] = part.list.ids[token];
      document[at] = number;
      domain[at] = domains.indexOf(part.domain);
      for (let layer = 0; layer < layers; layer++) {
        const from = part.list.at(token, layer);
        for (let rank = 0; rank < chosen; rank++) {
          const expert = rank < part.list.chosen ? part.list.experts[from + rank] : NONE;
          holes = holes || expert === NONE;
          if (expert !== NONE) {
            experts[(layer * count + at) * chosen + rank] = expert;
            weights[(layer * count + at) * chosen + rank] = halfOf(part.list.weights[from + rank]);
          }
        }
      }
    }
  });
  return {
    holes,
    tensors: [
      ['vocab_offsets', 'I32', [words.offsets.length], words.offsets],
      ['tokens', 'I32', [count], tokens],
      ['document', 'I32', [count], document],
      ['domain', 'U16', [count], domain],
      ['experts', 'U16', [layers, count, chosen], experts],
      ['weights', 'F16', [layers, count, chosen], weights],
      ['vocab_bytes', 'U8', [words.bytes.length], words.bytes],
    ],
  };
}

function safetensors(metadata, tensors) {
  const header = { __metadata__: metadata };
  let offset = 0;
  for (const [name, dtype, shape, data] of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(32);
  padded.set(text);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true);
  return new Blob([length, padded, ...tensors.map((tensor) => tensor[3])],
    { type: 'application/octet-stream' });
}

/**
 * documents: [{domain, list}, ...]; model: what page.js knows of it. null where no token's experts
 * are known. Machines that browsers run on store numbers as the file does, lowest byte first.
 */
export function makeTrace(model, documents, remark) {
  const parts = stretches(documents);
  if (parts.length === 0) {
    return null;
  }
  const layers = model.layers.length;
  const byLayer = chosenByLayer(parts, layers);
  const chosen = Math.max(...byLayer);
  const domains = [...new Set(parts.map((part) => part.domain))];
  const { holes, tensors } = tensorsOf(parts, domains, layers, chosen);
  const metadata = {
    format: 'mixt-trace',
    version: holes ? '2' : '1',
    experts: String(model.experts),
    experts_per_token: String(chosen),
    layers: JSON.stringify(model.layers),
    domains: JSON.stringify(domains),
    model: model.name,
  };
  if (byLayer.some((count) => count !== chosen)) {
    metadata.experts_per_layer = JSON.stringify(byLayer);
  }
  for (const key of ['identity_experts', 'zero_experts']) {
    if (model[key] > 0) {
      metadata[key] = String(model[key]);
    }
  }
  if (model.router_select !== 'top-k') { // which is what a trace means that says nothing
    metadata.router_select = model.router_select;
  }
  if (model.tokenizer_hash) {
    metadata.tokenizer_hash = model.tokenizer_hash;
  }
  if (remark) {
    metadata.held_out = remark;
  }
  return safetensors(metadata, tensors);
}
