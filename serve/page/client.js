// Talking to the server. Nothing else is ever asked.

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let key = ''; // of the API, where the server wants one; kept in this page alone

export function setKey(text) {
  key = text;
}

async function ask(path, body, signal) {
  const headers = { 'Content-Type': 'application/json' };
  if (key !== '') {
    headers.Authorization = 'Bearer ' + key;
  }
  const response = await fetch(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
  });
  if (!response.ok) {
    const text = await response.text();
    let message = text.slice(0, 300);
    try {
      message = JSON.parse(text).error.message;
    } catch {
      message = message || 'the server answers with ' + response.status;
    }
    throw new Refusal(response.status, message);
  }
  return response;
}

export async function getJson(path) {
  return (await ask(path)).json();
}

export async function postJson(path, body) {
  return (await ask(path, body)).json();
}

/** Server-sent events of a reply, parsed; ends with [DONE] or the stream. */
export async function* events(path, body, signal) {
  const response = await ask(path, body, signal);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    text += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = text.split(/\r?\n\r?\n/);
    text = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).replace(/^ /, '')).join('\n');
      if (data === '[DONE]') {
        return;
      }
      if (data !== '') {
        const event = JSON.parse(data);
        if (event.error) {
          throw new Refusal(event.error.status || 500, event.error.message || String(event.error));
        }
        yield event;
      }
    }
    if (done) {
      return;
    }
  }
}
